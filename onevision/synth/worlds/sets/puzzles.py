"""Puzzles: a grid or a row with a rule and a gap, and options to fill it.

+-----+-----+-----+     What belongs in the empty place?     2 red stars
|  *  |  o  |  ^  |     Which option completes the pattern?  B
+-----+-----+-----+     What is the same along every row?    the number
| * * | o o | ^ ^ |
+-----+-----+-----+
| o o |  ?  |           A  [^]   B  [**]   C  [oo]
+-----+-----+
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw
from PIL.Image import Image as PillowImage

from onevision.synth.kit.shapes import COLOURS, SHAPES, Colour, stamp
from onevision.synth.kit.text import Letters
from onevision.synth.kit.words import ORDINALS, number_of
from onevision.synth.sample import Question, ask


@dataclass(frozen=True, kw_only=True)
class PuzzleCell:
    """One to four equal shapes."""

    shape: str
    colour: str
    count: int

    @property
    def name(self) -> str:
        """What is in the cell: "2 red stars"."""
        return number_of(self.count, f"{self.colour} {self.shape}")


@dataclass(frozen=True, kw_only=True)
class Palette:
    """The three shapes, colours and counts of a puzzle."""

    shapes: list[str]
    colours: list[str]
    counts: list[int]

    def cell(self, *, shape: int, colour: int, count: int) -> PuzzleCell:
        """Returns the cell with the n-th shape, colour and count."""
        return PuzzleCell(
            shape=self.shapes[shape], colour=self.colours[colour], count=self.counts[count]
        )


@dataclass(frozen=True, kw_only=True)
class Puzzle:
    """Rows of cells, the last of which is to be found, the options, and the rules."""

    rows: tuple[tuple[PuzzleCell, ...], ...]
    options: tuple[PuzzleCell, ...]
    # Along what shape, colour and number stay the same: "row", "column", "everywhere", "neither".
    rules: dict[str, str]

    @property
    def answer(self) -> PuzzleCell:
        """The cell that is left out."""
        return self.rows[-1][-1]


LETTERS = "ABCD"
ATTRIBUTES = ("shape", "colour", "number")
PAPER: Colour = (250, 250, 250)
LINE: Colour = (120, 120, 125)
DESK: Colour = (218, 222, 226)
INK: Colour = (30, 30, 35)
# The places of one to four shapes in a cell, and their radius, as shares of its side.
STANDS = {
    1: (((0.5, 0.5),), 0.3),
    2: (((0.28, 0.5), (0.72, 0.5)), 0.19),
    3: (((0.5, 0.27), (0.27, 0.72), (0.73, 0.72)), 0.19),
    4: (((0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73)), 0.19),
}


def random_puzzle(rng: random.Random) -> Puzzle:
    """Makes a grid of two or three rows, or one row in which shapes and colours repeat."""
    counts = rng.sample(range(1, 5), 3)
    palette = Palette(
        shapes=rng.sample(list(SHAPES), 3),
        colours=rng.sample(list(COLOURS), 3),
        counts=sorted(counts) if rng.random() < 0.7 else counts,
    )
    kind = rng.random()
    if kind < 0.25:
        return _rhythm(rng, palette)
    size = 2 if kind < 0.45 else 3
    rules = _rules(rng, size)
    rows = tuple(
        tuple(
            palette.cell(
                shape=_place(rules["shape"], row, col),
                colour=_place(rules["colour"], row, col),
                count=_place(rules["number"], row, col),
            )
            for col in range(size)
        )
        for row in range(size)
    )
    return Puzzle(rows=rows, options=_options(rng, rows[-1][-1], palette), rules=rules)


def _rules(rng: random.Random, size: int) -> dict[str, str]:
    """Chooses a rule for each attribute; rows and columns both have to matter."""
    ways = ["row", "column", "everywhere", *(["neither"] if size == 3 else [])]
    while True:
        rules = {name: rng.choice(ways) for name in ATTRIBUTES}
        used = set(rules.values())
        if "neither" in used or {"row", "column"} <= used:
            return rules


def _place(rule: str, row: int, col: int) -> int:
    """Returns which of an attribute's three values a cell has."""
    return {"row": row, "column": col, "neither": (row + col) % 3, "everywhere": 0}[rule]


def _rhythm(rng: random.Random, palette: Palette) -> Puzzle:
    """Makes a row of seven cells whose shapes and colours repeat after one to three."""
    shape, colour = rng.choice(((1, 2), (1, 3), (2, 1), (3, 1), (2, 2), (3, 3), (2, 3), (3, 2)))
    count = rng.choice((1, 1, 2, 3))
    row = tuple(palette.cell(shape=n % shape, colour=n % colour, count=n % count) for n in range(7))
    return Puzzle(rows=(row,), options=_options(rng, row[-1], palette), rules={})


def _options(rng: random.Random, answer: PuzzleCell, palette: Palette) -> tuple[PuzzleCell, ...]:
    """Puts the answer among three cells that differ from it in one or two ways."""
    options = [answer]
    while len(options) < len(LETTERS):
        wrong = answer
        for name in rng.sample(ATTRIBUTES, rng.choice((1, 1, 2))):
            if name == "shape":
                wrong = replace(wrong, shape=rng.choice(palette.shapes))
            elif name == "colour":
                wrong = replace(wrong, colour=rng.choice(palette.colours))
            else:
                wrong = replace(wrong, count=rng.choice(palette.counts))
        if wrong not in options:
            options.append(wrong)
    return tuple(rng.sample(options, len(options)))


def draw_puzzle(puzzle: Puzzle, *, side: int, with_options: bool) -> PillowImage:
    """Draws the cells and the gap, and below them the options with their letters."""
    pad, rows = round(0.2 * side), puzzle.rows
    num_cols = max(len(rows[0]), len(puzzle.options) if with_options else 0)
    step = side + 4
    width = 2 * pad + num_cols * step
    height = 2 * pad + len(rows) * step + (round(2.1 * side) if with_options else 0)
    canvas = Image.new("RGB", (width, height), DESK)
    pen = ImageDraw.Draw(canvas)
    left = (width - len(rows[0]) * step) // 2
    for r, row in enumerate(rows):
        for c, cell in enumerate(row):
            is_gap = r == len(rows) - 1 and c == len(row) - 1
            _frame(canvas, None if is_gap else cell, left + c * step, pad + r * step, side)
    if with_options:
        top = pad + len(rows) * step + round(0.6 * side)
        left, letters = (width - len(LETTERS) * step) // 2, Letters(size=round(0.32 * side))
        for n, option in enumerate(puzzle.options):
            x = left + n * step
            _frame(canvas, option, x, top, side)
            middle, y = x + side / 2, top + 1.3 * side
            letters.write(pen, middle, y, LETTERS[n], ink=INK, anchor="mm")
    return canvas


def draw_option(option: PuzzleCell, *, side: int) -> PillowImage:
    """Draws one option as a picture of its own."""
    canvas = Image.new("RGB", (side, side), DESK)
    _frame(canvas, option, 4, 4, side - 9)
    return canvas


def _frame(canvas: PillowImage, cell: PuzzleCell | None, left: int, top: int, side: int) -> None:
    """Draws one cell, or the gap with its question mark."""
    pen = ImageDraw.Draw(canvas)
    pen.rectangle((left, top, left + side, top + side), fill=PAPER, outline=LINE)
    if cell is None:
        letters = Letters(size=round(0.6 * side))
        letters.write(pen, left + side / 2, top + side / 2, "?", ink=INK, anchor="mm")
        return
    stands, radius = STANDS[cell.count]
    for x, y in stands:
        tint = COLOURS[cell.colour]
        stamp(canvas, cell.shape, tint, x=left + x * side, y=top + y * side, radius=radius * side)


def describe(puzzle: Puzzle) -> str:
    """Describes the cells, what belongs in the gap, and the options."""
    parts = []
    for n, row in enumerate(puzzle.rows):
        cells = [cell.name for cell in row]
        if n == len(puzzle.rows) - 1:
            cells[-1] = "an empty place"
        parts.append(f"The {ORDINALS[n]} row: {', '.join(cells)}.")
    options = [f"{LETTERS[n]}: {option.name}" for n, option in enumerate(puzzle.options)]
    parts.append(f"What fits is {puzzle.answer.name}. The options are {', '.join(options)}.")
    return " ".join(parts)


def questions(
    puzzle: Puzzle, names: tuple[str, ...], kind: str, rng: random.Random
) -> Iterator[Question]:
    """Asks which option fits, called by `names` of a `kind`, what it shows and what the rule is."""
    answer = puzzle.answer
    words = (
        f"Which {kind} completes the pattern?",
        f"Which {kind} belongs in the place of the question mark?",
        f"Which {kind} fits?",
    )
    yield ask(rng, "completes", words, names[puzzle.options.index(answer)])
    words = ("What belongs in the place of the question mark?", "What is missing in the pattern?")
    yield ask(rng, "missing", words, answer.name)
    for what, value in (("colour", answer.colour), ("shape", answer.shape)):
        words = (f"Which {what} belongs in the empty place?", f"Which {what} is needed in the gap?")
        yield ask(rng, f"missing_{what}", words, value)
    n = rng.randrange(len(puzzle.options))
    words = (f"What does the {names[n]} {kind} show?", f"What is in the {names[n]} {kind}?")
    if kind == "option":
        words = (f"What does option {names[n]} show?", f"What is in option {names[n]}?")
    yield ask(rng, "option", words, puzzle.options[n].name)
    yield _ask_cell_at(puzzle, rng)
    for line in ("row", "column"):
        same = [name for name in ATTRIBUTES if puzzle.rules.get(name) in (line, "everywhere")]
        if len(same) == 1:
            words = (f"What stays the same along every {line}: shape, colour or number?",)
            yield ask(rng, "rule", words, same[0])


def _ask_cell_at(puzzle: Puzzle, rng: random.Random) -> Question:
    """Asks what one of the given cells holds."""
    row = rng.randrange(len(puzzle.rows))
    last = row == len(puzzle.rows) - 1
    col = rng.randrange(len(puzzle.rows[row]) - last)
    where = f"in place {col + 1} of the row"
    if len(puzzle.rows) > 1:
        where = f"in the {ORDINALS[row]} row, {ORDINALS[col]} column"
    words = (f"What is {where}?", f"What do you see {where}?")
    return ask(rng, "cell", words, puzzle.rows[row][col].name)
