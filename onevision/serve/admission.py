"""What one request may cost: a question, the sizes of its media -> admitted, or an ApiError."""

from dataclasses import replace

from onevision.anyres import CropLayout
from onevision.generate.sampler import Sampling
from onevision.inputs.processor import Outline
from onevision.serve.question import Question
from onevision.serve.schema.problems import ApiError
from onevision.serve.settings import ServerSettings


def check_question(question: Question, settings: ServerSettings) -> None:
    """Refuse a question by what it says of itself, before anything is read. Raises ApiError."""
    limits = settings.limits
    if question.model != settings.name:
        raise ApiError(
            f"model {question.model[:80]!r} is not served; ask for {settings.name!r}",
            status=404, code="model_not_found", param="model",
        )  # fmt: skip
    if settings.strict and question.unknown:
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


def check_pixels(outline: Outline, *, most: int) -> None:
    """Refuse images that are too many pixels together. Raises ApiError."""
    pixels = sum(la.width * la.height for la in outline.layouts if isinstance(la, CropLayout))
    if pixels > most:
        raise ApiError(
            f"messages: {pixels:,} pixels of all images are more than the {most:,} allowed",
            code="image_too_large",
            param="messages",
        )


def sampling_of(
    question: Question, *, room: int, defaults: Sampling, settings: ServerSettings
) -> Sampling:
    """Return how the answer is drawn. Raises ApiError where it is longer than the room."""
    limits, asked = settings.limits, question.max_tokens
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
    ends = question.options.get("end_ids", ())
    own = () if question.ignore_eos else defaults.end_ids
    options = question.options | {"max_new_tokens": most, "end_ids": (*own, *ends)}
    return replace(defaults, temperature=settings.temperature).override(options)
