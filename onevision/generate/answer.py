"""A model name or directory -> Model: load() and the object that answers conversations."""

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Unpack

from onevision.accelerate.apply import Accelerated
from onevision.accelerate.pools import release_pool
from onevision.accelerate.quantize import check_kind
from onevision.batch import ModelInputs
from onevision.checkpoint.hub import resolve, resolve_adapter
from onevision.checkpoint.load import CheckpointInfo, load_defaults, load_tokenizer
from onevision.checkpoint.parts.alone import has_encoder, inspect_any
from onevision.config import ModelConfig
from onevision.conversation import Conversation, Message, Reply
from onevision.errors import InputError
from onevision.generate.drafter import check_devices, check_draft, new_drafter
from onevision.generate.engine import Engine
from onevision.generate.loading import load_accelerated
from onevision.generate.option_types import check_ids
from onevision.generate.parallel.part import Part
from onevision.generate.parallel.start import ParallelPart, load_parallel
from onevision.generate.placing import find_device, find_dtype, stored_dtype
from onevision.generate.question import Images, Videos, build_question
from onevision.generate.reply import build_reply, check_length
from onevision.generate.request import AnswerDelta, Request
from onevision.generate.sampler import Sampling, SamplingOptions
from onevision.generate.settings import EngineSettings
from onevision.inputs.processor import Outline, Processor
from onevision.inputs.templates import end_texts
from onevision.inputs.text_processor import TextProcessor
from onevision.model.llava import LlavaNetwork


def load(
    model: str | Path,
    *,
    device: str = "cpu",
    dtype: str = "auto",
    quantize: str | None = None,
    adapter: str | Path | None = None,
    devices: int = 1,
    fast_images: bool = False,
    in_memory: bool = False,
    verify: bool = True,
    draft: str | Path | None = None,
    settings: EngineSettings | None = None,
) -> "Model":
    """Loads a model: "tiny", a checkpoint directory of any layout, or a hub id (`owner/name`).

    Args:
        model: Name, directory or hub id; a language model alone answers text and refuses media.
        device: "cpu", "cuda", "cuda:1", ...
        dtype: "float32", "bfloat16", "float16", or "auto": the checkpoint's own, but on a CPU
            float32 instead of float16, and instead of bfloat16 if the CPU does not multiply in it.
        quantize: "int8" computes in 8-bit integers; "int8-weights" and "int4" hold the language
            model's weights in 8 or 4 bits, and "int4" those of a 4-bit file as they are.
            docs/performance.md has the speed and the accuracy.
        adapter: Directory or hub id of a LoRA adapter, merged into the weights as they are read.
        devices: Devices that share the language model, a process for each, of which this is the
            first: docs/parallel.md. `Model.close` ends the others.
        fast_images: Resizes images faster, with different rounding.
        in_memory: Reads all weights at once, so that their files may change, and maps nothing.
        verify: Compares weights with the checksums beside them, if there are any, and an adapter
            with its base; looks for NaN.
        draft: A smaller model of the same family that guesses tokens; answers stay the same.
        settings: Limits and guarantees of the engine.

    Raises ModelNotFoundError, CheckpointError, InputError, EngineError.
    """
    place, kind = find_device(device), find_dtype(dtype, device)
    check_kind(quantize)
    check_devices(devices, draft=draft is not None, settings=settings)
    merged = None if adapter is None else resolve_adapter(adapter)
    info = inspect_any(resolve(model), adapter=merged, verify=verify, devices=devices)
    kind = kind or stored_dtype(info, place)
    parallel = None
    if devices != 1:
        parallel = load_parallel(
            info, devices=devices, device=place, dtype=kind, adapter=merged, quantize=quantize,
            in_memory=in_memory, verify=verify,
        )  # fmt: skip
        accelerated = parallel.part
    else:
        accelerated = load_accelerated(
            info, dtype=kind, device=place, quantize=quantize, in_memory=in_memory, verify=verify
        )
    loaded = _build_model(info, accelerated, settings, fast_images=fast_images)
    loaded = replace(loaded, parallel=parallel)
    if draft is not None:
        guessing = load(draft, device=device, dtype=dtype, in_memory=in_memory, verify=verify)
        loaded = replace(loaded, draft=check_draft(loaded, guessing))
    release_pool()  # another thread may be the one that answers
    return loaded


def _build_model(
    info: CheckpointInfo, accelerated: Accelerated | Part, settings: EngineSettings | None,
    *, fast_images: bool,
) -> "Model":  # fmt: skip
    tokenizer = load_tokenizer(info)
    defaults = load_defaults(info, tokenizer)
    reads = Processor if has_encoder(info) else TextProcessor
    return Model(
        network=accelerated.network,
        processor=reads(info.config.inputs, tokenizer, fast_images=fast_images),
        config=info.config,
        sampling=Sampling(
            end_ids=defaults.end_ids,
            end_texts=end_texts(info.config.inputs.template),
            repetition_penalty=defaults.repetition_penalty,
        ),
        settings=settings or EngineSettings(),
        arithmetic=accelerated.arithmetic,
        arithmetic_reasons=accelerated.reasons,
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
    # What linear layers compute in, "bfloat16" or "int8 (281 by oneDNN)", and why faster kernels
    # were passed over.
    arithmetic: str
    arithmetic_reasons: tuple[str, ...] = ()
    # Where several devices share the language model.
    parallel: ParallelPart | None = field(default=None, repr=False)
    draft: "Model | None" = None  # guesses tokens for this model

    @cached_property
    def engine(self) -> Engine:
        """The engine behind `ask`, `ask_all` and `stream`; it keeps its caches between calls."""
        return self.new_engine()

    def new_engine(self, settings: EngineSettings | None = None) -> Engine:
        """Creates an engine with empty caches; `settings` default to the model's own.

        This is the only way engines are made.
        """
        settings, language = settings or self.settings, self.config.language
        return Engine(
            self.network,
            language,
            self.processor.tokenizer,
            settings=settings,
            new_kv_cache=None if self.parallel is None else self.parallel.new_kv_cache,
            new_step_taker=None if self.parallel is None else self.parallel.new_step_taker,
            drafter=new_drafter(self.draft, settings, vocab_size=language.vocab_size),
        )

    def close(self) -> None:
        """Ends the processes of other devices, if there are any; nothing can be asked then."""
        if self.parallel is not None:
            self.parallel.leader.close()

    def ask(
        self,
        question: Conversation | str,
        *,
        images: Images = (),
        videos: Videos = (),
        system: str = "",
        keep: float | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Reply:
        """Answers a question or a conversation: `ask("What is this?", images=["a.png"])`.

        Args:
            question: Text, or a Conversation that ends with a user message.
            images: One or several: paths, bytes, open files, Pillow images, NumPy arrays, tensors.
            videos: One or several: files, or frames (list, generator, array); see `Video`.
            system: A system message.
            keep: Share of visual tokens to read, of media that set none: docs/fewer-tokens.md.
            options: Fields of `Sampling`: max_new_tokens=64, temperature=0.7, ...

        Raises InputError (MediaError, ContextLengthError, CapacityError) before anything is
        computed, and EngineError if generation fails.
        """
        talk = build_question(question, images=images, videos=videos, system=system)
        return self.ask_all([talk], keep=keep, **options)[0]

    def ask_all(
        self,
        conversations: Sequence[Conversation],
        *,
        keep: float | None = None,
        **options: Unpack[SamplingOptions],
    ) -> list[Reply]:
        """Answers several conversations as one batch; returns their replies in the same order.

        `keep` is as for `ask`. Each reply is the one that `ask` returns, as are the errors.
        """
        is_one = isinstance(conversations, str | Conversation | Message)
        if is_one or not isinstance(conversations, Iterable):
            raise InputError(
                f"ask_all takes a list of conversations, not {type(conversations).__name__}; "
                "ask takes one"
            )
        sampling = self._sampling(options)
        prompts = [self.prompt(conversation, keep=keep) for conversation in conversations]
        requests: list[Request] = []
        try:
            for prompt in prompts:
                requests.append(self.engine.submit(prompt, sampling))
            self.engine.run(requests)
        except BaseException:
            self._remove(requests)
            raise
        return [build_reply(request, arithmetic=self.arithmetic) for request in requests]

    def stream(
        self,
        question: Conversation | str,
        *,
        images: Images = (),
        videos: Videos = (),
        system: str = "",
        keep: float | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Generator[str, None, Reply]:
        """Yields the answer piece by piece as it is generated; the generator returns the Reply.

        Arguments and errors are those of `ask`. Invalid input raises at once, not when the first
        piece is requested. Closing the generator early cancels the request.
        """
        deltas: deque[AnswerDelta] = deque()
        sampling = self._sampling(options)
        talk = build_question(question, images=images, videos=videos, system=system)
        prompt = self.prompt(talk, keep=keep)
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
        return build_reply(request, arithmetic=self.arithmetic)

    def prompt(self, conversation: Conversation, *, keep: float | None = None) -> ModelInputs:
        """Returns the token ids and pixels of a conversation, a batch of one; `keep` as for `ask`.

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
        outline = self.processor.outline(conversation.with_keep(keep))
        self.check_length(outline)
        return self.processor.inputs(self.processor.example(outline))

    def _sampling(self, options: SamplingOptions) -> Sampling:
        """Returns the model's sampling with some options replaced. Raises InputError."""
        sampling = self.sampling.override(options)
        check_ids(vars(sampling), num_ids=self.config.language.vocab_size)
        return sampling

    def check_length(self, outline: Outline) -> None:
        """Raises ContextLengthError, or InputError for a `keep` that the model cannot have."""
        check_length(outline, self.config.language)

    def max_new_tokens(self, outline: Outline) -> int:
        """Returns how many tokens an answer to this prompt can have, 0 or more."""
        return max(0, self.config.language.max_positions - outline.num_positions)
