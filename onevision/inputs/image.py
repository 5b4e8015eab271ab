"""RGB image and its layout -> uint8 crops, bit-equal to the reference's -> normalised pixels."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Image as PillowImage
from torch import Tensor

from onevision.anyres import Fit, ImageLayout, VideoLayout
from onevision.config import Triple
from onevision.native import NativeLayout

BICUBIC = Image.Resampling.BICUBIC
# In larger pictures the base crop and the grid are cut in parallel.
PARALLEL_PIXELS = 3_000_000
CACHED_VALUES = 600_000  # normalised together
# Resizes an image to (width, height) and writes it into planes [3, height, width].
Resize = Callable[[PillowImage, int, int, NDArray[np.uint8]], None]


def cut_crops(
    image: PillowImage, layout: ImageLayout, *, image_mean: Triple, fast: bool = False
) -> Tensor:
    """Cuts an RGB `image` as its `layout` says: base crop first, then the grid row by row.

    At native resolution there are only the cells, row by row.

    Returns crops, uint8 [N, 3, H, W]. `fast` resizes with torch instead of Pillow: the same bicubic
    filter with different rounding, so a few values differ by one level of 255, and by more at hard
    edges where Pillow resizes columns first.
    """
    resize = _resize_fast if fast else _resize
    if isinstance(layout, NativeLayout):
        return torch.from_numpy(_cut_cells([image], layout, resize))
    size, cols, rows = layout.crop_size, layout.cols, layout.rows
    crops = np.empty((1 + cols * rows, 3, size, size), np.uint8)

    def cut_base() -> None:
        _fit(image, layout.fit, size=size, mean=image_mean, resize=resize, planes=crops[0])

    def cut_grid() -> None:
        width, height = layout.resized_width, layout.resized_height
        canvas = np.zeros((3, rows * size, cols * size), np.uint8)  # black
        inside = canvas[:, layout.top : layout.top + height, layout.left : layout.left + width]
        resize(image, width, height, inside)
        grid = canvas.reshape(3, rows, size, cols, size).transpose(1, 3, 0, 2, 4)
        crops[1:].reshape(rows, cols, 3, size, size)[:] = grid

    if cols and image.width * image.height > PARALLEL_PIXELS:
        with ThreadPoolExecutor(1) as pool:  # Pillow releases the GIL while it resizes
            base = pool.submit(cut_base)
            cut_grid()
            base.result()
    else:
        cut_base()
        if cols:
            cut_grid()
    return torch.from_numpy(crops)


def cut_frames(
    frames: Iterable[PillowImage], layout: VideoLayout | NativeLayout, *, image_mean: Triple
) -> Tensor:
    """Turns every RGB frame into one crop or its cells, as the layout says: uint8 [N, 3, H, W]."""
    if isinstance(layout, NativeLayout):
        return torch.from_numpy(_cut_cells(frames, layout, _resize))
    size = layout.crop_size
    crops = np.empty((layout.num_frames, 3, size, size), np.uint8)
    for crop, frame in zip(crops, frames, strict=True):
        _fit(frame, layout.fit, size=size, mean=image_mean, resize=_resize, planes=crop)
    return torch.from_numpy(crops)


def _cut_cells(
    images: Iterable[PillowImage], layout: NativeLayout, resize: Resize
) -> NDArray[np.uint8]:
    """Resizes pictures of one grid, and cuts them into cells, row by row: [N, 3, H, W]."""
    size, cols, rows = layout.crop_size, layout.cols, layout.rows
    cells = np.empty((layout.num_frames or 1, rows, cols, 3, size, size), np.uint8)
    planes = np.empty((3, rows * size, cols * size), np.uint8)
    for own, image in zip(cells, images, strict=True):
        resize(image, cols * size, rows * size, planes)
        own[:] = planes.reshape(3, rows, size, cols, size).transpose(1, 3, 0, 2, 4)
    return cells.reshape(-1, 3, size, size)


def normalise(crops: Tensor, *, mean: Triple, std: Triple, out: Tensor | None = None) -> Tensor:
    """Turns crops into `pixel_values` [N, 3, H, W] float32: (value / 255 - mean) / std.

    Single precision gives the reference's result for all 256 values. If `out` is given, it is
    filled and returned: on a CPU, allocating memory costs more than the arithmetic.
    """
    pixels = torch.empty(crops.shape, device=crops.device) if out is None else out
    middle = torch.tensor(mean, device=crops.device).view(3, 1, 1)
    scale = torch.tensor(std, device=crops.device).view(3, 1, 1)
    at_once = max(1, CACHED_VALUES // (crops[:1].numel() or 1))  # what fits the cache
    for crop, target in zip(crops.split(at_once), pixels.split(at_once), strict=True):
        target.copy_(crop).div_(255).sub_(middle).div_(scale)
    return pixels


def _resize(image: PillowImage, width: int, height: int, planes: NDArray[np.uint8]) -> None:
    _write(image.resize((width, height), BICUBIC), planes)


def _resize_fast(image: PillowImage, width: int, height: int, planes: NDArray[np.uint8]) -> None:
    enlarged = width > image.width or height > image.height  # where Pillow rounds differently
    if enlarged or image.size == (width, height):
        _resize(image, width, height, planes)
    else:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]  # channels last in memory
        resized = F.interpolate(pixels, size=(height, width), mode="bicubic", antialias=True)
        planes[:] = resized[0].numpy()


def _write(image: PillowImage, planes: NDArray[np.uint8]) -> None:
    """Copies an RGB image into its planes [3, H, W]."""
    for plane, band in zip(planes, image.split(), strict=True):
        plane[:] = np.asarray(band)


def _fit(
    image: PillowImage,
    fit: Fit,
    *,
    size: int,
    mean: Triple,
    resize: Resize,
    planes: NDArray[np.uint8],
) -> None:
    """Turns an image into the `planes` [3, size, size] of one crop."""
    if fit == "crop":
        _write(_crop_centre(image, size), planes)
    else:
        source = pad_to_square(image, mean) if fit == "pad" else image
        resize(source, size, size, planes)


def _crop_centre(image: PillowImage, size: int) -> PillowImage:
    """Scales the short edge to `size`, then cuts out the centre, as CLIP's own processor does."""
    short = min(image.size)
    width, height = int(size * image.width / short), int(size * image.height / short)
    left, top = (width - size) // 2, (height - size) // 2
    return image.resize((width, height), BICUBIC).crop((left, top, left + size, top + size))


def pad_to_square(image: PillowImage, mean: Triple) -> PillowImage:
    """Centre the image on a square of the mean colour."""
    if image.width == image.height:
        return image
    side = max(image.size)
    colour = (int(mean[0] * 255), int(mean[1] * 255), int(mean[2] * 255))
    square = Image.new("RGB", (side, side), colour)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square
