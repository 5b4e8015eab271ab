"""Lines, rules and marks -> the picture of a sheet of paper, on its own or on a desk.

+--------------+     Lines are set one below another; the height follows from them.
|    TITLE     |     A sheet may lie a little askew.
| label  value |
| - - - - - -  |
+--------------+
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from PIL import Image
from PIL.Image import Image as PillowImage

from onevision.synth.kit.canvas import Canvas
from onevision.synth.kit.fonts import Face
from onevision.synth.kit.shapes import Colour
from onevision.synth.kit.text import Anchor, Letters

PAPERS: tuple[Colour, ...] = (
    (255, 255, 255), (252, 252, 250), (250, 247, 236), (246, 246, 246), (244, 248, 252),
    (255, 250, 225),
)  # fmt: skip
INKS: tuple[Colour, ...] = ((20, 20, 20), (20, 20, 20), (45, 45, 50), (25, 35, 90), (60, 35, 25))
ACCENTS: tuple[Colour, ...] = (
    (20, 20, 20), (150, 30, 30), (30, 70, 150), (30, 105, 60), (110, 50, 140), (170, 90, 20),
)  # fmt: skip
DESKS: tuple[Colour, ...] = (
    (120, 90, 65), (160, 130, 100), (70, 75, 85), (185, 185, 190), (60, 90, 80), (200, 190, 175),
)  # fmt: skip
Side = Literal["left", "middle", "right"]
ANCHORS: dict[Side, Anchor] = {"left": "lt", "middle": "mt", "right": "rt"}


@dataclass(frozen=True, kw_only=True)
class PageLook:
    """Paper, inks, letters, and how the sheet lies; `desk` is None if paper fills the picture."""

    face: Face
    size: int
    paper: Colour
    ink: Colour
    accent: Colour
    margin: int
    desk: Colour | None
    tilt: float

    def letters(self, *, larger: int = 0, bold: bool = False) -> Letters:
        """Returns the letters of this look, `larger` pixels larger."""
        return Letters(size=self.size + larger, bold=bold, face=self.face)


def random_look(rng: random.Random, face: Face) -> PageLook:
    """Chooses a look at random."""
    on_desk = rng.random() < 0.4
    return PageLook(
        face=face,
        size=rng.randint(12, 15),
        paper=rng.choice(PAPERS),
        ink=rng.choice(INKS),
        accent=rng.choice(ACCENTS),
        margin=rng.randint(14, 24),
        desk=rng.choice(DESKS) if on_desk else None,
        tilt=rng.uniform(-3, 3) if on_desk and rng.random() < 0.4 else 0,
    )


class Sheet:
    """What is on a sheet so far; `y` is where the next line begins."""

    def __init__(self, look: PageLook, width: int) -> None:
        self.look = look
        self.width = width
        self.y = look.margin
        self._marks: list[Callable[[Canvas], None]] = []

    @property
    def left(self) -> int:
        """Where lines begin."""
        return self.look.margin

    @property
    def right(self) -> int:
        """Where lines end."""
        return self.width - self.look.margin

    def mark(self, draw: Callable[[Canvas], None]) -> None:
        """Draws something once the sheet's size is known."""
        self._marks.append(draw)

    def write(self, text: str, *, letters: Letters, side: Side = "left", accent: bool = False
              ) -> None:  # fmt: skip
        """Writes a text on the current line, which stays current."""
        x = {"left": self.left, "middle": self.width / 2, "right": self.right}[side]
        self.write_at(x, text, letters=letters, anchor=ANCHORS[side], accent=accent)

    def write_at(
        self, x: float, text: str, *, letters: Letters, anchor: Anchor = "lt", accent: bool = False
    ) -> None:
        """Writes a text on the current line from, around or up to `x`."""
        ink, y = self.look.accent if accent else self.look.ink, self.y
        self.mark(lambda canvas: canvas.text(x, y, text, letters=letters, ink=ink, anchor=anchor))

    def line(self, text: str, *, letters: Letters, side: Side = "left", accent: bool = False
             ) -> None:  # fmt: skip
        """Writes a text and goes to the next line."""
        self.write(text, letters=letters, side=side, accent=accent)
        self.y += letters.line_height

    def pair(self, label: str, value: str, *, letters: Letters) -> None:
        """Writes a label at the left and its value at the right."""
        self.write(label, letters=letters)
        self.line(value, letters=letters, side="right")

    def rule(self, *, dashed: bool = False) -> None:
        """Draws a line across the sheet, with some room around it."""
        y, ink, start, end = self.y + 4, (130, 130, 130), self.left, self.right
        if dashed:
            self.mark(lambda canvas: canvas.dashed((start, y), (end, y), ink=ink, dash=5))
        else:
            self.mark(lambda canvas: canvas.line([(start, y), (end, y)], ink=ink))
        self.y += 10

    def picture(self) -> PillowImage:
        """Draws the sheet and lay it on its desk."""
        canvas = Canvas(self.width, self.y + self.look.margin, ground=self.look.paper, scale=1)
        for draw in self._marks:
            draw(canvas)
        paper, look = canvas.picture(), self.look
        if look.desk is None:
            return paper
        if look.tilt:
            bilinear = Image.Resampling.BILINEAR
            paper = paper.rotate(look.tilt, bilinear, expand=True, fillcolor=look.desk)
        desk = Image.new("RGB", (paper.width + 24, paper.height + 24), look.desk)
        desk.paste(paper, (12, 12))
        return desk
