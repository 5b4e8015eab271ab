"""A model name or directory -> Model: load() and the object that answers conversations."""

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Unpack

import torch

from onevision.accelerate.apply import accelerate
from onevision.accelerate.packed import can_multiply
from onevision.accelerate.quantize import check_kind
from onevision.batch import ModelInputs
from onevision.checkpoint.hub import resolve, resolve_adapter
from onevision.checkpoint.load import (
    inspect,
    load_defaults,
    load_network,
    load_tokenizer,
    use_stored_embedding,
)
from onevision.config import ModelConfig
from onevision.conversation import Conversation, Message, Reply
from onevision.errors import ContextLengthError, InputError
from onevision.generate.engine import Engine
from onevision.generate.question import Images, Videos, build_question
from onevision.generate.reply import build_reply, count_tokens
from onevision.generate.request import AnswerDelta, Request
from onevision.generate.sampler import Sampling, SamplingOptions
from onevision.generate.settings import EngineSettings
from onevision.inputs.processor import Outline, Processor
from onevision.inputs.templates import end_texts
from onevision.model.decoder import Decoder
from onevision.model.llava import LlavaNetwork

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(
    model: str | Path,
    *,
    device: str = "cpu",
    dtype: str = "auto",
    quantize: str | None = None,
    adapter: str | Path | None = None,
    fast_images: bool = False,
    in_memory: bool = False,
    verify: bool = True,
    settings: EngineSettings | None = None,
) -> "Model":
    """Loads a model: "tiny", a checkpoint directory of any layout, or a hub id (`owner/name`).

    Args:
        model: Name, directory or hub id.
        device: "cpu", "cuda", "cuda:1", ...
        dtype: "float32", "bfloat16", "float16", or "auto": the checkpoint's own, but on a CPU
            float32 instead of float16, and instead of bfloat16 if the CPU does not multiply in it.
        quantize: "int8" or "int4" decodes with quantised weights; docs/performance.md has the
            speed and the accuracy.
        adapter: Directory or hub id of a LoRA adapter, merged into the weights as they are read.
        fast_images: Resizes images faster, with different rounding.
        in_memory: Reads all weights at once, so that their files may change. By default they are
            memory-mapped.
        verify: Compares weights with the checksums beside them, if there are any, and an adapter
            with its base; looks for NaN.
        settings: Limits and guarantees of the engine.

    Raises ModelNotFoundError, CheckpointError, InputError.
    """
    place, kind = _device(device), _dtype(dtype, device)
    check_kind(quantize)
    merged = None if adapter is None else resolve_adapter(adapter)
    info = inspect(resolve(model), adapter=merged, verify=verify)
    network = load_network(info, dtype=kind, device=place, in_memory=in_memory, verify=verify)
    if kind is None:
        network = _one_dtype(network)
    use_stored_embedding(network, info, in_memory=in_memory)
    accelerated = accelerate(network, quantize=quantize)
    tokenizer = load_tokenizer(info)
    defaults = load_defaults(info, tokenizer)
    return Model(
        network=accelerated.network,
        processor=Processor(info.config.inputs, tokenizer, fast_images=fast_images),
        config=info.config,
        sampling=Sampling(
            end_ids=defaults.end_ids,
            end_texts=end_texts(info.config.inputs.template),
            repetition_penalty=defaults.repetition_penalty,
        ),
        settings=settings or EngineSettings(),
        decode_model=accelerated.decode_model,
    )


@dataclass(frozen=True, kw_only=True)
class Model:
    """A loaded model. Options of `ask`, `ask_all` and `stream` are the fields of `Sampling`.

    All methods may be called from any thread; requests of several threads are batched.
    """

    network: LlavaNetwork = field(repr=False)
    processor: Processor
    config: ModelConfig
    # Defaults that the checkpoint and its chat format set.
    sampling: Sampling
    settings: EngineSettings = field(default_factory=EngineSettings)
    # A quantised copy of the network's language model; decodes in its place.
    decode_model: Decoder | None = field(default=None, repr=False)

    @cached_property
    def engine(self) -> Engine:
        """The engine behind `ask`, `ask_all` and `stream`; it keeps its caches between calls."""
        return self.new_engine()

    def new_engine(self, settings: EngineSettings | None = None) -> Engine:
        """Creates an engine with empty caches; `settings` default to the model's own.

        This is the only way engines are made, so each one decodes with the quantised weights if
        the model was loaded with them.
        """
        return Engine(
            self.network,
            self.config.language,
            self.processor.tokenizer,
            settings=settings or self.settings,
            decode_model=self.decode_model,
        )

    def ask(
        self,
        question: Conversation | str,
        *,
        images: Images = (),
        videos: Videos = (),
        system: str = "",
        **options: Unpack[SamplingOptions],
    ) -> Reply:
        """Answers a question or a conversation: `ask("What is this?", images=["a.png"])`.

        Args:
            question: Text, or a Conversation that ends with a user message.
            images: One or several: paths, bytes, open files, Pillow images, NumPy arrays, tensors.
            videos: One or several: files, or frames (list, generator, array); see `Video`.
            system: A system message.
            options: Fields of `Sampling`: max_new_tokens=64, temperature=0.7, ...

        Raises InputError (MediaError, ContextLengthError, CapacityError) before anything is
        computed, and EngineError if generation fails.
        """
        talk = build_question(question, images=images, videos=videos, system=system)
        return self.ask_all([talk], **options)[0]

    def ask_all(
        self, conversations: Sequence[Conversation], **options: Unpack[SamplingOptions]
    ) -> list[Reply]:
        """Answers several conversations as one batch; returns their replies in the same order.

        Each reply is the one that `ask` returns, and the errors are those of `ask`.
        """
        is_one = isinstance(conversations, str | Conversation | Message)
        if is_one or not isinstance(conversations, Iterable):
            raise InputError(
                f"ask_all takes a list of conversations, not {type(conversations).__name__}; "
                "ask takes one"
            )
        sampling = self._sampling(options)
        prompts = [self.prompt(conversation) for conversation in conversations]
        requests: list[Request] = []
        try:
            for prompt in prompts:
                requests.append(self.engine.submit(prompt, sampling))
            self.engine.run(requests)
        except BaseException:
            self._remove(requests)
            raise
        return [build_reply(request) for request in requests]

    def stream(
        self,
        question: Conversation | str,
        *,
        images: Images = (),
        videos: Videos = (),
        system: str = "",
        **options: Unpack[SamplingOptions],
    ) -> Generator[str, None, Reply]:
        """Yields the answer piece by piece as it is generated; the generator returns the Reply.

        Arguments and errors are those of `ask`. Invalid input raises at once, not when the first
        piece is requested. Closing the generator early cancels the request.
        """
        deltas: deque[AnswerDelta] = deque()
        sampling = self._sampling(options)
        talk = build_question(question, images=images, videos=videos, system=system)
        prompt = self.prompt(talk)
        pieces = self._stream(self.engine.submit(prompt, sampling, on_delta=deltas.append), deltas)
        next(pieces)  # a generator that has begun cancels the request even if it is never read
        return pieces

    def _remove(self, requests: Sequence[Request]) -> None:
        """Removes requests from the engine whose caller gets an error instead of replies."""
        for request in requests:
            self.engine.cancel(request)
        with suppress(Exception):  # the first error is the one to report
            self.engine.step()

    def _stream(self, request: Request, deltas: deque[AnswerDelta]) -> Generator[str, None, Reply]:
        try:
            yield ""  # taken by `stream`
            while deltas or not request.finished:
                while deltas:
                    if text := deltas.popleft().text:
                        yield text
                if not request.finished:
                    self.engine.step()
        finally:
            self.engine.cancel(request)
        return build_reply(request)

    def prompt(self, conversation: Conversation) -> ModelInputs:
        """Returns the token ids and pixels of a conversation, a batch of one.

        The length is checked before any pixel is decoded. Raises InputError (MediaError,
        ContextLengthError).
        """
        if not isinstance(conversation, Conversation):
            raise InputError(
                f"the conversation is {type(conversation).__name__}; expected a Conversation: "
                'Conversation([Message("user", "...")])'
            )
        if not conversation.awaits_answer:
            raise InputError("the conversation ends with the assistant; the user speaks last")
        outline = self.processor.outline(conversation)
        self.check_length(outline)
        return self.processor.inputs(self.processor.example(outline))

    def _sampling(self, options: SamplingOptions) -> Sampling:
        """Returns the model's sampling with some options replaced. Raises InputError."""
        sampling = self.sampling.override(options)
        num_ids = self.config.language.vocab_size
        for name, ids in (("logit_bias", sampling.logit_bias), ("end_ids", sampling.end_ids)):
            for token_id in ids:
                if not 0 <= token_id < num_ids:
                    raise InputError(
                        f"{name} names token {token_id}; expected 0 to {num_ids - 1}, the "
                        "model's vocabulary"
                    )
        return sampling

    def check_length(self, outline: Outline) -> None:
        """Raises ContextLengthError if a prompt leaves no position for an answer."""
        most = self.config.language.max_positions - 1
        if outline.num_tokens > most:
            cost = count_tokens(outline)
            raise ContextLengthError(
                f"the prompt has {outline.num_tokens} tokens ({cost.text_tokens} text, "
                f"{cost.image_tokens} image, {cost.video_tokens} video); "
                f"the model reads {most} at most: give fewer or smaller images, or fewer frames"
            )

    def max_new_tokens(self, outline: Outline) -> int:
        """Returns how many tokens an answer to this prompt can have, 0 or more."""
        return max(0, self.config.language.max_positions - outline.num_tokens)


def _device(device: str) -> torch.device:
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {device!r} cannot be used here ({error}); try 'cpu'") from error
    return place


def _dtype(dtype: str, device: str) -> torch.dtype | None:
    if dtype == "auto":
        return None
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}; expected 'auto', {', '.join(map(repr, DTYPES))}")
    if dtype == "float16" and device == "cpu":
        raise InputError("float16 is not usable on CPU; take 'bfloat16' or 'float32'")
    return DTYPES[dtype]


def _one_dtype(network: LlavaNetwork) -> LlavaNetwork:
    """Converts all weights to the embedding's type, or to fp32 if the CPU cannot multiply in it."""
    weight = network.language_model.embedding.weight
    is_usable = weight.device.type != "cpu" or can_multiply(weight.dtype)
    return network.to(weight.dtype if is_usable else torch.float32)
