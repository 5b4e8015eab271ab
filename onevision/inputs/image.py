"""RGB image + CropLayout -> crops, bit-equal to the reference's, and their normalisation."""

from collections.abc import Iterable

import numpy as np
import torch
from PIL import Image
from PIL.Image import Image as PillowImage
from torch import Tensor

from onevision.anyres import CropLayout, VideoLayout
from onevision.config import Triple

BICUBIC = Image.Resampling.BICUBIC


def cut_crops(image: PillowImage, layout: CropLayout, *, image_mean: Triple) -> list[PillowImage]:
    """Cut an RGB `image` as its `layout` says: base crop first, then the grid row by row."""
    size = layout.crop_size
    source = _pad_to_square(image, image_mean) if layout.fit == "pad" else image
    crops = [source.resize((size, size), BICUBIC)]
    if layout.cols == 0:
        return crops
    canvas = Image.new("RGB", (layout.cols * size, layout.rows * size))  # black
    resized = image.resize((layout.resized_width, layout.resized_height), BICUBIC)
    canvas.paste(resized, (layout.left, layout.top))
    for row in range(layout.rows):
        for col in range(layout.cols):
            corner = (col * size, row * size)
            crops.append(canvas.crop((*corner, corner[0] + size, corner[1] + size)))
    return crops


def squash_frames(frames: Iterable[PillowImage], layout: VideoLayout) -> list[PillowImage]:
    """Resize every RGB frame to one crop, whatever its shape."""
    return [frame.resize((layout.crop_size, layout.crop_size), BICUBIC) for frame in frames]


def normalise(crops: list[PillowImage], *, mean: Triple, std: Triple) -> Tensor:
    """Turn crops into `pixel_values` [N, 3, H, W] float32: (value / 255 - mean) / std.

    The division is done in double and the rest in single precision, as in the reference; every
    pixel has one of 256 values, so a table holds the results.
    """
    values = (np.arange(256) * (1 / 255)).astype(np.float32)
    pixels = np.stack([np.asarray(crop) for crop in crops])  # [N, H, W, 3] uint8
    channels = [
        ((values - np.float32(m)) / np.float32(s))[pixels[..., channel]]
        for channel, (m, s) in enumerate(zip(mean, std, strict=True))
    ]
    return torch.from_numpy(np.stack(channels, axis=1))


def _pad_to_square(image: PillowImage, mean: Triple) -> PillowImage:
    """Centre the image on a square of the mean colour."""
    if image.width == image.height:
        return image
    side = max(image.size)
    colour = (int(mean[0] * 255), int(mean[1] * 255), int(mean[2] * 255))
    square = Image.new("RGB", (side, side), colour)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square
