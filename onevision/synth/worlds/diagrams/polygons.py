"""Regular polygons with a labelled side, and shapes on squared paper."""

import random

from onevision.synth.kit.canvas import Canvas
from onevision.synth.kit.questions import picture_sample
from onevision.synth.sample import Sample, ask
from onevision.synth.worlds.diagrams.figure import (
    FILLS,
    GROUNDS,
    INKS,
    UNITS,
    Figure,
    centre,
    fit,
    in_unit,
    length_label,
    one_of,
    random_style,
    towards,
)

NAMES = {
    3: "triangle", 4: "square", 5: "pentagon", 6: "hexagon", 7: "heptagon", 8: "octagon",
    9: "nonagon", 10: "decagon",
}  # fmt: skip


def _regular(rng: random.Random) -> Sample:
    """A polygon with equal sides, one of them labelled."""
    count = rng.choice((3, 5, 5, 6, 6, 7, 8, 8, 9, 10))
    side, unit = rng.randint(2, 15), rng.choice(UNITS)
    width = rng.randint(200, 270)
    turn = rng.randrange(360)
    corners = [towards((0.0, 0.0), turn + 360 * n / count, 1) for n in range(count)]
    points = fit(corners, width=width, height=width, margin=50)
    figure = Figure(random_style(rng), width, width)
    figure.polygon(points)
    label = length_label(side, unit)
    figure.label_side(points[0], points[1], label, away_from=centre(points))
    where = in_unit(unit)
    name = NAMES[count]
    caption = f"A regular {name}, whose sides are {label} long."
    angles = 180 * (count - 2)
    detail = (
        f"{caption} It has {count} equal sides, so its perimeter is "
        f"{length_label(count * side, unit)}. Its inner angles add up to {angles}°."
    )
    asked = [
        ask(rng, "polygon_sides", ("How many sides does the shape have?", "Count the sides.",
            "How many corners does the shape have?"), str(count)),
        ask(rng, "polygon_perimeter", (f"All sides are equal. What is the perimeter{where}?",
            f"What is the perimeter of this regular shape{where}?"), str(count * side)),
        ask(rng, "polygon_side", (f"How long is one side{where}?",), str(side)),
        ask(rng, "polygon_name", ("What is the shape called?",
            "What is the name of a shape with so many sides?"), name),
        ask(rng, "polygon_angles", ("What do the inner angles of the shape add up to in degrees?",
            ), str(angles)),
    ]  # fmt: skip
    return picture_sample(rng, figure.picture(), caption=caption, detail=detail, asked=asked)


def _squares(rng: random.Random) -> Sample:
    """A shape made of whole squares of squared paper."""
    columns, rows = rng.randint(6, 10), rng.randint(5, 8)
    cells = _grow(rng, columns, rows, rng.randint(3, 14))
    canvas, around = _draw_cells(rng, cells, columns, rows)
    across = max(x for x, _ in cells) - min(x for x, _ in cells) + 1
    down = max(y for _, y in cells) - min(y for _, y in cells) + 1
    caption = f"A shape of {len(cells)} squares on squared paper, {across} wide and {down} high."
    detail = (
        f"{caption} Its outline is {around} sides of a square long. "
        f"The paper has {columns} columns and {rows} rows."
    )
    asked = [
        ask(rng, "squares_area", ("How many squares does the shape cover?",
            "What is the area of the shape in squares?"), str(len(cells))),
        ask(rng, "squares_around", ("How long is the outline of the shape, in sides of a square?",
            "What is the perimeter of the shape, in sides of a square?"), str(around)),
        ask(rng, "squares_wide", ("How many squares wide is the shape at most?",), str(across)),
        ask(rng, "squares_high", ("How many squares high is the shape at most?",), str(down)),
        ask(rng, "squares_paper", ("How many columns of squares does the paper have?",),
            str(columns)),
        ask(rng, "squares_paper", ("How many rows of squares does the paper have?",), str(rows)),
    ]  # fmt: skip
    return picture_sample(rng, canvas.picture(), caption=caption, detail=detail, asked=asked)


def _draw_cells(
    rng: random.Random, cells: set[tuple[int, int]], columns: int, rows: int
) -> tuple[Canvas, int]:
    """Draws squared paper with a shape; returns it and how many sides the outline has."""
    cell = rng.randint(22, 28)
    canvas = Canvas(columns * cell + 30, rows * cell + 30, ground=rng.choice(GROUNDS))
    fill = rng.choice([fill for fill in FILLS if fill is not None])
    for x, y in cells:
        left, top = 15 + x * cell, 15 + y * cell
        canvas.rectangle(left, top, left + cell, top + cell, fill=fill)
    for n in range(columns + 1):
        x = 15 + n * cell
        canvas.line([(x, 15), (x, 15 + rows * cell)], ink=(190, 195, 205))
    for n in range(rows + 1):
        y = 15 + n * cell
        canvas.line([(15, y), (15 + columns * cell, y)], ink=(190, 195, 205))
    ink, around = rng.choice(INKS), 0
    for x, y in cells:
        for (dx, dy), a, b in (
            ((0, -1), (0, 0), (1, 0)), ((1, 0), (1, 0), (1, 1)),
            ((0, 1), (0, 1), (1, 1)), ((-1, 0), (0, 0), (0, 1)),
        ):  # fmt: skip
            if (x + dx, y + dy) not in cells:
                around += 1
                ends = [(15 + (x + p) * cell, 15 + (y + q) * cell) for p, q in (a, b)]
                canvas.line(ends, ink=ink, thickness=3)
    return canvas, around


def _grow(rng: random.Random, columns: int, rows: int, count: int) -> set[tuple[int, int]]:
    """Grows a connected shape without holes, one square at a time, inside a margin."""
    cells = {(columns // 2, rows // 2)}
    while len(cells) < count:
        x, y = rng.choice(sorted(cells))
        dx, dy = rng.choice(((1, 0), (-1, 0), (0, 1), (0, -1)))
        new = (x + dx, y + dy)
        inside = 0 < new[0] < columns - 1 and 0 < new[1] < rows - 1
        if inside and new not in cells and not _closes_hole(cells, new):
            cells.add(new)
        elif rng.random() < 0.02:
            break
    return cells


def _closes_hole(cells: set[tuple[int, int]], new: tuple[int, int]) -> bool:
    """Returns whether a square touches the shape in more than one run of its eight neighbours."""
    x, y = new
    ring = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    filled = [(x + dx, y + dy) in cells for dx, dy in ring]
    return sum(a != b for a, b in zip(filled, filled[1:] + filled[:1], strict=True)) > 2


make = one_of(_regular, _squares, _squares)
