"""A picture, a severity and random numbers -> the picture, corrupted.

Severity 0 returns the picture as it is. The same random numbers give the same pixels, and a higher
severity changes what a lower one changes, and more: noise keeps its pattern, covers stay where they
are, words are added to words.
"""

import io
import random

import numpy as np
from PIL import Image as PIL
from PIL import ImageDraw, ImageEnhance, ImageFilter, ImageFont
from PIL.Image import Image as PillowImage

from onevision.inputs.media import open_image

# An occluded picture is covered cell by cell, so that large things stay visible in part.
CELLS = 8
COVER = (127, 127, 127)
# Words that are no answer to most questions, but could be read as one.
DISTRACTORS = (
    *("red", "blue", "green", "yellow", "circle", "square", "star", "seven", "three", "left"),
    *("nothing", "sale", "open", "music", "water", "Monday"),
)
# The height of their letters, as a share of the shorter side.
DISTRACTOR_SIZE = 0.1
MIN_LETTERS = 8


def add_noise(picture: PillowImage, severity: float, rng: random.Random) -> PillowImage:
    """Adds Gaussian noise with a standard deviation of `severity`, of 255."""
    pattern = np.random.default_rng(rng.getrandbits(64))
    if severity == 0:
        return picture
    pixels = np.asarray(picture, dtype=np.float32)
    noisy = pixels + severity * pattern.standard_normal(pixels.shape, dtype=np.float32)
    return PIL.fromarray(noisy.round().clip(0, 255).astype(np.uint8))


def blur(picture: PillowImage, severity: float, rng: random.Random) -> PillowImage:
    """Blurs by a Gaussian whose radius is `severity` per cent of the shorter side."""
    del rng
    if severity == 0:
        return picture
    return picture.filter(ImageFilter.GaussianBlur(severity / 100 * min(picture.size)))


def lower_contrast(picture: PillowImage, severity: float, rng: random.Random) -> PillowImage:
    """Moves all pixels towards the mean grey, by `severity` per cent of their distance."""
    del rng
    if severity == 0:
        return picture
    return ImageEnhance.Contrast(picture).enhance(1 - severity / 100)


def compress(picture: PillowImage, severity: float, rng: random.Random) -> PillowImage:
    """Writes and reads a JPEG of quality 100 - `severity`."""
    del rng
    if severity == 0:
        return picture
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=round(100 - severity))
    return open_image(file.getvalue())


def rotate(picture: PillowImage, severity: float, rng: random.Random) -> PillowImage:
    """Turns by `severity` degrees, to either side at random, on a canvas that holds it whole.

    What the canvas adds has the mean colour of the picture's corners.
    """
    turn = severity * rng.choice((-1, 1))
    if severity == 0:
        return picture
    return picture.rotate(
        turn, resample=PIL.Resampling.BICUBIC, expand=True, fillcolor=corner_colour(picture)
    )


def occlude(picture: PillowImage, severity: float, rng: random.Random) -> PillowImage:
    """Covers `severity` per cent of an 8 x 8 grid of cells with grey."""
    cells = [(col, row) for row in range(CELLS) for col in range(CELLS)]
    rng.shuffle(cells)
    if severity == 0:
        return picture
    covered = picture.copy()
    pen = ImageDraw.Draw(covered)
    width, height = picture.width / CELLS, picture.height / CELLS
    for col, row in cells[: round(severity / 100 * len(cells))]:
        corner = (round(col * width), round(row * height))
        pen.rectangle(
            (*corner, round((col + 1) * width) - 1, round((row + 1) * height) - 1), fill=COVER
        )
    return covered


def write_words(picture: PillowImage, severity: float, rng: random.Random) -> PillowImage:
    """Writes `severity` words that have nothing to do with the picture, anywhere in it."""
    if severity == 0:
        return picture
    written = picture.copy()
    pen = ImageDraw.Draw(written)
    font = ImageFont.load_default(size=max(MIN_LETTERS, DISTRACTOR_SIZE * min(picture.size)))
    for _ in range(round(severity)):
        word, place = rng.choice(DISTRACTORS), (rng.random(), rng.random())
        left, top, right, bottom = pen.textbbox((0, 0), word, font=font, stroke_width=1)
        x = place[0] * max(0, picture.width - (right - left)) - left
        y = place[1] * max(0, picture.height - (bottom - top)) - top
        ink, edge = rng.choice((((20, 20, 20), (250, 250, 250)), ((250, 250, 250), (20, 20, 20))))
        pen.text((x, y), word, font=font, fill=ink, stroke_width=1, stroke_fill=edge)
    return written


def resize(picture: PillowImage, severity: float, rng: random.Random) -> PillowImage:
    """Resizes so that the longer side has `severity` pixels; 0 leaves the picture as it is."""
    del rng
    if severity == 0:
        return picture
    scale = severity / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, PIL.Resampling.BICUBIC)


def pad_to_aspect(picture: PillowImage, severity: float, rng: random.Random) -> PillowImage:
    """Widens the canvas, or heightens it at random, until the longer side is `severity` times.

    Never cuts: a picture that is longer already stays as it is. What is added has the mean colour
    of the corners.
    """
    upright = rng.random() < 0.5
    width, height = picture.size
    if upright:
        height = max(height, round(width * severity))
    else:
        width = max(width, round(height * severity))
    if severity == 0 or (width, height) == picture.size:
        return picture
    canvas = PIL.new("RGB", (width, height), corner_colour(picture))
    canvas.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
    return canvas


def corner_colour(picture: PillowImage) -> tuple[int, int, int]:
    """Returns the mean colour of the four corners."""
    pixels = np.asarray(picture)[[0, 0, -1, -1], [0, -1, 0, -1]]  # [4, 3]
    red, green, blue = (round(float(value)) for value in pixels.mean(0))
    return red, green, blue
