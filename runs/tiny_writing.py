"""Typefaces and words -> pictures with writing of every size, and what they say.

A line, a few lines, or a sign among cut-outs; letters of 9 to 90 pixels, in a colour that stands
off its ground. `read` is exact: what was written is the answer.
"""

import random
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageStat
from tiny_material import CHARACTERS, Typeface
from tiny_scenes import GROUNDS, Turns, capital, texture

ASK = (
    "What is written in the picture?", "What does it say?", "Read the text.",
    "Which words are in the picture?", "What is written here?",
)  # fmt: skip
HEIGHTS = (9, 12, 16, 22, 30, 42, 60, 90)
CASES = (str.lower, str.lower, str.upper, capital)


@dataclass(frozen=True, kw_only=True)
class Written:
    """A picture, its lines from the top, and the height of its letters in pixels."""

    picture: Image.Image
    lines: tuple[str, ...]
    height: int


class Writer:
    """Writes words of a list in typefaces."""

    def __init__(
        self, faces: tuple[Typeface, ...], words: tuple[str, ...], rng: random.Random
    ) -> None:
        self.faces, self.words, self.rng = faces, words, rng

    def text(self) -> str:
        """Returns one to three words, a number, or random letters."""
        rng, chance = self.rng, self.rng.random()
        if chance < 0.12:
            return "".join(rng.choices(CHARACTERS, k=rng.randint(1, 6)))
        if chance < 0.27:
            return str(rng.randint(0, 10 ** rng.randint(1, 5)))
        case = rng.choice(CASES)
        return " ".join(case(one) for one in rng.choices(self.words, k=rng.choice((1, 1, 1, 2, 3))))

    def write(self, *, num_lines: int = 1) -> Written:
        """Draws lines one below the other, somewhere on a ground of up to 672 pixels a side."""
        rng, height = self.rng, self.rng.choice(HEIGHTS)
        face = rng.choice(self.faces)
        font = face.font(round(height * 1.3))
        lines = [self.text() for _ in range(num_lines)]
        boxes = [font.getbbox(line) for line in lines]
        wide = max(int(right - left) for left, _, right, _ in boxes)
        step = round(max(bottom - top for _, top, _, bottom in boxes) * rng.uniform(1.2, 1.8))
        least = (wide + 2 * height, step * num_lines + 2 * height)
        width, high = (max(side, rng.choice((224, 336, 448, 672))) for side in least)
        picture = self._ground(width, high)
        left = rng.randint(height, max(height, width - wide - height))
        top = rng.randint(height, max(height, high - step * num_lines - height))
        area = (left, top, left + wide, top + step * num_lines)
        pen = ImageDraw.Draw(picture)
        ink = self._ink(picture.crop(area))
        for number, (line, box) in enumerate(zip(lines, boxes, strict=True)):
            pen.text((left - box[0], top + number * step - box[1]), line, fill=ink, font=font)
        return Written(picture=picture, lines=tuple(lines), height=height)

    def _ground(self, width: int, height: int) -> Image.Image:
        rng = self.rng
        if rng.random() < 0.85:
            colour = rng.choice(list(GROUNDS.values()))
            return Image.new("RGB", (width, height), tuple(c + rng.randint(-12, 0) for c in colour))
        light = Image.new("RGB", (width, height), (235, 230, 220))
        return Image.blend(texture(rng, width, height), light, 0.75)

    def _ink(self, area: Image.Image) -> tuple[int, ...]:
        """Returns a dark colour for a light area, and a light one for a dark area."""
        is_light = ImageStat.Stat(area.convert("L")).mean[0] > 128
        span = (0, 80) if is_light else (185, 255)
        return tuple(self.rng.randint(*span) for _ in range(3))

    def sample(self) -> tuple[Image.Image, Turns]:
        """Returns a picture with one to four lines and questions about them."""
        rng = self.rng
        written = self.write(num_lines=rng.choice((1, 1, 1, 2, 3, 4)))
        lines = written.lines
        turns = [(rng.choice(ASK), "\n".join(lines))]
        if len(lines) > 1:
            index = rng.randrange(len(lines))
            place = ("first", "second", "third", "fourth")[index]
            turns.append((f"What is written in the {place} line?", lines[index]))
            turns.append(("How many lines of text are there?", f"{len(lines)}."))
        return written.picture, turns
