"""A question with pictures and videos of any common type -> Conversation.

build_question("What is this?", images="a.png")
build_question("What differs?", images=[Path("a.png"), numpy_array, tensor, pillow_image, b"..."])
build_question("What happens?", videos=["clip.mp4", [frame, frame], (f for f in frames)])
"""

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from onevision.conversation import Conversation, Image, Message, Text, Video
from onevision.errors import InputError
from onevision.inputs.arrays import (
    Clip,
    Picture,
    is_frame,
    is_one_clip,
    is_one_picture,
    read_clip,
    read_picture,
)

# One or several; `Image` and `Video` are for their options.
Images: TypeAlias = "Picture | Image | Iterable[Picture | Image]"
Videos: TypeAlias = "Clip | Video | Iterable[Clip | Video]"


def build_question(
    question: Conversation | str, *, images: Images = (), videos: Videos = (), system: str = ""
) -> Conversation:
    """Returns a conversation of one user message: images, videos, then the question.

    A Conversation is returned as it is, and must come alone. As images, an array of four
    dimensions is several; as videos, it is one, and so is a list of pictures in memory.
    Raises InputError, MediaError.
    """
    if isinstance(question, Conversation):
        if not (_is_nothing(images) and _is_nothing(videos) and system == ""):
            raise InputError(
                "images, videos and system go with a question; a Conversation has them in its "
                'messages: Message("user", [Image(...), Text(...)])'
            )
        return question
    if not isinstance(question, str):
        raise InputError(
            f"the question is {type(question).__name__}; expected a Conversation, or a string: "
            'ask("What is this?", images=["a.png"])'
        )
    if not question.strip():
        raise InputError("the question is empty; expected text")
    if not isinstance(system, str):
        raise InputError(f"system is {type(system).__name__}; expected a string")
    messages = [Message("system", system)] if system else []
    parts = [*_read_images(images), *_read_videos(videos), Text(question)]
    return Conversation([*messages, Message("user", parts)])


def _read_images(images: object) -> Iterator[Image]:
    is_one = isinstance(images, Image) or is_one_picture(images)
    for number, image in enumerate(_to_list(images, is_one=is_one), start=1):
        if isinstance(image, Image):
            yield image
        else:
            yield Image(read_picture(image, name=f"images, entry {number}"))


def _read_videos(videos: object) -> Iterator[Video]:
    entries = _to_list(videos, is_one=isinstance(videos, Video) or is_one_clip(videos))
    if entries and all(map(is_frame, entries)):
        entries = [entries]  # pictures are no videos, so these are the frames of one
    for number, video in enumerate(entries, start=1):
        if isinstance(video, Video):
            yield video
        else:
            yield Video(read_clip(video, name=f"videos, entry {number}"))


def _to_list(media: object, *, is_one: bool) -> list[object]:
    return [media] if is_one or not isinstance(media, Iterable) else list(media)


def _is_nothing(media: object) -> bool:
    return isinstance(media, (tuple, list)) and not media
