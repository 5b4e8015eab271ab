"""What was given as an image or a video -> its name for messages, and whether it can be a path."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Self

from PIL.Image import Image as PillowImage

from onevision.errors import MediaError

if TYPE_CHECKING:
    from onevision.conversation import ImageSource, VideoSource

# The beginning of an encoded file: a path of so many characters has directories or a suffix.
BASE64 = re.compile(r"[A-Za-z0-9+/\s]{256}")
# Longer names are not paths, and are shortened in messages.
MAX_NAME_CHARACTERS = 300


class NamedBytes(bytes):
    """An encoded image or video, and what messages call it."""

    name: str

    def __new__(cls, data: bytes, *, name: str) -> Self:
        """Copies `data`."""
        self = super().__new__(cls, data)
        self.name = name
        return self


def source_name(source: "ImageSource | VideoSource") -> str:
    """Returns the name of a source for error messages: its path, or its kind."""
    if isinstance(source, NamedBytes):
        return shorten(source.name)
    if isinstance(source, bytes):
        return f"{len(source)} bytes"
    if isinstance(source, str | Path):
        return shorten(str(source))
    return "image" if isinstance(source, PillowImage) else "list of frames"


def shorten(text: str) -> str:
    """Returns a text as messages show it: of a long one, its beginning and its length."""
    if len(text) <= MAX_NAME_CHARACTERS:
        return text
    return f"{text[:60]}... ({len(text):,} characters)"


def check_is_path(source: str, *, name: str, kind: str) -> None:
    """Refuses addresses, and media that are themselves written as text. Raises MediaError."""
    if source.startswith("data:"):
        raise MediaError(
            f"{name}: data URLs are not read here; decode the base64 and pass the {kind}'s bytes, "
            "or write it to a file",
            fault="source",
        )
    if "://" in source:
        raise MediaError(
            f"{name}: URLs are not fetched; download the {kind} and pass its path",
            fault="source",
        )
    if len(source) > MAX_NAME_CHARACTERS and BASE64.match(source):
        raise MediaError(
            f"{name}: it is base64; expected a path: decode it and pass the {kind}'s bytes, or "
            "write it to a file",
            fault="source",
        )
