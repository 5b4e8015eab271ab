"""Questions -> what the engine reads: addresses fetched, media decoded in the sandbox, tokens.

All of it takes time, and runs in threads.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from onevision.anyres import CropLayout, Layout, VideoLayout
from onevision.batch import ModelInputs
from onevision.conversation import Conversation, Image, Message, Part, Text, Usage, Video
from onevision.errors import MediaError, OneVisionError
from onevision.generate.answer import Model
from onevision.generate.sampler import Sampling
from onevision.inputs.confined import Frames
from onevision.inputs.processor import MediaFact, Outline
from onevision.inputs.sandbox import Gone, Sandbox, StrangeMedia
from onevision.serve.addresses import read_medium
from onevision.serve.admission import check_pixels, check_question, sampling_of
from onevision.serve.fetch import Fetcher
from onevision.serve.metrics import Metrics
from onevision.serve.question import Medium, Question
from onevision.serve.schema.problems import ApiError, client_gone, problem_of
from onevision.serve.settings import ServerSettings


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
    facts: tuple[MediaFact, ...]
    max_tokens: int  # that its answer may have


class Preparer:
    """Prepares questions to a model. All methods may be called from any thread."""

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

    def prepare(self, question: Question, *, key: str, gone: Gone) -> Prepared:
        """Read and decode all media; give the engine's inputs. Raises ApiError.

        Decoding ends early where it is said that the client is `gone`.
        """
        check_question(question, self.settings)
        with self._telling(question, gone):
            conversation, media = self._conversation(question)
            prompt, room = self._prompt(conversation, media, gone)
        sampling = sampling_of(
            question, room=room, defaults=self.model.sampling, settings=self.settings
        )
        tenant = hashlib.sha256(f"{key}\0{question.salt}".encode()).hexdigest()[:32]
        return Prepared(prompt=prompt, sampling=sampling, tenant=tenant)

    def count(self, question: Question, *, gone: Gone) -> Counted:
        """Count tokens from headers alone. Raises ApiError."""
        check_question(question, self.settings)
        with self._telling(question, gone):
            conversation, media = self._conversation(question)
            with self.sandbox.session(media, gone=gone) if media else nullcontext() as session:
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
        room = self._room(outline.num_tokens)
        return Counted(usage=cost, layouts=layouts, facts=facts, max_tokens=max(0, room))

    @contextmanager
    def _telling(self, question: Question, gone: Gone) -> Iterator[None]:
        """Say what is wrong with a question in the words of the wire."""
        media = question.media
        try:
            yield
        except MediaError as error:
            if gone.is_said:
                raise client_gone() from error
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
        self, conversation: Conversation, media: list[StrangeMedia], gone: Gone
    ) -> tuple[ModelInputs, int]:
        """Return what the model reads, and how many tokens it may still say."""
        processor = self.model.processor
        if not media:
            prompt = self.model.prompt(conversation)
            return prompt, self._room(prompt.input_ids.shape[1])
        began = time.monotonic()
        with self.sandbox.session(media, gone=gone) as session:
            outline = processor.outline(conversation, facts=session.facts)
            room = self._checked_room(outline)
            check_pixels(outline, most=self.settings.limits.request_pixels)
            crops = session.cut(outline.layouts, image_mean=processor.config.image_mean)
        videos = any(not isinstance(medium, Image) for medium in media)
        self.metrics.decoded("video" if videos else "image", time.monotonic() - began)
        return processor.inputs(processor.example(outline, crops=crops)), room

    def _checked_room(self, outline: Outline) -> int:
        self.model.check_length(outline)
        return self._room(outline.num_tokens)

    def _room(self, num_tokens: int) -> int:
        return self.model.config.language.max_positions - num_tokens
