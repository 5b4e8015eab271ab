"""Messages as OpenAI writes them -> RequestMessages: text and references to media."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from onevision.conversation import LEAST_KEEP, Detail, Role, Sampler
from onevision.serve.generation_request import MediaReference, RequestMessage
from onevision.serve.schema.body import In
from onevision.serve.schema.problems import ApiError

WireDetail = Literal["auto", "low", "high", "original"]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# The share of visual tokens that the model reads.
Keep = Annotated[float, Field(ge=LEAST_KEEP, le=1, allow_inf_nan=False)]
# What clients send beside media, or send back from an answer.
BESIDE_MEDIA = frozenset({"cache_control", "uuid", "id", "name", "filename", "mime_type"})
FROM_ANSWERS = frozenset({
    "refusal", "annotations", "reasoning", "reasoning_content", "id", "status", "type", "phase",
    "cache_control",
})  # fmt: skip


class TextPart(In):
    """Text."""

    harmless = frozenset({"annotations", "logprobs", "cache_control", "prompt_cache_breakpoint"})

    type: Literal["text", "input_text", "output_text"]
    text: str


class ImageUrl(In):
    """A URL: `data:image/png;base64,...`, or https if the server allows its host."""

    harmless = BESIDE_MEDIA

    url: str
    detail: WireDetail | None = None


class ImagePart(In):
    """An image of Chat Completions; the URL alone may replace the object."""

    harmless = BESIDE_MEDIA

    type: Literal["image_url"]
    image_url: ImageUrl | str
    detail: WireDetail | None = None
    keep: Keep | None = None


class InputImagePart(In):
    """An image of the Responses API."""

    harmless = BESIDE_MEDIA

    type: Literal["input_image"]
    image_url: str
    detail: WireDetail | None = None
    keep: Keep | None = None


class VideoUrl(In):
    """A URL: `data:video/mp4;base64,...`, or https if the server allows its host."""

    harmless = BESIDE_MEDIA

    url: str


class VideoPart(In):
    """A video: `num_frames` evenly spaced, or `fps` a second, from `start` to `end` (seconds).

    `sampler` chooses its frames as programs that run OneVision-2 do.
    """

    harmless = BESIDE_MEDIA

    type: Literal["video_url"]
    video_url: VideoUrl | str
    num_frames: Annotated[int, Field(ge=1)] | None = None
    fps: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None
    start: Seconds | None = None
    end: Seconds | None = None
    sampler: Sampler = "even"
    keep: Keep | None = None


class FramesPart(In):
    """A video as a list of frames, all of which are used."""

    harmless = BESIDE_MEDIA

    type: Literal["video"]
    video: Annotated[list[ImagePart | str], Field(min_length=1)]
    keep: Keep | None = None


ContentPart = Annotated[
    TextPart | ImagePart | InputImagePart | VideoPart | FramesPart, Field(discriminator="type")
]
Content = str | list[ContentPart]


class Message(In):
    """A message. Content is a string, or parts in order."""

    harmless = FROM_ANSWERS
    ignored = frozenset({"name"})

    role: Literal["system", "developer", "user", "assistant"]
    content: Content | None = None


def alternate_messages(messages: Sequence[Message], *, param: str) -> tuple[RequestMessage, ...]:
    """Returns messages with alternating roles: those of one role in a row are joined by a newline.

    The role `developer` is `system`, which comes first. Raises ApiError.
    """
    merged: list[RequestMessage] = []
    for number, message in enumerate(messages):
        place = f"{param}[{number}]"
        role: Role = "system" if message.role == "developer" else message.role
        parts = _parts(message.content, role=role, param=f"{place}.content")
        if merged and merged[-1].role == role:
            merged[-1] = replace(merged[-1], parts=(*merged[-1].parts, "\n", *parts))
        elif role == "system" and merged:
            raise ApiError(
                f"{place}: a system message follows other messages; put it first", param=place
            )
        else:
            merged.append(RequestMessage(role=role, parts=parts, param=place))
    roles = [message.role for message in merged if message.role != "system"]
    if not roles or roles[0] != "user" or roles[-1] != "user":
        raise ApiError(
            f"{param}: expected a user message first (after the system's) and last", param=param
        )
    return tuple(merged)


def _parts(content: Content | None, *, role: Role, param: str) -> tuple[str | MediaReference, ...]:
    if content is None or content == []:
        if role == "assistant":
            return ()
        raise ApiError(f"{param} is empty; expected text or a list of parts", param=param)
    if isinstance(content, str):
        return (content,)
    parts = tuple(_part(part, param=f"{param}[{n}]") for n, part in enumerate(content))
    media = [part for part in parts if isinstance(part, MediaReference)]
    if media and role != "user":
        raise ApiError(
            f"{media[0].param}: only user messages may contain media", param=media[0].param
        )
    return parts


def _part(part: Any, *, param: str) -> str | MediaReference:  # Any: a ContentPart
    match part:
        case TextPart():
            return part.text
        case ImagePart(image_url=ImageUrl(url=url, detail=detail)):
            if None is not detail != part.detail is not None:
                raise ApiError(f"{param}: two values of detail; give one", param=f"{param}.detail")
            return _image(url, detail or part.detail, f"{param}.image_url", keep=part.keep)
        case ImagePart(image_url=str(url)) | InputImagePart(image_url=url):
            return _image(url, part.detail, f"{param}.image_url", keep=part.keep)
        case VideoPart(video_url=video_url):
            url = video_url.url if isinstance(video_url, VideoUrl) else video_url
            if part.start is not None and part.end is not None and part.end < part.start:
                raise ApiError(f"{param}.end is before its start", param=f"{param}.end")
            if part.sampler != "even" and part.fps is not None:
                raise ApiError(
                    f"{param}.sampler has a rate of its own; leave out fps", param=f"{param}.fps"
                )
            return MediaReference(
                kind="video", urls=(url,), param=f"{param}.video_url",
                num_frames=part.num_frames, fps=part.fps, start=part.start, end=part.end,
                sampler=part.sampler, keep=part.keep,
            )  # fmt: skip
        case _:
            urls = tuple(
                _frame_url(frame, param=f"{param}.video[{n}]") for n, frame in enumerate(part.video)
            )
            return MediaReference(kind="frames", urls=urls, param=f"{param}.video", keep=part.keep)


def _image(
    url: str, detail: WireDetail | None, param: str, *, keep: float | None
) -> MediaReference:
    ours: Detail = "high" if detail == "original" else detail or "auto"
    return MediaReference(kind="image", urls=(url,), param=param, detail=ours, keep=keep)


def _frame_url(frame: ImagePart | str, *, param: str) -> str:
    if isinstance(frame, str):
        return frame
    if frame.keep is not None:
        raise ApiError(
            f"{param}.keep: frames of a video share one keep; give it beside `video`",
            param=f"{param}.keep",
        )
    image = frame.image_url
    detail = frame.detail or (image.detail if isinstance(image, ImageUrl) else None)
    if detail not in (None, "auto"):
        raise ApiError(
            f"{param}.detail: frames of a video are one crop each; leave detail out",
            param=f"{param}.detail",
        )
    return image if isinstance(image, str) else image.url
