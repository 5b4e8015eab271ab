"""GenerationRequest, then the outline of its prompt -> Sampling, or an ApiError.

Nothing is fetched before `check_request`, and no pixel is decoded before `admit`.
"""

from dataclasses import replace

from onevision.anyres import VideoLayout
from onevision.generate.answer import Model
from onevision.generate.sampler import Sampling
from onevision.inputs.processor import Outline
from onevision.serve.generation_request import GenerationRequest
from onevision.serve.schema.problems import ApiError
from onevision.serve.settings import Limits, ServerSettings


def check_request(request: GenerationRequest, settings: ServerSettings) -> None:
    """Raises ApiError if a request has unknown fields, too many parts or too much text."""
    limits = settings.limits
    if settings.strict and request.ignored_fields:
        name = request.ignored_fields[0]
        raise ApiError(
            f"{name[:80]} is not a known field", code="unsupported_parameter", param=name[:80]
        )
    text_bytes = sum(
        len(part.encode(errors="replace"))
        for message in request.messages for part in message.parts if isinstance(part, str)
    )  # fmt: skip
    images = sum(medium.kind == "image" for medium in request.media)
    videos = len(request.media) - images
    frames = max((len(medium.urls) for medium in request.media), default=0)
    for name, found, most in (
        ("bytes of text", text_bytes, limits.text_bytes),
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


def admit(
    request: GenerationRequest, outline: Outline, *, model: Model, settings: ServerSettings
) -> Sampling:
    """Checks length and pixels of a prompt, and returns how to sample its answers.

    Raises ApiError, and ContextLengthError if the prompt is too long for the model.
    """
    model.check_length(outline)
    pixels = sum(
        layout.width * layout.height
        for layout in outline.layouts
        if not (isinstance(layout, VideoLayout) or layout.is_video)
    )
    most = settings.limits.request_pixels
    if pixels > most:
        raise ApiError(
            f"messages: {pixels:,} pixels of all images are more than the {most:,} allowed",
            code="image_too_large",
            param="messages",
        )
    _check_stop_ids(request, vocab_size=model.config.language.vocab_size)
    room = model.max_new_tokens(outline)
    num_tokens = _num_answer_tokens(request, room=room, limits=settings.limits)
    end_ids = () if request.ignore_eos else model.sampling.end_ids
    options = request.options | {
        "max_new_tokens": num_tokens,
        "end_ids": (*end_ids, *request.options.get("end_ids", ())),
    }
    return replace(model.sampling, temperature=settings.temperature).override(options)


def _check_stop_ids(request: GenerationRequest, *, vocab_size: int) -> None:
    beyond = [i for i in request.options.get("end_ids", ()) if i >= vocab_size]
    if beyond:
        raise ApiError(
            f"stop_token_ids names token {beyond[0]}; expected 0 to {vocab_size - 1}",
            param="stop_token_ids",
        )


def _num_answer_tokens(request: GenerationRequest, *, room: int, limits: Limits) -> int:
    """Returns how many tokens an answer may have; `room` is what the model has left."""
    asked = request.max_tokens
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
    least = request.options.get("min_new_tokens", 0)
    if least > most:
        raise ApiError(
            f"min_tokens is {least}, more than the {most} of the answer", param="min_tokens"
        )
    return most
