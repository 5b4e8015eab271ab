"""load() and the object it returns: ask, stream, processor, network, config."""

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Unpack

import torch

from onevision.accelerate.apply import accelerate
from onevision.accelerate.packed import can_multiply
from onevision.accelerate.quantize import check_kind
from onevision.anyres import CropLayout
from onevision.batch import ModelInputs
from onevision.checkpoint.hub import resolve
from onevision.checkpoint.load import inspect, load_generation, load_network, use_stored_embedding
from onevision.config import ModelConfig
from onevision.conversation import Conversation, Reply
from onevision.errors import CheckpointError, ContextLengthError, InputError
from onevision.generate.engine import Engine
from onevision.generate.request import Piece, Request
from onevision.generate.sampler import Sampling, SamplingOptions
from onevision.generate.settings import EngineSettings
from onevision.inputs.processor import Outline, Processor, usage
from onevision.inputs.templates import end_texts
from onevision.inputs.tokenizer import Tokenizer
from onevision.model.decoder import Decoder
from onevision.model.llava import LlavaNetwork

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(
    model: str | Path,
    *,
    device: str = "cpu",
    dtype: str = "auto",
    quantize: str | None = None,
    fast_images: bool = False,
    in_memory: bool = False,
    settings: EngineSettings | None = None,
) -> "Model":
    """Load a model: "tiny", a checkpoint directory of any layout, or a hub id (`owner/name`).

    `dtype` is "float32", "bfloat16", "float16", or "auto": the checkpoint's own, but on CPU float32
    in place of float16, and of bfloat16 where the processor does not multiply in it. `quantize`
    "int8" or "int4" writes answers with smaller weights (docs/performance.md says what that costs
    and brings); `fast_images` resizes pictures faster, with other rounding. Weights are read from
    their files as they are needed; `in_memory` reads all at once, so that the files may change.
    Raises ModelNotFoundError, CheckpointError, InputError.
    """
    place, kind = _device(device), _dtype(dtype, device)
    info = inspect(resolve(model))
    check_kind(quantize)
    network = load_network(info, dtype=kind, device=place, in_memory=in_memory)
    if kind is None:
        network = _one_dtype(network)
    use_stored_embedding(network, info, in_memory=in_memory)
    accelerated = accelerate(network, quantize=quantize)
    tokenizer = Tokenizer.from_directory(info.directory)
    if tokenizer.size > info.config.language.vocab_size:
        raise CheckpointError(
            f"{info.directory}: the tokenizer has {tokenizer.size} entries, the embedding "
            f"{info.config.language.vocab_size} rows; use the tokenizer that came with the weights"
        )
    defaults = load_generation(info.directory, tokenizer)
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
        writer=accelerated.decode_model,
    )


@dataclass(frozen=True, kw_only=True)
class Model:
    """A loaded model. Options of `ask` and `stream` are the fields of `Sampling`."""

    network: LlavaNetwork = field(repr=False)
    processor: Processor
    config: ModelConfig
    sampling: Sampling
    settings: EngineSettings = field(default_factory=EngineSettings)
    # Decodes in place of the network's language model, where answers are written quantised.
    writer: Decoder | None = field(default=None, repr=False)

    @cached_property
    def engine(self) -> Engine:
        """The engine that answers `ask` and `stream`; its caches are kept between calls."""
        return self.new_engine()

    def new_engine(self, settings: EngineSettings | None = None) -> Engine:
        """Creates an engine that answers with this model's weights, quantised if it was loaded so.

        Its caches are its own. `settings` replace those the model was loaded with.
        """
        return Engine(
            self.network,
            self.config.language,
            self.processor.tokenizer,
            settings=settings or self.settings,
            writer=self.writer,
        )

    def ask(self, conversation: Conversation, **options: Unpack[SamplingOptions]) -> Reply:
        """Answer a conversation that ends with the user's words.

        Raises InputError (MediaError, ContextLengthError, CapacityError) before anything is
        computed, EngineError where the answer fails.
        """
        return self.ask_all([conversation], **options)[0]

    def ask_all(
        self, conversations: Sequence[Conversation], **options: Unpack[SamplingOptions]
    ) -> list[Reply]:
        """Answer several conversations together; each answer is what it would be alone."""
        sampling = self.sampling.override(options)
        prompts = [self.prompt(conversation) for conversation in conversations]
        requests = [self.engine.submit(prompt, sampling) for prompt in prompts]
        self.engine.run(requests)
        return [reply(request) for request in requests]

    def stream(
        self, conversation: Conversation, **options: Unpack[SamplingOptions]
    ) -> Generator[str, None, Reply]:
        """Answer as `ask` does, piece by piece; the generator returns the whole Reply.

        Bad input is refused by the call itself, before the first piece is asked for. A generator
        that is closed early cancels its request.
        """
        pieces: deque[Piece] = deque()
        sampling = self.sampling.override(options)
        prompt = self.prompt(conversation)
        return self._stream(self.engine.submit(prompt, sampling, sink=pieces.append), pieces)

    def _stream(self, request: Request, pieces: deque[Piece]) -> Generator[str, None, Reply]:
        try:
            while pieces or not request.finished:
                while pieces:
                    if text := pieces.popleft().text:
                        yield text
                if not request.finished:
                    self.engine.step()
        finally:
            self.engine.cancel(request)
        return reply(request)

    def prompt(self, conversation: Conversation) -> ModelInputs:
        """Prepare a conversation; its length is checked before a pixel is decoded.

        Raises InputError, MediaError, ContextLengthError.
        """
        if not conversation.awaits_answer:
            raise InputError("the conversation ends with the assistant; the user speaks last")
        outline = self.processor.outline(conversation)
        self.check_length(outline)
        return self.processor.inputs(self.processor.example(outline))

    def check_length(self, outline: Outline) -> None:
        """Raise ContextLengthError where a prompt does not fit the model."""
        most = self.config.language.max_positions - 1
        if outline.num_tokens > most:
            images = sum(la.num_tokens for la in outline.layouts if isinstance(la, CropLayout))
            videos = sum(la.num_tokens for la in outline.layouts) - images
            raise ContextLengthError(
                f"the prompt has {outline.num_tokens} tokens "
                f"({outline.num_tokens - images - videos} text, {images} image, {videos} video); "
                f"the model reads {most} at most: give fewer or smaller images, or fewer frames"
            )


def reply(request: Request, *, number: int = 0) -> Reply:
    """Return an answer of a request that has ended. Raises its error."""
    if request.error is not None:
        raise request.error
    answer = request.answers[number]
    return Reply(
        text=answer.whole_text.strip(),
        finish_reason="length" if answer.finish_reason == "length" else "stop",
        usage=usage(request.prompt, completion_tokens=len(answer.ids)),
    )


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
