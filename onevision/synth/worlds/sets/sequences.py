"""A process in three to five pictures, shuffled or not; or a puzzle to complete.

  first     second     third     How is the order if the glass is filled?  2, 3, 1
+-------+ +-------+ +-------+    In which picture is the glass fullest?     first
| |###| | | |   | | | |   | |    Which two pictures have to be swapped?     ...
| |###| | | |   | | | |###| |    What happens?                              the glass is filled
+-------+ +-------+ +-------+    Which option completes the pattern?        B
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image as PIL
from PIL import ImageDraw
from PIL.Image import Image as PillowImage

from onevision.synth.kit.questions import picture_sample
from onevision.synth.kit.text import Letters
from onevision.synth.kit.words import ORDINALS, join, number_of, yes_or_no
from onevision.synth.sample import Question, Sample, Split, ask, rng_for
from onevision.synth.worlds.sets import puzzles
from onevision.synth.worlds.sets.processes import (
    PROCESSES,
    Process,
    ProcessStyle,
    draw_stage,
    random_style,
)

MAX_PICTURES = 5
# Pictures are shuffled, in order, or in order except for two that are swapped.
MODES = ("shuffled", "shuffled", "ordered", "swapped")


@dataclass(frozen=True, kw_only=True)
class ProcessSeries:
    """A process as it is shown: how far it is in each picture, and in which direction it goes."""

    process: Process
    style: ProcessStyle
    mode: str
    shares: tuple[float, ...]
    is_forward: bool

    @property
    def verb(self) -> str:
        """What goes on: "is filled"."""
        return self.process.forward if self.is_forward else self.process.backward

    @property
    def order(self) -> list[int]:
        """The numbers of the pictures, from 0, in the order of the process."""
        places = range(len(self.shares))
        return sorted(places, key=lambda n: self.shares[n], reverse=not self.is_forward)


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th sequence of a split."""
    rng = rng_for(split, "sequences", index)
    return _puzzle(rng) if rng.random() < 0.4 else _process(rng)


def _puzzle(rng: random.Random) -> Sample:
    """Makes a puzzle, its options in the same picture or in pictures of their own."""
    puzzle = puzzles.random_puzzle(rng)
    side = rng.randint(44, 60)
    names, kind = tuple(puzzles.LETTERS), "option"
    apart = rng.random() < 0.35
    pictures = [puzzles.draw_puzzle(puzzle, side=side, with_options=not apart)]
    if apart:
        names, kind = ORDINALS[1:5], "picture"
        option_side = rng.randint(80, 120)
        pictures += [puzzles.draw_option(option, side=option_side) for option in puzzle.options]
    rows = puzzle.rows
    shape = f"{len(rows)} rows and {len(rows[0])} columns" if len(rows) > 1 else "one row"
    caption = f"A puzzle of {shape} with an empty place, and four options to fill it."
    return picture_sample(
        rng,
        *pictures,
        caption=caption,
        detail=f"{caption} {puzzles.describe(puzzle)}",
        asked=puzzles.questions(puzzle, names, kind, rng),
    )


def _process(rng: random.Random) -> Sample:
    """Makes pictures of the stages of a process."""
    series = _series(rng)
    pictures = [draw_stage(series.process, share, series.style) for share in series.shares]
    if rng.random() < 0.3:
        pictures = [_strip(pictures)]
    count = len(series.shares)
    seen = f"the {series.process.noun} {series.verb}" if series.mode == "ordered" else "mixed up"
    caption = f"{number_of(count, 'picture')} of a {series.process.noun}: {seen}."
    ranks = sorted(range(count), key=lambda n: series.shares[n])
    told = [
        f"The {series.process.noun} is {series.process.most} in the {ORDINALS[ranks[-1]]} picture",
        f"and {series.process.least} in the {ORDINALS[ranks[0]]} picture.",
        f"The {series.process.noun} {series.verb} if the order is {_write_order(series.order)}.",
    ]
    if series.process.part:
        told.append(f"The {series.process.part} is {series.style.colour}.")
    return picture_sample(
        rng,
        *pictures,
        caption=caption,
        detail=f"{caption} {' '.join(told)}",
        asked=_questions(series, rng),
    )


def _series(rng: random.Random) -> ProcessSeries:
    """Chooses a process, stages well apart, and the order in which they are shown."""
    process, mode = rng.choice(PROCESSES), rng.choice(MODES)
    is_forward = not process.backward or rng.random() < 0.5
    count = rng.randint(3 if mode != "swapped" else 4, MAX_PICTURES)
    shares = [(n + 0.5 + rng.uniform(-0.2, 0.2)) / count for n in range(count)]
    if not is_forward:
        shares.reverse()
    if mode == "shuffled":
        rng.shuffle(shares)
    elif mode == "swapped":
        a, b = rng.sample(range(count), 2)
        shares[a], shares[b] = shares[b], shares[a]
    return ProcessSeries(
        process=process,
        style=random_style(rng),
        mode=mode,
        shares=tuple(shares),
        is_forward=is_forward,
    )


def _strip(pictures: list[PillowImage]) -> PillowImage:
    """Puts all pictures into one, side by side, with their numbers below."""
    side, gap, below, letters = pictures[0].width, 6, 22, Letters(size=15)
    canvas = PIL.new("RGB", (len(pictures) * (side + gap) + gap, side + gap + below), (70, 75, 80))
    pen = ImageDraw.Draw(canvas)
    for n, picture in enumerate(pictures):
        x = gap + n * (side + gap)
        canvas.paste(picture, (x, gap))
        middle, y = x + side / 2, side + gap + below / 2
        letters.write(pen, middle, y, str(n + 1), ink=(255, 255, 255), anchor="mm")
    return canvas


def _write_order(order: list[int]) -> str:
    """Writes an order as an answer: "2, 1, 3"."""
    return ", ".join(str(n + 1) for n in order)


def _questions(series: ProcessSeries, rng: random.Random) -> Iterator[Question]:
    """Asks for the order, its ends and steps, and what the pictures show."""
    process, goes = series.process, f"the {series.process.noun} {series.verb}"
    yield from _ask_order(series, goes, rng)
    ranks = sorted(range(len(series.shares)), key=lambda n: series.shares[n])
    for word, n in ((process.most, ranks[-1]), (process.least, ranks[0])):
        words = (
            f"In which picture is the {process.noun} {word}?",
            f"Which picture shows the {process.noun} {word}?",
        )
        yield ask(rng, "extreme", words, ORDINALS[n])
    words = ("How many pictures are there?", "Of how many pictures is this series?")
    yield ask(rng, "count", words, str(len(series.shares)))
    words = ("What do the pictures show?", "Which thing is in all pictures?")
    yield ask(rng, "thing", words, f"a {process.noun}")
    if process.part:
        words = (f"What colour is the {process.part}?", f"Which colour has the {process.part}?")
        yield ask(rng, "colour", words, series.style.colour)
    if series.mode == "ordered" and process.backward:
        words = ("What happens from the first picture to the last?", "What happens here?")
        yield ask(rng, "happens", words, goes)


def _ask_order(series: ProcessSeries, goes: str, rng: random.Random) -> Iterator[Question]:
    """Asks for the whole order, for single steps, and for a mistake."""
    order, is_shuffled = series.order, series.mode == "shuffled"
    words = (
        f"In which order do the pictures belong if {goes}?",
        f"Put the pictures in order: {goes}.",
        f"Number the pictures as they follow when {goes}.",
    )
    if is_shuffled or rng.random() < 0.4:
        yield ask(rng, "order", words, _write_order(order))
    words = (
        f"Are the pictures in the right order if {goes}?",
        f"Is this the right order when {goes}?",
    )
    if not is_shuffled or rng.random() < 0.3:
        yield ask(rng, "in_order", words, yes_or_no(order == sorted(order)))
    if is_shuffled:
        yield from _ask_steps(order, goes, rng)
    wrong = [str(n + 1) for n, place in enumerate(order) if n != place]
    if series.mode == "swapped":
        words = (
            f"Which two pictures have to be swapped so that {goes}?",
            f"When {goes}, which two pictures are in each other's place?",
        )
        yield ask(rng, "swapped", words, join(wrong))


def _ask_steps(order: list[int], goes: str, rng: random.Random) -> Iterator[Question]:
    """Asks what comes first, last, after and before."""
    step = rng.randrange(len(order) - 1)
    before, after = order[step : step + 2]
    words = (f"Which picture follows the {ORDINALS[before]} one when {goes}?",)
    yield ask(rng, "follows", words, ORDINALS[after])
    words = (f"Which picture comes before the {ORDINALS[after]} one when {goes}?",)
    yield ask(rng, "before", words, ORDINALS[before])
    for word, place in (("first", 0), ("last", -1)):
        words = (f"Which picture comes {word} when {goes}?",)
        yield ask(rng, word, words, ORDINALS[order[place]])
