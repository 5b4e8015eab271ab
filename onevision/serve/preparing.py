"""GenerationRequest -> PreparedRequest: media fetched and decoded in the sandbox, tokens laid out.

    request -> read URLs -> outline from media headers -> admission -> pixels -> ModelInputs
               read         prepare, or count

The outline is made once; admission reads it before any pixel is decoded. All of this blocks, and
runs in threads. A request without media never meets the sandbox.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from onevision.anyres import Layout
from onevision.batch import ModelInputs
from onevision.conversation import Conversation, Image, Message, Part, Text, Usage, Video
from onevision.errors import MediaError, OneVisionError
from onevision.generate.answer import Model
from onevision.generate.reply import count_tokens
from onevision.generate.sampler import Sampling
from onevision.inputs.processor import MediaFact, Outline
from onevision.inputs.sandbox import Cancellation, Sandbox, Session, UntrustedMedia
from onevision.inputs.sandbox_worker import EncodedFrames
from onevision.serve.admission import admit, check_request
from onevision.serve.fetch import Fetcher, read_media
from onevision.serve.generation_request import GenerationRequest, MediaReference
from onevision.serve.metrics import Metrics
from onevision.serve.schema.problems import ApiError, client_gone, problem_of
from onevision.serve.settings import ServerSettings


@dataclass(frozen=True, kw_only=True)
class PreparedRequest:
    """What the engine is given."""

    prompt: ModelInputs
    sampling: Sampling
    tenant: str  # the API key
    cache_salt: str


@dataclass(frozen=True, kw_only=True)
class ReadRequest:
    """A request whose URLs have been read."""

    wanted: GenerationRequest
    conversation: Conversation
    media: tuple[UntrustedMedia, ...]  # with bytes as sources


@dataclass(frozen=True, kw_only=True)
class PromptCost:
    """What a prompt costs, and how its media are laid out."""

    usage: Usage
    layouts: tuple[Layout, ...]
    facts: tuple[MediaFact, ...]
    max_tokens: int  # that its answer may have


class Preparer:
    """Prepares requests for a model. All methods may be called from any thread."""

    def __init__(
        self,
        model: Model,
        settings: ServerSettings,
        *,
        sandbox: Sandbox,
        fetcher: Fetcher,
        metrics: Metrics,
    ) -> None:
        self.model, self.settings = model, settings
        self.sandbox, self.fetcher, self.metrics = sandbox, fetcher, metrics

    def read(self, request: GenerationRequest) -> ReadRequest:
        """Checks a request, and fetches or decodes the URLs of its media. Raises ApiError."""
        check_request(request, self.settings)
        media = list[UntrustedMedia]()
        messages = list[Message]()
        for message in request.messages:
            parts = list[Part]()
            for part in message.parts:
                if isinstance(part, str):
                    parts.append(Text(part))
                    continue
                medium = self._read_medium(part)
                media.append(medium)
                is_list = isinstance(medium, EncodedFrames)
                parts.append(Video((), keep=part.keep) if is_list else medium)
            messages.append(Message(message.role, parts))
        conversation = Conversation(messages).with_keep(request.keep)
        return ReadRequest(wanted=request, conversation=conversation, media=tuple(media))

    def prepare(self, request: ReadRequest, *, key: str, gone: Cancellation) -> PreparedRequest:
        """Decodes all media of an admitted request. Raises ApiError.

        Decoding ends early if the client is `gone`. Keys take turns, and their
        caches are separate.
        """
        processor, wanted = self.model.processor, request.wanted
        with self._reporting_errors(wanted, gone):
            began = time.monotonic()
            with self._outline(request, gone) as (outline, session):
                sampling = admit(wanted, outline, model=self.model, settings=self.settings)
                crops = None
                if session is not None:
                    mean = processor.config.image_mean
                    crops = session.cut(outline.layouts, image_mean=mean)  # [N, 3, H, W] uint8
            if request.media:
                has_video = any(not isinstance(medium, Image) for medium in request.media)
                kind = "video" if has_video else "image"
                self.metrics.observe_decoding(kind, time.monotonic() - began)
            prompt = processor.inputs(processor.example(outline, crops=crops))
        return PreparedRequest(
            prompt=prompt, sampling=sampling, tenant=key, cache_salt=wanted.cache_salt
        )

    def count(self, request: ReadRequest, *, gone: Cancellation) -> PromptCost:
        """Counts the tokens of a prompt from media headers alone. Raises ApiError."""
        with (
            self._reporting_errors(request.wanted, gone),
            self._outline(request, gone) as (outline, session),
        ):
            facts = session.facts if session else ()
        return PromptCost(
            usage=count_tokens(outline),
            layouts=outline.layouts,
            facts=facts,
            max_tokens=self.model.max_new_tokens(outline),
        )

    @contextmanager
    def _reporting_errors(self, request: GenerationRequest, gone: Cancellation) -> Iterator[None]:
        """Turns errors into ApiErrors that name the request's fields."""
        try:
            yield
        except MediaError as error:
            if gone.is_cancelled:
                raise client_gone() from error
            raise self._refuse_medium(error, request) from error
        except OneVisionError as error:
            raise problem_of(error) from error

    def _refuse_medium(self, error: MediaError, request: GenerationRequest) -> ApiError:
        """Returns, and counts, the error that a client sees for a medium.

        It is raised elsewhere: an error that a frame of its traceback names is a circle, which
        would keep the media until Python looks for garbage.
        """
        place = 0 if error.place is None else error.place
        params = [medium.param for medium in request.media]
        is_video = request.media[place].kind == "video"
        problem = problem_of(error, params=params, video=is_video)
        self.metrics.count_rejected_media(problem.code)
        return problem

    @contextmanager
    def _outline(
        self, request: ReadRequest, gone: Cancellation
    ) -> Iterator[tuple[Outline, Session | None]]:
        """Yields the outline of a prompt, and the sandbox session that can cut its crops."""
        media = request.media
        processor = self.model.processor
        opened = nullcontext()
        if media:
            opened = self.sandbox.session(
                media, cancellation=gone, sizes_frames=processor.sizes_frames
            )
        with opened as session:
            facts = session.facts if session else ()
            yield processor.outline(request.conversation, facts=facts), session

    def _read_medium(self, reference: MediaReference) -> UntrustedMedia:
        limits = self.settings.limits
        with self.metrics.time_reading(reference.kind):
            sources = read_media(reference, fetcher=self.fetcher, limits=limits)
        if reference.kind == "frames":
            return EncodedFrames(sources)
        if reference.kind == "image":
            return Image(sources[0], reference.detail, keep=reference.keep)
        num_frames = reference.num_frames or limits.default_frames
        if num_frames > limits.frames:
            raise ApiError(
                f"{reference.param}: {num_frames} frames are more than the {limits.frames} allowed",
                code="too_many_frames",
                param=reference.param,
            )
        return Video(
            sources[0],
            num_frames=num_frames,
            fps=reference.fps,
            start=reference.start,
            end=reference.end,
            sampler=reference.sampler,
            keep=reference.keep,
        )
