"""Sums: written calculations, equations between shapes, and dice.

  47        ● + ● = 12
+ 38        ● + ■ = 10       "Which number does the square stand for?"  4
----
"""

import random

from onevision.synth.kit.canvas import Canvas
from onevision.synth.kit.questions import picture_sample
from onevision.synth.kit.shapes import COLOURS, SHAPES
from onevision.synth.kit.text import Letters
from onevision.synth.kit.words import ORDINALS, join, number_of
from onevision.synth.sample import Sample, ask
from onevision.synth.worlds.diagrams.figure import GROUNDS, INKS, one_of

PIPS = {
    1: ((0, 0),),
    2: ((-1, -1), (1, 1)),
    3: ((-1, -1), (0, 0), (1, 1)),
    4: ((-1, -1), (1, -1), (-1, 1), (1, 1)),
    5: ((-1, -1), (1, -1), (0, 0), (-1, 1), (1, 1)),
    6: ((-1, -1), (1, -1), (-1, 0), (1, 0), (-1, 1), (1, 1)),
}
FIGURES = tuple(shape for shape in SHAPES if shape not in ("ring", "cross"))


def _written_sum(rng: random.Random) -> Sample:
    """Two numbers one above the other, to be added or subtracted."""
    plus = rng.random() < 0.6
    high = rng.choice((99, 999, 999, 9999))
    first, second = rng.randint(11, high), rng.randint(11, high)
    if not plus and first < second:
        first, second = second, first
    result = first + second if plus else first - second
    letters = Letters(size=rng.randint(26, 40))
    right = rng.randint(150, 190)
    canvas = Canvas(right + 40, 3 * letters.line_height + 40, ground=rng.choice(GROUNDS))
    ink, row = rng.choice(INKS), letters.line_height
    digits = letters.width("0")
    for n, number in enumerate((first, second)):
        for k, digit in enumerate(reversed(str(number))):
            x = right - (k + 0.5) * (digits + 3)
            canvas.text(x, 28 + (n + 0.5) * row, digit, letters=letters, ink=ink, anchor="mm")
    sign = "+" if plus else "-"
    left = right - (len(str(max(first, second))) + 1.2) * (digits + 3)
    canvas.text(left, 28 + 1.5 * row, sign, letters=letters, ink=ink, anchor="mm")
    y = 28 + 2.15 * row
    canvas.line([(left - 12, y), (right + 8, y)], ink=ink, thickness=2.5)
    what = "sum" if plus else "difference"
    caption = f"A written calculation: {first} {sign} {second}, without its result."
    detail = f"{caption} The result is {result}."
    asked = [
        ask(rng, "written_result", ("What is the result?", f"Work out the {what}.",
            "What belongs below the line?"), str(result)),
        ask(rng, "written_first", ("Which number is on top?", "Read the upper number."),
            str(first)),
        ask(rng, "written_second", ("Which number is in the second row?",
            "Read the number directly above the line."), str(second)),
        ask(rng, "written_digit", ("What is the last digit of the result?",), str(result % 10)),
        ask(rng, "written_sign", ("Is this an addition or a subtraction?",),
            "addition" if plus else "subtraction"),
    ]  # fmt: skip
    return picture_sample(rng, canvas.picture(), caption=caption, detail=detail, asked=asked)


def _chain(rng: random.Random) -> Sample:
    """A calculation in one line: two numbers and times or divided by, or three and plus."""
    kind = rng.choice(("times", "divided", "three"))
    a, b, c = rng.randint(2, 12), rng.randint(2, 12), rng.randint(1, 20)
    if kind == "times":
        numbers, signs, result = [a, b], ["x"], a * b
    elif kind == "divided":
        numbers, signs, result = [a * b, a], [rng.choice(":/")], b
    else:
        numbers, signs, result = [a + c, b, c], ["+", "-"], a + b
    words = [str(numbers[0])]
    for sign, number in zip(signs, numbers[1:], strict=True):
        words += [sign, str(number)]
    line = " ".join([*words, "=", "?"])
    letters = Letters(size=rng.randint(28, 40))
    width = letters.width(line) + 60
    canvas = Canvas(width, letters.line_height + 60, ground=rng.choice(GROUNDS))
    canvas.text(
        width / 2, canvas.height / 2, line, letters=letters, anchor="mm", ink=rng.choice(INKS)
    )
    caption = f"A calculation in one line: {line}"
    names = {"x": "times", ":": "divided by", "/": "divided by", "+": "plus", "-": "minus"}
    spoken = " ".join(names.get(word, word) for word in words)
    detail = f"{caption} In words: {spoken}. The result is {result}."
    asked = [
        ask(rng, "chain_result", ("What is the result?", "Which number belongs in place of the "
            "question mark?", "Work it out."), str(result)),
        ask(rng, "chain_first", ("Which number comes first?", "Read the first number."),
            str(numbers[0])),
        ask(rng, "chain_last", ("Which number stands right before the equals sign?",),
            str(numbers[-1])),
        ask(rng, "chain_numbers", ("How many numbers are written?",), str(len(numbers))),
        ask(rng, "chain_sign", ("Which sign stands after the first number?",), signs[0]),
        ask(rng, "chain_more", ("What is one more than the result?",), str(result + 1)),
    ]  # fmt: skip
    return picture_sample(rng, canvas.picture(), caption=caption, detail=detail, asked=asked)


def _equations(rng: random.Random) -> Sample:
    """Equations between coloured shapes, each of which stands for a number."""
    count = rng.choice((2, 2, 3))
    shapes, colours = rng.sample(FIGURES, count), rng.sample(list(COLOURS), count)
    values = rng.sample(range(1, 13), count)
    rows = [(0, 0)] + [(n, n + 1) for n in range(count - 1)]
    cell, letters = rng.randint(40, 48), Letters(size=24)
    canvas = Canvas(5 * cell + 50, len(rows) * cell + 34, ground=rng.choice(GROUNDS))
    for row, (left, right) in enumerate(rows):
        y = 17 + (row + 0.5) * cell
        for n, column in ((left, 0.5), (right, 2.1)):
            canvas.shape(shapes[n], 20 + column * cell, y, 0.36 * cell, fill=COLOURS[colours[n]])
        canvas.text(20 + 1.3 * cell, y, "+", letters=letters, anchor="mm")
        total = values[left] + values[right]
        canvas.text(20 + 2.9 * cell, y, "=", letters=letters, anchor="mm")
        canvas.text(20 + 3.8 * cell, y, str(total), letters=letters, anchor="mm")
    names = [f"{c} {s}" for c, s in zip(colours, shapes, strict=True)]
    lines = [f"{names[a]} + {names[b]} = {values[a] + values[b]}" for a, b in rows]
    caption = f"{number_of(len(rows), 'equation')} with shapes: {'; '.join(lines)}."
    facts = join(f"the {n} stands for {v}" for n, v in zip(names, values, strict=True))
    detail = f"{caption} So {facts}."
    asked = [
        *(ask(rng, "equation_value", (f"Which number does the {shape} stand for?",
              f"What is the value of the {name}?"), str(value))
          for shape, name, value in zip(shapes, names, values, strict=True)),
        ask(rng, "equation_sum", ("What is the sum of one of each shape?",), str(sum(values))),
        ask(rng, "equation_total", ("Which number stands at the end of the first row?",),
            str(2 * values[0])),
        ask(rng, "equation_total", ("Which number stands at the end of the last row?",),
            str(values[rows[-1][0]] + values[rows[-1][1]])),
        ask(rng, "equation_rows", ("How many equations are there?",), str(len(rows))),
        ask(rng, "equation_largest", ("Which shape stands for the largest number?",),
            shapes[values.index(max(values))]),
    ]  # fmt: skip
    return picture_sample(rng, canvas.picture(), caption=caption, detail=detail, asked=asked)


def _dice(rng: random.Random) -> Sample:
    """Two to five dice in a row."""
    count = rng.randint(2, 5)
    values = [rng.randint(1, 6) for _ in range(count)]
    colours = [rng.choice(list(COLOURS))] * count
    if rng.random() < 0.5:
        colours = rng.sample(list(COLOURS), count)
    size = rng.randint(50, 62)
    canvas = Canvas(count * (size + 16) + 24, size + 48, ground=rng.choice(GROUNDS))
    for n, (value, colour) in enumerate(zip(values, colours, strict=True)):
        x, y = 20 + n * (size + 16), 24
        canvas.rectangle(x, y, x + size, y + size, fill=COLOURS[colour], radius=10)
        pip = (20, 20, 20) if sum(COLOURS[colour]) > 420 else (250, 250, 250)
        for across, down in PIPS[value]:
            centre = (x + size * (0.5 + 0.27 * across), y + size * (0.5 + 0.27 * down))
            canvas.circle(*centre, size * 0.085, fill=pip)
    caption = f"{count} dice in a row that show {join(map(str, values))}."
    detail = (
        f"{caption} From left to right they are {join(colours)}. Together they show {sum(values)}."
    )
    n = rng.randrange(count)
    asked = [
        ask(rng, "dice_sum", ("What do the dice show together?", "What is the sum of all dice?"),
            str(sum(values))),
        ask(rng, "dice_value", (f"What does the {ORDINALS[n]} die from the left show?",),
            str(values[n])),
        ask(rng, "dice_high", ("What is the highest number on the dice?",), str(max(values))),
        ask(rng, "dice_low", ("What is the lowest number on the dice?",), str(min(values))),
        ask(rng, "dice_count", ("How many dice are there?",), str(count)),
        ask(rng, "dice_same", (f"How many of the dice show {values[n]}?",),
            str(values.count(values[n]))),
        ask(rng, "dice_ends", ("What is the first die from the left times the last one?",),
            str(values[0] * values[-1])),
    ]  # fmt: skip
    if len(set(colours)) == count:
        words = (f"What does the {colours[n]} die show?",)
        asked.append(ask(rng, "dice_colour", words, str(values[n])))
    return picture_sample(rng, canvas.picture(), caption=caption, detail=detail, asked=asked)


make = one_of(_written_sum, _chain, _equations, _dice)
