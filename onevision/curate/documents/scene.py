"""A flat page -> a photograph of it: perspective, shadow, light and blur over a background."""

import random
from collections.abc import Sequence

import numpy as np
from PIL import Image as PIL
from PIL import ImageDraw, ImageFilter
from PIL.Image import Image as PillowImage

from onevision.curate.documents.sources import PageSources, open_part

# By how much a corner moves, as a share of the background beside it.
MAX_SHIFT = 0.8
# Width of the background around the page, as a share of its sides.
BORDER = (0.02, 0.15)
MAX_BLUR = 0.8  # in pixels
MAX_SHADOW = 0.35
Corner = tuple[float, float]


def photograph(page: PillowImage, rng: random.Random, sources: PageSources) -> PillowImage:
    """Returns the page as a camera might see it. Raises MediaError for a damaged background."""
    across, down = (round(side * rng.uniform(*BORDER)) + 4 for side in page.size)
    width, height = page.width + 2 * across, page.height + 2 * down
    right, bottom = width - across, height - down
    corners = [
        (x + rng.uniform(-1, 1) * MAX_SHIFT * across, y + rng.uniform(-1, 1) * MAX_SHIFT * down)
        for x, y in ((across, down), (right, down), (right, bottom), (across, bottom))
    ]
    ground = _background(rng, sources, width, height)
    ground = _drop_shadow(ground, corners, rng)
    coefficients = solve_perspective(corners, page.width, page.height)
    warped, cover = (
        flat.transform(
            (width, height), PIL.Transform.PERSPECTIVE, coefficients, PIL.Resampling.BICUBIC
        )
        for flat in (page, PIL.new("L", page.size, 255))
    )
    ground.paste(warped, mask=cover)
    lit = _light(ground, rng)
    return lit.filter(ImageFilter.GaussianBlur(rng.uniform(0, MAX_BLUR)))


def solve_perspective(corners: Sequence[Corner], width: int, height: int) -> tuple[float, ...]:
    """Returns the eight numbers with which Pillow finds, for each pixel, its place on the page.

    `corners` are those of the page in the picture: left top, right top, right bottom, left bottom.
    """
    rows, places = list[list[float]](), list[float]()
    targets = ((0, 0), (width, 0), (width, height), (0, height))
    for (x, y), (u, v) in zip(corners, targets, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        places += [u, v]
    return tuple(np.linalg.solve(np.array(rows), np.array(places)).tolist())


def _background(rng: random.Random, sources: PageSources, width: int, height: int) -> PillowImage:
    if sources.backgrounds:
        return open_part(sources.backgrounds, rng, width, height)
    ends = [np.array([rng.randint(30, 200) for _ in range(3)]) for _ in range(2)]
    share = np.linspace(0, 1, width)[None, :, None]
    pixels = np.broadcast_to(ends[0] * (1 - share) + ends[1] * share, (height, width, 3))
    return PIL.fromarray(pixels.astype(np.uint8))


def _drop_shadow(ground: PillowImage, corners: Sequence[Corner], rng: random.Random) -> PillowImage:
    right, below = rng.uniform(-8, 8), rng.uniform(2, 8)
    shade = PIL.new("L", ground.size)
    ImageDraw.Draw(shade).polygon([(x + right, y + below) for x, y in corners], fill=150)
    shade = shade.filter(ImageFilter.GaussianBlur(6))
    return PIL.composite(PIL.new("RGB", ground.size), ground, shade)


def _light(picture: PillowImage, rng: random.Random) -> PillowImage:
    """Darkens the picture towards one side, as light from a window does."""
    width, height = picture.size
    side, depth = rng.choice(("left", "right", "top", "bottom")), rng.uniform(0, MAX_SHADOW)
    ramp = np.linspace(1 - depth, 1, width if side in ("left", "right") else height)
    ramp = ramp[::-1] if side in ("right", "bottom") else ramp
    light = ramp[None, :, None] if side in ("left", "right") else ramp[:, None, None]
    return PIL.fromarray((np.asarray(picture) * light).clip(0, 255).astype(np.uint8))
