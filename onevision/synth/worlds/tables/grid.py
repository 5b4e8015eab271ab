"""Headers and cells -> the picture of a table: columns as wide as they need, rules and stripes.

Name | Age | City        The first row is the header; numbers are set at the right of their
-----+-----+------       column, words at the left.
Ada  |  34 | Rome
"""

import random
from dataclasses import dataclass

from PIL.Image import Image as PillowImage

from onevision.synth.kit.canvas import BLACK, WHITE, Canvas
from onevision.synth.kit.shapes import Colour
from onevision.synth.kit.text import Letters

GROUNDS: tuple[Colour, ...] = ((252, 252, 252), (255, 255, 255), (250, 247, 238), (236, 240, 246))
# The ground of a header and the ink on it; None leaves the picture's ground.
HEADERS: tuple[tuple[Colour | None, Colour], ...] = (
    (None, BLACK),
    (None, BLACK),
    ((225, 225, 225), BLACK),
    ((205, 221, 242), BLACK),
    ((214, 232, 208), BLACK),
    ((52, 84, 140), WHITE),
    ((40, 110, 80), WHITE),
    ((70, 70, 78), WHITE),
    ((140, 50, 50), WHITE),
)


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """A title ("" if none), the header row, and the rows below it."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def column(self, number: int) -> tuple[str, ...]:
        """Returns the cells of a column, without its header."""
        return tuple(row[number] for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class TableLook:
    """How a table is drawn: letters, padding, rules, and grounds."""

    letters: Letters
    pad_x: int
    pad_y: int
    margin: int
    columns_ruled: bool
    rows_ruled: bool
    striped: bool
    first_bold: bool
    centred: bool
    ground: Colour
    header: tuple[Colour | None, Colour]

    @property
    def row_height(self) -> int:
        """The height of a row in pixels."""
        return self.letters.line_height + 2 * self.pad_y


@dataclass(frozen=True, kw_only=True)
class TableLayout:
    """Where the columns begin and end, where the header row begins, and the picture's size."""

    edges: tuple[int, ...]
    top: int
    width: int
    height: int


def random_look(rng: random.Random, *, num_rows: int, num_columns: int) -> TableLook:
    """Chooses a look that fits a table of this size."""
    large = num_rows > 6 or num_columns > 4
    striped = rng.random() < 0.3
    return TableLook(
        letters=Letters(size=rng.randint(11, 12 if large else 15)),
        pad_x=rng.randint(6, 8 if large else 14),
        pad_y=rng.randint(3, 6),
        margin=rng.randint(8, 24),
        columns_ruled=rng.random() < 0.6,
        rows_ruled=rng.random() < 0.65 or not striped,
        striped=striped,
        first_bold=rng.random() < 0.25,
        centred=rng.random() < 0.25,
        ground=rng.choice(GROUNDS),
        header=rng.choice(HEADERS),
    )


def layout(table: TextTable, look: TableLook) -> TableLayout:
    """Makes every column as wide as its widest cell."""
    bold = Letters(size=look.letters.size, bold=True)
    edges = [look.margin]
    for number, header in enumerate(table.headers):
        letters = bold if look.first_bold and number == 0 else look.letters
        widest = max(bold.width(header), *(letters.width(cell) for cell in table.column(number)))
        edges.append(edges[-1] + widest + 2 * look.pad_x)
    title_width = _title_letters(look).width(table.title)
    top = look.margin + (_title_letters(look).line_height + 6 if table.title else 0)
    return TableLayout(
        edges=tuple(edges),
        top=top,
        width=max(edges[-1], look.margin + title_width) + look.margin,
        height=top + (len(table.rows) + 1) * look.row_height + look.margin,
    )


def draw(table: TextTable, look: TableLook) -> PillowImage:
    """Draws a table."""
    places = layout(table, look)
    canvas = Canvas(places.width, places.height, ground=look.ground, scale=1)
    _draw_grounds(canvas, table, look, places)
    _draw_rules(canvas, table, look, places)
    if table.title:
        canvas.text(look.margin, look.margin, table.title, letters=_title_letters(look))
    bold = Letters(size=look.letters.size, bold=True)
    for number in range(len(table.headers)):
        cells = (table.headers[number], *table.column(number))
        left, right = places.edges[number], places.edges[number + 1]
        numeric = all(any(c.isdigit() for c in cell) for cell in cells[1:]) and number > 0
        for row, cell in enumerate(cells):
            y = places.top + (row + 0.5) * look.row_height
            letters = bold if row == 0 or (look.first_bold and number == 0) else look.letters
            ink = look.header[1] if row == 0 else BLACK
            if look.centred and number > 0:
                canvas.text((left + right) / 2, y, cell, letters=letters, ink=ink, anchor="mm")
            elif numeric:
                canvas.text(right - look.pad_x, y, cell, letters=letters, ink=ink, anchor="rm")
            else:
                canvas.text(left + look.pad_x, y, cell, letters=letters, ink=ink, anchor="lm")
    return canvas.picture()


def _title_letters(look: TableLook) -> Letters:
    return Letters(size=look.letters.size + 3, bold=True)


def _draw_grounds(canvas: Canvas, table: TextTable, look: TableLook, places: TableLayout) -> None:
    left, right, height = places.edges[0], places.edges[-1], look.row_height
    if look.header[0] is not None:
        canvas.rectangle(left, places.top, right, places.top + height, fill=look.header[0])
    if look.striped:
        shade = (look.ground[0] - 15, look.ground[1] - 13, look.ground[2] - 10)
        for row in range(2, len(table.rows) + 1, 2):
            top = places.top + row * height
            canvas.rectangle(left, top, right, top + height, fill=shade)


def _draw_rules(canvas: Canvas, table: TextTable, look: TableLook, places: TableLayout) -> None:
    left, right, top = places.edges[0], places.edges[-1], places.top
    bottom = top + (len(table.rows) + 1) * look.row_height
    soft = (150, 150, 150)
    for row in range(len(table.rows) + 2):
        y = top + row * look.row_height
        if look.rows_ruled or row in (0, 1, len(table.rows) + 1):
            ink = BLACK if row == 1 and not look.columns_ruled else soft
            canvas.line([(left, y), (right, y)], ink=ink)
    if look.columns_ruled:
        for x in places.edges:
            canvas.line([(x, top), (x, bottom)], ink=soft)
