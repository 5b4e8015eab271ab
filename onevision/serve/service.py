"""Questions -> answers: addresses read, media decoded in the sandbox, tokens from the engine.

Everything that takes time runs in threads; the event loop only passes pieces on.
"""

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TypeVar

from onevision import __version__
from onevision.anyres import CropLayout, Layout, VideoLayout
from onevision.batch import ModelInputs
from onevision.conversation import Conversation, Image, Message, Part, Text, Usage, Video
from onevision.errors import MediaError, OneVisionError
from onevision.generate.answer import Model
from onevision.generate.request import Piece, Request
from onevision.generate.sampling import Sampling
from onevision.generate.settings import EngineSettings
from onevision.inputs.confined import Frames
from onevision.inputs.processor import Outline, usage
from onevision.inputs.sandbox import Sandbox, StrangeMedia
from onevision.serve.addresses import read_medium
from onevision.serve.fetch import Fetcher
from onevision.serve.metrics import Metrics
from onevision.serve.question import Medium, Question
from onevision.serve.schema.problems import ApiError, problem_of
from onevision.serve.settings import ServerSettings
from onevision.serve.supervisor import Supervisor

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A question, ready for the engine."""

    prompt: ModelInputs
    sampling: Sampling
    tenant: str


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What a question would cost, and how its media are seen."""

    usage: Usage
    layouts: tuple[Layout, ...]
    max_tokens: int  # that its answer may have


class Answering:
    """A request that is being answered."""

    def __init__(self, service: "Service", prepared: Prepared) -> None:
        self._service, self._prepared = service, prepared
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[Piece] = asyncio.Queue()
        self._began = time.monotonic()
        self._left = False
        self.request: Request | None = None

    async def submit(self) -> None:
        """Hand the request to the engine. Raises ApiError."""
        prepared, limits = self._prepared, self._service.settings.limits

        def submit() -> None:
            self.request = self._service.supervisor.submit(
                prepared.prompt,
                prepared.sampling,
                sink=self._sink,
                tenant=prepared.tenant,
                timeout_seconds=limits.request_seconds,
            )
            if self._left:
                self.leave()

        try:
            await self._service.in_thread(submit)
        except asyncio.CancelledError:
            self.leave()
            raise

    def leave(self) -> None:
        """Stop answering, wherever it stands; harmless once all is said."""
        self._left = True
        if self.request is not None:
            self._service.supervisor.cancel(self.request)

    async def pieces(self, *, heartbeat_seconds: float = 15.0) -> AsyncIterator[Piece | None]:
        """Give the pieces as they come, None where nothing came for a while. Raises ApiError.

        Whoever stops listening cancels the request.
        """
        assert self.request is not None, "submit() comes first"
        meter = self._service.metrics.meter(self.request)
        open_answers = self.request.sampling.num_answers
        try:
            while open_answers:
                try:
                    piece = await asyncio.wait_for(self._pieces.get(), heartbeat_seconds)
                except TimeoutError:
                    yield None
                    continue
                meter.piece(piece)
                if piece.finish_reason in ("error", "cancelled"):
                    raise self._failure()
                open_answers -= piece.finish_reason is not None
                yield piece
        finally:
            if open_answers:
                self.leave()
            meter.end()

    async def finish(self) -> Request:
        """Wait for all answers. Raises ApiError."""
        async for _ in self.pieces():
            pass
        assert self.request is not None, "submitted"
        return self.request

    @property
    def usage(self) -> Usage:
        """What the answers cost so far."""
        assert self.request is not None, "submitted"
        tokens = sum(len(answer.ids) for answer in self.request.answers)
        return usage(self._prepared.prompt, completion_tokens=tokens)

    def _sink(self, piece: Piece) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)

    def _failure(self) -> ApiError:
        assert self.request is not None, "submitted"
        if self.request.error is None:
            return ApiError("the server is shutting down", status=503, code="shutting_down")
        return problem_of(self.request.error)


class Service:
    """A model that answers questions of the wire."""

    def __init__(
        self, model: Model, settings: ServerSettings, *, fetcher: Fetcher | None = None
    ) -> None:
        self.model, self.settings = model, settings
        limits = settings.limits
        engine = EngineSettings(max_running=limits.running, max_waiting=limits.queue)
        self.supervisor = Supervisor(model, engine)
        self.sandbox = Sandbox(limits.sandbox)
        seconds = limits.fetch_seconds
        self.fetcher = fetcher or Fetcher(settings.media_hosts, seconds=seconds)
        self.metrics = Metrics(self.supervisor, self.sandbox)
        self.fingerprint = fingerprint(model)
        self.created = int(time.time())
        # Apart from the short acts, which must not queue up behind decoding.
        self._preparing = ThreadPoolExecutor(8, thread_name_prefix="prepare")

    @staticmethod
    def created_now() -> int:
        """Return the time of an answer, in seconds since 1970."""
        return int(time.time())

    async def in_thread(
        self, act: Callable[[], Value], *, threads: ThreadPoolExecutor | None = None
    ) -> Value:
        """Run what takes time beside the event loop. Raises ApiError for what goes wrong."""
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, act)
        except OneVisionError as error:
            raise problem_of(error) from error

    async def ask(self, question: Question, *, key: str = "") -> Answering:
        """Prepare a question and hand it to the engine. Raises ApiError."""
        prepared = await self.in_thread(
            lambda: self._prepare(question, key), threads=self._preparing
        )
        answering = Answering(self, prepared)
        await answering.submit()
        return answering

    async def count(self, question: Question) -> Counted:
        """Count the tokens of a question; no pixel is decoded. Raises ApiError."""
        return await self.in_thread(lambda: self._count(question), threads=self._preparing)

    def close(self) -> None:
        """Answer nothing any more."""
        self.supervisor.stop()
        self.sandbox.close()
        self._preparing.shutdown(wait=False, cancel_futures=True)

    def _prepare(self, question: Question, key: str) -> Prepared:
        self._check(question)
        with self._telling(question):
            conversation, media = self._conversation(question)
            prompt, room = self._prompt(conversation, media)
        tenant = hashlib.sha256(f"{key}\0{question.salt}".encode()).hexdigest()[:32]
        return Prepared(prompt=prompt, sampling=self._sampling(question, room), tenant=tenant)

    def _count(self, question: Question) -> Counted:
        self._check(question)
        with self._telling(question):
            conversation, media = self._conversation(question)
            with self.sandbox.session(media) if media else nullcontext() as session:
                facts = session.facts if session else ()
            outline = self.model.processor.outline(conversation, facts=facts)
        layouts = outline.layouts
        images = sum(la.num_tokens for la in layouts if isinstance(la, CropLayout))
        videos = sum(la.num_tokens for la in layouts if isinstance(la, VideoLayout))
        cost = Usage(
            text_tokens=outline.num_tokens - images - videos,
            image_tokens=images,
            video_tokens=videos,
            completion_tokens=0,
        )
        room = self.model.config.language.max_positions - outline.num_tokens
        return Counted(usage=cost, layouts=layouts, max_tokens=max(0, room))

    def _check(self, question: Question) -> None:
        limits = self.settings.limits
        if question.model != self.settings.name:
            raise ApiError(
                f"model {question.model[:80]!r} is not served; ask for {self.settings.name!r}",
                status=404, code="model_not_found", param="model",
            )  # fmt: skip
        if self.settings.strict and question.unknown:
            name = question.unknown[0]
            raise ApiError(
                f"{name[:80]} is not a known field", code="unsupported_parameter", param=name[:80]
            )
        words = sum(
            len(part.encode(errors="replace"))
            for turn in question.turns for part in turn.parts if isinstance(part, str)
        )  # fmt: skip
        images = sum(medium.kind == "image" for medium in question.media)
        videos = len(question.media) - images
        frames = max((len(m.addresses) for m in question.media), default=0)
        for name, found, most in (
            ("bytes of text", words, limits.text_bytes),
            ("images", images, limits.images),
            ("videos", videos, limits.videos),
            ("frames", frames, limits.frames),
        ):
            if found > most:
                code = f"too_many_{name}" if name in ("images", "videos", "frames") else None
                raise ApiError(
                    f"messages: {found:,} {name} are more than the {most:,} allowed",
                    code=code or "text_too_long", param="messages",
                )  # fmt: skip

    @contextmanager
    def _telling(self, question: Question) -> Iterator[None]:
        """Say what is wrong with a question in the words of the wire."""
        media = question.media
        try:
            yield
        except MediaError as error:
            place = 0 if error.place is None else error.place
            params = [medium.param for medium in media]
            problem = problem_of(error, params=params, video=media[place].kind == "video")
            self.metrics.rejected(problem.code)
            raise problem from error
        except OneVisionError as error:
            raise problem_of(error) from error

    def _conversation(self, question: Question) -> tuple[Conversation, list[StrangeMedia]]:
        media = list[StrangeMedia]()
        messages = list[Message]()
        for turn in question.turns:
            parts = list[Part]()
            for part in turn.parts:
                if isinstance(part, str):
                    parts.append(Text(part))
                    continue
                medium = self._medium(part)
                media.append(medium)
                parts.append(Video(()) if isinstance(medium, Frames) else medium)
            messages.append(Message(turn.role, parts))
        return Conversation(messages), media

    def _medium(self, medium: Medium) -> StrangeMedia:
        limits = self.settings.limits
        with self.metrics.reading(medium.kind):
            sources = read_medium(medium, fetcher=self.fetcher, limits=limits)
        if medium.kind == "frames":
            return Frames(sources)
        if medium.kind == "image":
            return Image(sources[0], medium.detail)
        frames = medium.num_frames or limits.default_frames
        if frames > limits.frames:
            raise ApiError(
                f"{medium.param}: {frames} frames are more than the {limits.frames} allowed",
                code="too_many_frames",
                param=medium.param,
            )
        return Video(
            sources[0], num_frames=frames, fps=medium.fps, start=medium.start, end=medium.end
        )

    def _prompt(
        self, conversation: Conversation, media: list[StrangeMedia]
    ) -> tuple[ModelInputs, int]:
        """Return what the model reads, and how many tokens it may still say."""
        processor = self.model.processor
        if not media:
            prompt = self.model.prompt(conversation)
            return prompt, self._room(prompt.input_ids.shape[1])
        began = time.monotonic()
        with self.sandbox.session(media) as session:
            outline = processor.outline(conversation, facts=session.facts)
            room = self._checked_room(outline)
            self._check_pixels(outline)
            crops = session.cut(outline.layouts, image_mean=processor.config.image_mean)
        videos = any(not isinstance(medium, Image) for medium in media)
        self.metrics.decoded("video" if videos else "image", time.monotonic() - began)
        return processor.inputs(processor.example(outline, crops=crops)), room

    def _checked_room(self, outline: Outline) -> int:
        self.model.check_length(outline)
        return self._room(outline.num_tokens)

    def _room(self, num_tokens: int) -> int:
        return self.model.config.language.max_positions - num_tokens

    def _check_pixels(self, outline: Outline) -> None:
        most = self.settings.limits.request_pixels
        pixels = sum(la.width * la.height for la in outline.layouts if isinstance(la, CropLayout))
        if pixels > most:
            raise ApiError(
                f"messages: {pixels:,} pixels of all images are more than the {most:,} allowed",
                code="image_too_large",
                param="messages",
            )

    def _sampling(self, question: Question, room: int) -> Sampling:
        """Return how the answer is drawn. Raises ApiError where it is longer than the room."""
        limits, asked = self.settings.limits, question.max_tokens
        if asked is not None and asked > room:
            raise ApiError(
                f"max_tokens is {asked}; after the prompt there is room for {room} tokens",
                code="context_length_exceeded", param="max_tokens",
            )  # fmt: skip
        if asked is not None and asked > limits.tokens:
            raise ApiError(
                f"max_tokens is {asked}; expected at most {limits.tokens}", param="max_tokens"
            )
        most = min(limits.default_tokens, room) if asked is None else asked
        least = question.options.get("min_new_tokens", 0)
        if least > most:
            raise ApiError(
                f"min_tokens is {least}, more than the {most} of the answer", param="min_tokens"
            )
        defaults = self.model.sampling
        ends = question.options.get("end_ids", ())
        own = () if question.ignore_eos else defaults.end_ids
        options = question.options | {"max_new_tokens": most, "end_ids": (*own, *ends)}
        return replace(defaults, temperature=self.settings.temperature).override(options)


def fingerprint(model: Model) -> str:
    """Name what answers: weights (samples of every tensor), code, dtype and device."""
    digest = hashlib.sha256(__version__.encode())
    for name, tensor in model.network.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} {tensor.device}".encode())
        flat = tensor.flatten()
        step = max(1, flat.numel() // 64)
        digest.update(flat[::step].float().cpu().numpy().tobytes())
    return f"fp_{digest.hexdigest()[:12]}"


def new_number() -> str:
    """Return a number that no two answers share."""
    return secrets.token_hex(12)
