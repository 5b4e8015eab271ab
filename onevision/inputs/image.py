"""RGB image + CropLayout -> crops, bit-equal to the reference's, and their normalisation."""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Image as PillowImage
from torch import Tensor

from onevision.anyres import CropLayout, VideoLayout
from onevision.config import Triple

BICUBIC = Image.Resampling.BICUBIC


def cut_crops(
    image: PillowImage, layout: CropLayout, *, image_mean: Triple, fast: bool = False
) -> Tensor:
    """Cut an RGB `image` as its `layout` says: base crop first, then the grid row by row.

    Returns crops, uint8 [N, 3, H, W]. `fast` resizes with torch in place of Pillow: the same
    bicubic filter with other rounding, so a few values differ by a level of 255, and by more at
    hard edges where Pillow resizes columns first.
    """
    resize = _resize_fast if fast else _resize
    size, cols, rows = layout.crop_size, layout.cols, layout.rows
    crops = np.empty((1 + cols * rows, 3, size, size), np.uint8)
    source = pad_to_square(image, image_mean) if layout.fit == "pad" else image
    resize(source, size, size, crops[0])
    if cols:
        width, height = layout.resized_width, layout.resized_height
        canvas = np.zeros((3, rows * size, cols * size), np.uint8)  # black
        inside = canvas[:, layout.top : layout.top + height, layout.left : layout.left + width]
        resize(image, width, height, inside)
        grid = canvas.reshape(3, rows, size, cols, size).transpose(1, 3, 0, 2, 4)
        crops[1:].reshape(rows, cols, 3, size, size)[:] = grid
    return torch.from_numpy(crops)


def squash_frames(frames: Iterable[PillowImage], layout: VideoLayout) -> Tensor:
    """Resize every RGB frame to one crop, whatever its shape: uint8 [N, 3, H, W]."""
    size = layout.crop_size
    crops = np.empty((layout.num_frames, 3, size, size), np.uint8)
    for crop, frame in zip(crops, frames, strict=True):
        _write(frame.resize((size, size), BICUBIC), crop)
    return torch.from_numpy(crops)


def normalise(crops: Tensor, *, mean: Triple, std: Triple, out: Tensor | None = None) -> Tensor:
    """Turn crops into `pixel_values` [N, 3, H, W] float32: (value / 255 - mean) / std.

    In single precision, which gives for all 256 values what the reference gets. `out` is written
    and returned if given: on a CPU, taking new memory costs more than the arithmetic.
    """
    pixels = torch.empty(crops.shape, device=crops.device) if out is None else out
    middle = torch.tensor(mean, device=crops.device).view(3, 1, 1)
    scale = torch.tensor(std, device=crops.device).view(3, 1, 1)
    for crop, target in zip(crops, pixels, strict=True):  # one at a time stays in the cache
        target.copy_(crop).div_(255).sub_(middle).div_(scale)
    return pixels


def _resize(image: PillowImage, width: int, height: int, planes: NDArray[np.uint8]) -> None:
    _write(image.resize((width, height), BICUBIC), planes)


def _resize_fast(image: PillowImage, width: int, height: int, planes: NDArray[np.uint8]) -> None:
    enlarged = width > image.width or height > image.height  # Pillow rounds otherwise there
    if enlarged or image.size == (width, height):
        _resize(image, width, height, planes)
    else:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]  # channels last in memory
        resized = F.interpolate(pixels, size=(height, width), mode="bicubic", antialias=True)
        planes[:] = resized[0].numpy()


def _write(image: PillowImage, planes: NDArray[np.uint8]) -> None:
    """Copy an RGB image into its planes [3, H, W]."""
    for plane, band in zip(planes, image.split(), strict=True):
        plane[:] = np.asarray(band)


def pad_to_square(image: PillowImage, mean: Triple) -> PillowImage:
    """Centre the image on a square of the mean colour."""
    if image.width == image.height:
        return image
    side = max(image.size)
    colour = (int(mean[0] * 255), int(mean[1] * 255), int(mean[2] * 255))
    square = Image.new("RGB", (side, side), colour)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square
