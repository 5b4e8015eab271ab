"""Pictures as programs hold them (arrays, tensors, open files) -> paths, bytes or Pillow images.

uint8 [H, W], [H, W, 1], [H, W, 3], [H, W, 4]; tensors also [1 | 3 | 4, H, W]
floats of the same shapes, from 0 to 1; other integers from 0 to 255; booleans
"""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import torch
from PIL import Image
from PIL.Image import Image as PillowImage
from torch import Tensor

from onevision.errors import MediaError

Picture: TypeAlias = (
    str | Path | bytes | bytearray | memoryview | BinaryIO | PillowImage | np.ndarray | Tensor
)
# A file, an array [F, H, W, 3], a tensor [F, 3, H, W], or frames: a list, a generator.
Clip: TypeAlias = (
    str | Path | bytes | bytearray | memoryview | BinaryIO | np.ndarray | Tensor | Iterable[Picture]
)
CHANNELS = (1, 3, 4)
FILES = (str, Path, bytes, bytearray, memoryview, io.IOBase)


def read_picture(source: object, *, name: str) -> str | Path | bytes | PillowImage:
    """Returns a picture as `Image` takes it; `name` is for messages. Raises MediaError."""
    file = _read_file(source)
    if file is not None:
        return file
    if isinstance(source, PillowImage):
        return source
    if isinstance(source, np.ndarray | Tensor):
        return _draw(source, name=name)
    raise MediaError(
        f"{name} is {type(source).__name__}; expected a path, bytes, an open binary file, a Pillow "
        "image, a NumPy array or a tensor",
        fault="source",
    )


def read_clip(source: object, *, name: str) -> str | Path | bytes | Sequence[PillowImage]:
    """Returns a video as `Video` takes it; all frames of a generator are taken. Raises MediaError.

    Frames are a list, a generator, or an array or tensor of four dimensions.
    """
    file = _read_file(source)
    if file is not None:
        return file
    if isinstance(source, np.ndarray | Tensor) and source.ndim != 4:
        raise MediaError(
            f"{name} is an array of shape {list(source.shape)}; expected frames, [F, H, W, 3]: of "
            "one frame, give [frame]",
            fault="source",
        )
    if isinstance(source, PillowImage) or not isinstance(source, Iterable):
        raise MediaError(
            f"{name} is {type(source).__name__}; expected a path, bytes, an open binary file, or "
            "frames: a list, a generator or an array of them",
            fault="source",
        )
    frames = [_open_frame(f, name=f"{name}, frame {n}") for n, f in enumerate(source, start=1)]
    if not frames:
        raise MediaError(f"{name} has no frames; expected at least one", fault="empty")
    return frames


def is_one_picture(source: object) -> bool:
    """Whether a source is one picture, and not several: an array of four dimensions is."""
    if isinstance(source, np.ndarray | Tensor):
        return source.ndim < 4
    return isinstance(source, FILES) or is_frame(source) or not isinstance(source, Iterable)


def is_one_clip(source: object) -> bool:
    """Whether a source is one video without being a list or a generator."""
    return is_one_picture(source) or isinstance(source, np.ndarray | Tensor)


def is_frame(source: object) -> bool:
    """Whether a source is a picture in memory, which cannot be a video."""
    if isinstance(source, np.ndarray | Tensor):
        return source.ndim < 4
    return isinstance(source, PillowImage)


def _read_file(source: object) -> str | Path | bytes | None:
    """Returns the path or the bytes of a file; None if the source is neither."""
    if isinstance(source, str | Path | bytes):
        return source
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    if isinstance(source, io.BufferedIOBase | io.RawIOBase):
        return source.read()
    return None


def _open_frame(source: object, *, name: str) -> PillowImage:
    from onevision.inputs.media import open_image  # here, as `media` needs nothing of this

    return open_image(read_picture(source, name=name))


def _draw(array: np.ndarray | Tensor, *, name: str) -> PillowImage:
    """Returns a Pillow image with the numbers of an array. Raises MediaError."""
    is_tensor = isinstance(array, Tensor)
    if isinstance(array, Tensor):
        array = array.detach().cpu()
        array = (array.float() if array.dtype == torch.bfloat16 else array).numpy()
    shape = list(array.shape)
    if is_tensor and array.ndim == 3 and shape[0] in CHANNELS:  # [C, H, W]
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in CHANNELS)):
        expected = "[3, H, W] or [H, W, 3]" if is_tensor else "[H, W, 3]"
        raise MediaError(
            f"{name} is an array of shape {shape}; expected {expected}, or [H, W] for grey",
            fault="source",
        )
    if not array.size:
        raise MediaError(f"{name} has no pixels: its shape is {shape}", fault="empty")
    return Image.fromarray(np.ascontiguousarray(_to_bytes(array, name=name)))


def _to_bytes(array: np.ndarray, *, name: str) -> np.ndarray:
    """Scales numbers to 0..255. Raises MediaError for others, such as normalised pixels."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    most = 255 if np.issubdtype(array.dtype, np.integer) else 1
    if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise MediaError(f"{name} is an array of {array.dtype}; expected numbers", fault="source")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= most):  # NaN too
        raise MediaError(
            f"{name} is an array of {array.dtype} from {low:g} to {high:g}; expected integers from "
            "0 to 255, or floats from 0 to 1 (before any normalising)",
            fault="source",
        )
    return np.round(array * (255 / most)).astype(np.uint8)
