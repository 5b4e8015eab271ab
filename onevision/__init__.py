"""LLaVA-OneVision: one model for single images, several images and video.

Names are imported on first use, so that `import onevision` does not import torch.
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

_MODULE_OF = {
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
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'onevision' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
