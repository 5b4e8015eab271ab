"""Images and videos -> one small JPEG in base64 for a page: side by side, at most four."""

import base64
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image as PIL
from PIL.Image import Image as PillowImage

from onevision.conversation import Image, Video

SIDE, GAP, MOST, QUALITY = 112, 3, 4, 60
GROUND = (225, 228, 232)


def encode_thumbnail(media: Sequence[Image | Video]) -> str:
    """Returns the first and the last of all pictures and frames, and two between."""
    pictures = [picture for medium in media for picture in pillow_images(medium)]
    last, shown = len(pictures) - 1, min(len(pictures), MOST)
    chosen = [pictures[round(n * last / max(1, shown - 1))] for n in range(shown)]
    small = [_shrink(picture) for picture in chosen]
    width = sum(one.width for one in small) + GAP * (len(small) - 1)
    sheet = PIL.new("RGB", (width, max(one.height for one in small)), GROUND)
    left = 0
    for one in small:
        sheet.paste(one, (left, 0))
        left += one.width + GAP
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=QUALITY, optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _shrink(picture: PillowImage) -> PillowImage:
    """Returns a picture that fits a square; long ones get twice its side."""
    long = max(picture.size) > 2 * min(picture.size)
    scale = min(1.0, (2 if long else 1) * SIDE / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, PIL.Resampling.BICUBIC)


def pillow_images(medium: Image | Video) -> Iterator[PillowImage]:
    """Yields the picture of an image, or the frames of a video, which are Pillow images already."""
    pictures = medium.source if isinstance(medium, Video) else [medium.source]
    assert not isinstance(pictures, str | bytes | Path), "frames are in memory"
    for picture in pictures:
        assert isinstance(picture, PillowImage)
        yield picture
