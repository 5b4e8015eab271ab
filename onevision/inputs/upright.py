"""A decoded Pillow image of any mode -> its upright size, or an upright 8-bit RGB image.

EXIF orientation is applied, transparency is blended onto white, 16-bit grey is scaled to 8 bits.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import ExifTags, Image, ImageCms, ImageOps
from PIL.Image import Image as PillowImage
from PIL.TiffImagePlugin import TiffImageFile

from onevision.errors import MediaError

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


@dataclass(frozen=True, kw_only=True)
class ImageSize:
    """The size of an upright picture, in pixels."""

    width: int
    height: int


def upright_size(image: PillowImage) -> ImageSize:
    """Returns the size after EXIF orientation, as `exif_transpose` would leave it."""
    if isinstance(image, TiffImageFile):  # Pillow gives its upright size before it decodes it
        return ImageSize(width=image.width, height=image.height)
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 a broken EXIF block must not cost the picture
        orientation = 1
    width, height = image.size
    if orientation in (5, 6, 7, 8):
        width, height = height, width
    return ImageSize(width=width, height=height)


def convert_to_rgb(image: PillowImage, name: str) -> PillowImage:
    """Converts `image`, called `name` in messages. Raises MediaError if its mode has no range."""
    with suppress(Exception):  # a broken EXIF block does not make the picture unusable
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _to_8_bit(image, name)
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None, "None is for conversions in place"
        image = converted
    if "transparency" in image.info or "A" in image.getbands() or "a" in image.getbands():
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bit(image: PillowImage, name: str) -> PillowImage:
    """Scales 16-bit grey to 8 bits; Pillow's own conversion would clip it."""
    if image.mode == "F":
        raise MediaError(
            f"{name}: floating-point pixels have no fixed range; save 8 or 16 bits", fault="mode"
        )
    low, high = image.convert("I").getextrema()
    assert isinstance(low, int | float) and isinstance(high, int | float)
    if low < 0 or high > 65535:
        raise MediaError(
            f"{name}: 32-bit pixels have no fixed range; save 8 or 16 bits", fault="mode"
        )
    if image.mode == "I" and high <= 255:
        return image.convert("L")
    return image.convert("I").point(lambda value: value * (1 / 257)).convert("L")


def rotate_upright(frame: "VideoFrame") -> PillowImage:
    """Converts to RGB, rotated as the file asks players to rotate it."""
    image = frame.to_image()
    turns = {
        90: Image.Transpose.ROTATE_90,
        180: Image.Transpose.ROTATE_180,
        270: Image.Transpose.ROTATE_270,
    }
    turn = turns.get(round(frame.rotation) % 360)
    return image if turn is None else image.transpose(turn)
