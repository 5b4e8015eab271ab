r"""A shape, a material and a colour -> a shaded solid with its shadow in a picture.

      .-""-.        +-----+\        .-----.      light falls from the upper left; shiny
     / o    \       |     | |      (_______)     things have a highlight, matte ones
     \      /       |     | |      |       |     have none
      '-..-'        +-----+/        '-...-'

Grey values: 0 is the colour's shadow, `FULL` the colour itself, 255 white light.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from PIL.Image import Image as PillowImage

from onevision.synth.kit.shapes import Colour

# The side of a solid before it is scaled, and the grey that stands for its plain colour.
SIDE, FULL = 128, 190
LIGHT = np.array([-0.48, -0.64, 0.6], dtype=np.float32)
# The height of a circle on the floor, as a share of its width.
TILT = 0.36
NUM_TURNS = 8
Plane = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class ShadedSolid:
    """A solid in grey, and how much of every pixel it covers."""

    shade: PillowImage
    cover: PillowImage


def draw_solid(
    canvas: PillowImage,
    shape: str,
    material: str,
    tint: Colour,
    *,
    turn: int,
    x: float,
    bottom: float,
    side: float,
) -> None:
    """Draws a solid standing at `x`, `bottom`, in a square of `side` pixels, with its shadow."""
    size = max(8, round(side))
    shadow = _shadow().resize((round(1.5 * size), round(0.62 * size)), Image.Resampling.BILINEAR)
    canvas.paste((0, 0, 0), (round(x - 0.60 * size), round(bottom - 0.44 * size)), shadow)
    solid = _solid(shape, material, turn)
    shade = solid.shade.resize((size, size), Image.Resampling.BOX)
    cover = solid.cover.resize((size, size), Image.Resampling.BOX)
    coloured = shade.convert("RGB").point(_ramp(tint))
    canvas.paste(coloured, (round(x - size / 2), round(bottom - size)), cover)


@lru_cache(maxsize=512)
def _ramp(tint: Colour) -> list[int]:
    """Returns a colour's values from shadow to white light, for each grey: red, green, blue."""
    ramp: list[int] = []
    for value in tint:
        dark = value // 6
        ramp += [dark + (value - dark) * grey // FULL for grey in range(FULL)]
        ramp += [value + (255 - value) * (grey - FULL) // (255 - FULL) for grey in range(FULL, 256)]
    return ramp


@lru_cache(maxsize=64)
def _solid(shape: str, material: str, turn: int) -> ShadedSolid:
    """Renders one solid, once."""
    if shape == "cube":
        return _cube(material, turn)
    return _sphere(material) if shape == "sphere" else _cylinder(material)


@lru_cache(maxsize=1)
def _shadow() -> PillowImage:
    """Returns a soft flat spot, dark in its middle."""
    spot = ImageOps.invert(Image.radial_gradient("L")).point(lambda v: int(max(0, v - 75) * 0.9))
    return spot.resize((192, 80))


def _sphere(material: str) -> ShadedSolid:
    """Renders a ball."""
    y, x = _grid()
    height = np.sqrt(np.clip(1 - x * x - y * y, 0, 1))
    cover = np.clip((1 - np.hypot(x, y)) * SIDE / 2, 0, 1)
    glance = np.clip(2 * height * _incidence((x, y, height)) - LIGHT[2], 0, 1)
    return _light((x, y, height), cover, material, 2 * glance**14)


def _cylinder(material: str) -> ShadedSolid:
    """Renders a drum: its side curves to the left and right, its lid faces up."""
    y, x = _grid()
    width, top, bottom = 0.86, -1 + TILT * 0.86, 1 - TILT * 0.86
    bow = TILT * np.sqrt(np.clip(width * width - x * x, 0, 1))
    lid = np.hypot(x / width, (y - top) / (TILT * width)) <= 1
    inside = (np.abs(x) <= width) & (y >= top - bow) & (y <= bottom + bow)
    nx = np.clip(x / width, -1, 1)
    nz = np.sqrt(1 - nx * nx)
    flat = np.zeros_like(x)
    normal = (np.where(lid, flat, nx), np.where(lid, flat - 0.85, flat), np.where(lid, 0.5, nz))
    streak = np.exp(-(((nx + 0.42) / 0.13) ** 2)) + 0.5 * np.exp(-(((nx - 0.72) / 0.07) ** 2))
    gloss = np.where(lid, 0.25 * (x - y + top > -0.25) * (x - y + top < 0.15), streak)
    return _light(normal, inside.astype(np.float32), material, gloss)


def _cube(material: str, turn: int) -> ShadedSolid:
    """Renders a box turned about its vertical axis: two sides and the lid are visible."""
    scale = 4
    shade = Image.new("L", (SIDE * scale // 2, SIDE * scale // 2), 0)
    cover = Image.new("L", shade.size, 0)
    half, unit = shade.width / 2, shade.width / 2 / 1.02
    angle = math.radians(12 + 66 * turn / (NUM_TURNS - 1))
    corners = [
        (math.cos(angle + k * math.pi / 2), math.sin(angle + k * math.pi / 2)) for k in range(4)
    ]
    reach = 0.94
    tall = 2 * (1 - TILT * reach)
    floor = [(half + unit * reach * cx, half + unit * (1 - TILT * reach + TILT * reach * cy))
             for cx, cy in corners]  # fmt: skip
    lid = [(px, py - unit * tall * 0.74) for px, py in floor]
    order = sorted(range(4), key=lambda k: corners[k][1])
    front = order[-1]
    sides = [(front, (front + 1) % 4), ((front - 1) % 4, front)]
    for a, b in sides:
        left = (corners[a][0] + corners[b][0]) < 0
        quad = [floor[a], floor[b], lid[b], lid[a]]
        _face(shade, cover, quad, 165 if left else 105, shiny=material == "shiny")
    _face(shade, cover, lid, 215, shiny=False)
    blur = ImageFilter.GaussianBlur(1)
    return ShadedSolid(
        shade=shade.filter(blur).resize((SIDE, SIDE), Image.Resampling.BOX),
        cover=cover.resize((SIDE, SIDE), Image.Resampling.BOX),
    )


def _face(
    shade: PillowImage,
    cover: PillowImage,
    quad: list[tuple[float, float]],
    grey: int,
    *,
    shiny: bool,
) -> None:
    """Fills one face; a shiny one mirrors a bright streak."""
    ImageDraw.Draw(cover).polygon(quad, fill=255)
    pen = ImageDraw.Draw(shade)
    pen.polygon(quad, fill=grey)
    if shiny:
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = quad
        for start, end, light in ((0.18, 0.42, 60), (0.50, 0.58, 60)):
            streak = [
                (ax + (bx - ax) * start, ay + (by - ay) * start),
                (ax + (bx - ax) * end, ay + (by - ay) * end),
                (dx + (cx - dx) * (end + 0.16), dy + (cy - dy) * (end + 0.16)),
                (dx + (cx - dx) * (start + 0.16), dy + (cy - dy) * (start + 0.16)),
            ]
            pen.polygon(streak, fill=min(250, grey + light))


def _grid() -> tuple[Plane, Plane]:
    """Returns y and x of every pixel, from -1 to 1."""
    line = (np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE * 2 - 1
    y, x = np.meshgrid(line, line, indexing="ij")
    return y, x


def _light(
    normal: tuple[Plane, Plane, Plane], cover: Plane, material: str, gloss: Plane
) -> ShadedSolid:
    """Lights a surface: matte ones are evenly dull, shiny ones darker, with sharp highlights."""
    facing = _incidence(normal)
    grey = 45 + 150 * facing if material == "matte" else 25 + 165 * facing + 130 * gloss
    shade = np.clip(grey, 0, 255).astype(np.uint8)
    return ShadedSolid(
        shade=Image.fromarray(shade), cover=Image.fromarray((255 * cover).astype(np.uint8))
    )


def _incidence(normal: tuple[Plane, Plane, Plane]) -> Plane:
    """Returns how directly a surface faces the light, from 0 to 1."""
    nx, ny, nz = normal
    return np.clip(nx * LIGHT[0] + ny * LIGHT[1] + nz * LIGHT[2], 0, 1)
