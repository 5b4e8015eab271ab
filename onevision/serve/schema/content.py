"""The parts of a message as OpenAI writes them -> words and media."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from onevision.conversation import Detail, Role
from onevision.serve.question import Medium, Turn
from onevision.serve.schema.problems import ApiError

WireDetail = Literal["auto", "low", "high", "original"]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=2**26)]


class Wire(BaseModel):
    """Values of exactly the right type; unknown fields are kept, to be named."""

    model_config = ConfigDict(strict=True, extra="allow", hide_input_in_errors=True)


class Ignored(Wire):
    """Unknown fields of a part are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)


class TextPart(Ignored):
    """Words."""

    type: Literal["text", "input_text", "output_text"]
    text: Text


class ImageUrl(Ignored):
    """An address: `data:image/png;base64,...`, or https where the server allows it."""

    url: str
    detail: WireDetail | None = None


class ImagePart(Ignored):
    """An image of Chat Completions; the address alone in place of the object will do."""

    type: Literal["image_url"]
    image_url: ImageUrl | str
    detail: WireDetail | None = None


class InputImagePart(Ignored):
    """An image of Responses."""

    type: Literal["input_image"]
    image_url: str
    detail: WireDetail | None = None


class VideoUrl(Ignored):
    """An address: `data:video/mp4;base64,...`, or https where the server allows it."""

    url: str


class VideoPart(Ignored):
    """A video: `num_frames` taken evenly, or `fps`, from `start` to `end` (seconds)."""

    type: Literal["video_url"]
    video_url: VideoUrl | str
    num_frames: Annotated[int, Field(ge=1)] | None = None
    fps: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None
    start: Seconds | None = None
    end: Seconds | None = None


class FramesPart(Ignored):
    """A video as a list of images, all of them seen."""

    type: Literal["video"]
    video: Annotated[list[ImagePart | str], Field(min_length=1)]


Part = Annotated[
    TextPart | ImagePart | InputImagePart | VideoPart | FramesPart, Field(discriminator="type")
]
Content = str | list[Part]


class Message(Ignored):
    """A turn. Content may be a string, or parts in the order in which they are meant."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content | None = None


def turns_of(messages: Sequence[Message], *, param: str) -> tuple[Turn, ...]:
    """Return turns that alternate: neighbours of one role are joined by a line break.

    `developer` is `system`; messages of the system come first. Raises ApiError.
    """
    turns: list[Turn] = []
    for number, message in enumerate(messages):
        place = f"{param}[{number}]"
        role: Role = "system" if message.role == "developer" else message.role
        parts = _parts(message.content, role=role, param=f"{place}.content")
        if turns and turns[-1].role == role:
            parts = (*turns[-1].parts, "\n", *parts)
            turns[-1] = Turn(role=role, parts=parts, param=turns[-1].param)
        elif role == "system" and turns:
            raise ApiError(
                f"{place}: a system message stands after other turns; put it first", param=place
            )
        else:
            turns.append(Turn(role=role, parts=parts, param=place))
    turns_alone = [turn for turn in turns if turn.role != "system"]
    if not turns_alone or turns_alone[0].role != "user" or turns_alone[-1].role != "user":
        raise ApiError(
            f"{param}: expected the user's words first (after the system's) and last", param=param
        )
    return tuple(turns)


def _parts(content: Content | None, *, role: Role, param: str) -> tuple[str | Medium, ...]:
    if content is None or content == []:
        if role == "assistant":
            return ()
        raise ApiError(f"{param} is empty; expected text or a list of parts", param=param)
    if isinstance(content, str):
        return (content,)
    parts = tuple(_part(part, param=f"{param}[{n}]") for n, part in enumerate(content))
    media = [part for part in parts if isinstance(part, Medium)]
    if media and role != "user":
        raise ApiError(
            f"{media[0].param}: media stand in user messages alone", param=media[0].param
        )
    return parts


def _part(part: Any, *, param: str) -> str | Medium:  # Any: one of the parts, told apart here
    match part:
        case TextPart():
            return part.text
        case ImagePart(image_url=ImageUrl(url=url, detail=detail)):
            return _image(url, detail or part.detail, f"{param}.image_url")
        case ImagePart(image_url=str(url)) | InputImagePart(image_url=url):
            return _image(url, part.detail, f"{param}.image_url")
        case VideoPart(video_url=address):
            url = address.url if isinstance(address, VideoUrl) else address
            if part.start is not None and part.end is not None and part.end < part.start:
                raise ApiError(f"{param}.end lies before its start", param=f"{param}.end")
            return Medium(
                kind="video", addresses=(url,), param=f"{param}.video_url",
                num_frames=part.num_frames, fps=part.fps, start=part.start, end=part.end,
            )  # fmt: skip
        case _:
            frames = tuple(_frame_address(frame) for frame in part.video)
            return Medium(kind="frames", addresses=frames, param=f"{param}.video")


def _image(url: str, detail: WireDetail | None, param: str) -> Medium:
    ours: Detail = "high" if detail == "original" else detail or "auto"
    return Medium(kind="image", addresses=(url,), param=param, detail=ours)


def _frame_address(frame: ImagePart | str) -> str:
    if isinstance(frame, str):
        return frame
    return frame.image_url if isinstance(frame.image_url, str) else frame.image_url.url
