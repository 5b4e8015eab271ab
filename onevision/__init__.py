"""LLaVA-OneVision: one model for single images, several images and video.

Names are imported when they are first used, so that importing this package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onevision.conversation import (
        Conversation,
        Image,
        Message,
        Reply,
        Text,
        Usage,
        Video,
    )
    from onevision.errors import OneVisionError
    from onevision.generate.answer import Model, load

__version__ = "0.1.0"

_HOMES = {
    "load": "onevision.generate.answer",
    "Model": "onevision.generate.answer",
    "Conversation": "onevision.conversation",
    "Message": "onevision.conversation",
    "Text": "onevision.conversation",
    "Image": "onevision.conversation",
    "Video": "onevision.conversation",
    "Reply": "onevision.conversation",
    "Usage": "onevision.conversation",
    "OneVisionError": "onevision.errors",
}

__all__ = [
    "Conversation",
    "Image",
    "Message",
    "Model",
    "OneVisionError",
    "Reply",
    "Text",
    "Usage",
    "Video",
    "load",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'onevision' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
