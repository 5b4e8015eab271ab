"""Things to count: base-ten blocks, towers of cubes, and rows of dots.

▦ ▦  ▮▮▮  ▪▪▪▪        two hundreds, three tens and four ones: 234
"""

import random

from onevision.synth.kit.canvas import Canvas
from onevision.synth.kit.questions import picture_sample
from onevision.synth.kit.shapes import COLOURS, Colour
from onevision.synth.kit.words import join, number_of
from onevision.synth.sample import Sample, ask
from onevision.synth.worlds.diagrams.figure import GROUNDS, one_of


def _base_ten(rng: random.Random) -> Sample:
    """Flats of a hundred, rods of ten and single cubes."""
    hundreds, tens, ones = rng.choice((0, 0, 1, 2, 3)), rng.randint(0, 9), rng.randint(1, 9)
    cell, colour = rng.choice((6, 7)), rng.choice(list(COLOURS))
    flat, gap = 10 * cell, 8
    width = 30 + hundreds * (flat + gap) + tens * (cell + 6) + 3 * (cell + 5) + 30
    canvas = Canvas(max(width, 150), flat + 44, ground=rng.choice(GROUNDS))
    x, top = 22.0, 22.0
    for _ in range(hundreds):
        _draw_cubes(canvas, x, top, 10, 10, cell, COLOURS[colour])
        x += flat + gap
    for _ in range(tens):
        _draw_cubes(canvas, x, top, 1, 10, cell, COLOURS[colour])
        x += cell + 6
    x += 8
    for n in range(ones):
        row, column = divmod(n, 3)
        _draw_cubes(canvas, x + column * (cell + 5), top + row * (cell + 5), 1, 1, cell,
                    COLOURS[colour])  # fmt: skip
    number = 100 * hundreds + 10 * tens + ones
    parts = [number_of(hundreds, "flat") + " of a hundred", number_of(tens, "rod") + " of ten"]
    shown = [part for part, count in zip(parts, (hundreds, tens), strict=True) if count]
    shown.append(number_of(ones, "single cube"))
    caption = f"{colour.capitalize()} base-ten blocks: {join(shown)}."
    detail = f"{caption} Together they show the number {number}."
    asked = [
        ask(rng, "blocks_number", ("Which number do the blocks show?",
            "How many small cubes are there in all?"), str(number)),
        ask(rng, "blocks_tens", ("How many rods of ten are there?", "Count the rods of ten."),
            str(tens)),
        ask(rng, "blocks_ones", ("How many single cubes are there?", "Count the single cubes."),
            str(ones)),
        ask(rng, "blocks_hundreds", ("How many flats of a hundred are there?",), str(hundreds)),
        ask(rng, "blocks_more", ("Which number is it with one more rod of ten?",),
            str(number + 10)),
        ask(rng, "blocks_colour", ("What colour are the blocks?",), colour),
    ]  # fmt: skip
    return picture_sample(rng, canvas.picture(), caption=caption, detail=detail, asked=asked)


def _towers(rng: random.Random) -> Sample:
    """Towers of cubes, each of its own colour."""
    count = rng.randint(2, 6)
    heights = [rng.randint(1, 9) for _ in range(count)]
    colours = rng.sample(list(COLOURS), count)
    cell = rng.randint(15, 20)
    canvas = Canvas(40 + count * 2 * cell, 9 * cell + 40, ground=rng.choice(GROUNDS))
    floor = canvas.height - 18
    canvas.line([(10, floor), (canvas.width - 10, floor)], ink=(90, 90, 90), thickness=2)
    for n, (height, colour) in enumerate(zip(heights, colours, strict=True)):
        x = 20 + cell / 2 + 2 * n * cell
        _draw_cubes(canvas, x, floor - height * cell, 1, height, cell, COLOURS[colour])
    named = [f"{c} {h}" for c, h in zip(colours, heights, strict=True)]
    caption = f"{count} towers of cubes, from left to right {join(colours)}."
    total, high, low = sum(heights), max(heights), min(heights)
    detail = f"{caption} Their heights in cubes are {join(named)}, {total} in all."
    n, m = sorted(rng.sample(range(count), 2), key=lambda k: -heights[k])
    asked = [
        ask(rng, "towers_total", ("How many cubes are there in all?", "Count all the cubes."),
            str(total)),
        ask(rng, "towers_count", ("How many towers are there?", "Count the towers."), str(count)),
        ask(rng, "towers_high", ("How many cubes high is the highest tower?",), str(high)),
        ask(rng, "towers_low", ("How many cubes high is the lowest tower?",), str(low)),
        ask(rng, "towers_sum", (
            f"How many cubes do the {colours[n]} and the {colours[m]} tower have together?",),
            str(heights[n] + heights[m])),
        *(ask(rng, "towers_height", (f"How many cubes does the {colours[k]} tower have?",
              f"How many {colours[k]} cubes are there?"), str(heights[k]))
          for k in rng.sample(range(count), 2)),
    ]  # fmt: skip
    for word, value in (("highest", high), ("lowest", low)):
        if heights.count(value) == 1:
            words = (f"What colour is the {word} tower?",)
            asked.append(ask(rng, "towers_colour", words, colours[heights.index(value)]))
    if heights[n] > heights[m]:
        words = (f"How many cubes higher is the {colours[n]} tower than the {colours[m]} one?",)
        asked.append(ask(rng, "towers_difference", words, str(heights[n] - heights[m])))
    return picture_sample(rng, canvas.picture(), caption=caption, detail=detail, asked=asked)


def _rows(rng: random.Random) -> Sample:
    """Rows of dots, of which some have another colour."""
    rows, columns = rng.randint(2, 8), rng.randint(2, 9)
    main, other = rng.sample(list(COLOURS), 2)
    special = set(rng.sample(range(rows * columns), rng.randint(1, min(8, rows * columns - 1))))
    pitch, radius = rng.randint(20, 28), rng.randint(6, 9)
    canvas = Canvas(max(150, columns * pitch + 40), rows * pitch + 40, ground=rng.choice(GROUNDS))
    left = (canvas.width - columns * pitch) / 2
    square = rng.random() < 0.4
    for n in range(rows * columns):
        x, y = left + (n % columns + 0.5) * pitch, 20 + (n // columns + 0.5) * pitch
        tint = COLOURS[other if n in special else main]
        if square:
            canvas.rectangle(x - radius, y - radius, x + radius, y + radius, fill=tint)
        else:
            canvas.circle(x, y, radius, fill=tint)
    noun = "square" if square else "dot"
    total = rows * columns
    caption = f"{rows} rows of {columns} {noun}s each, in {main} and {other}."
    detail = (
        f"{caption} That makes {total} {noun}s, {total - len(special)} of them {main} and "
        f"{len(special)} {other}."
    )
    asked = [
        ask(rng, "rows_total", (f"How many {noun}s are there in all?", f"Count all the {noun}s."),
            str(total)),
        ask(rng, "rows_rows", (f"How many rows of {noun}s are there?",), str(rows)),
        ask(rng, "rows_columns", (f"How many {noun}s are there in each row?",
            f"How many columns of {noun}s are there?"), str(columns)),
        ask(rng, "rows_special", (f"How many {noun}s are {other}?", f"Count the {other} {noun}s."),
            str(len(special))),
        ask(rng, "rows_main", (f"How many {noun}s are {main}?",), str(total - len(special))),
    ]  # fmt: skip
    corner = other if 0 in special else main
    words = (f"What colour is the {noun} in the top left corner?",)
    asked.append(ask(rng, "rows_corner", words, corner))
    return picture_sample(rng, canvas.picture(), caption=caption, detail=detail, asked=asked)


def _draw_cubes(
    canvas: Canvas, left: float, top: float, columns: int, rows: int, cell: int, tint: Colour
) -> None:
    """Draws a block of cubes with the lines between them."""
    right, bottom = left + columns * cell, top + rows * cell
    canvas.rectangle(left, top, right, bottom, fill=tint)
    dark = (tint[0] * 5 // 10, tint[1] * 5 // 10, tint[2] * 5 // 10)
    for column in range(columns + 1):
        x = left + column * cell
        canvas.line([(x, top), (x, bottom)], ink=dark)
    for row in range(rows + 1):
        y = top + row * cell
        canvas.line([(left, y), (right, y)], ink=dark)


make = one_of(_base_ten, _towers, _towers, _rows)
