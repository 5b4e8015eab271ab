"""Letters: a date, a greeting, lines of running text, a signature, a page number, a stamp.

[PAID]        3 May 2024      Where on the page is the date?   top right
Dear Ada,                     What is the second line of the text?
Please bring the red bag      on Friday. We meet in
on Friday. We meet in         Who wrote the letter?            Tom
Oslo.
Yours, Tom         page 4
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from onevision.synth.kit.canvas import Canvas
from onevision.synth.kit.questions import picture_sample
from onevision.synth.kit.shapes import COLOURS
from onevision.synth.sample import Question, Sample, ask
from onevision.synth.worlds.pages.language import Language, fill, random_date, random_time
from onevision.synth.worlds.pages.sheet import Sheet, Side, random_look

STAMP_COLOURS = ("red", "green", "blue", "purple")
PLACES: dict[tuple[str, Side], int] = {
    ("top", "left"): 0, ("top", "right"): 2,
    ("bottom", "left"): 6, ("bottom", "middle"): 7, ("bottom", "right"): 8,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Letter:
    """All that is written, and on which sides; the stamp is opposite the date."""

    date: str
    date_side: Side
    greeting: str
    recipient: str
    lines: tuple[str, ...]
    closing: str
    sender: str
    page: str
    page_number: str
    page_side: Side
    stamp: str
    stamp_colour: str


def make(rng: random.Random, language: Language) -> Sample:
    """Makes a letter in a language."""
    letter = _random_letter(rng, language)
    caption, detail = _describe(letter, language, rng)
    return picture_sample(
        rng, _lay_out(letter, language, rng).picture(), caption=caption, detail=detail,
        asked=_questions(letter, language, rng),
    )  # fmt: skip


def _random_letter(rng: random.Random, language: Language) -> Letter:
    words, phrases = language.words, language.letter
    recipient, sender = rng.sample(words.people, 2)
    number = str(rng.randint(1, 99))
    return Letter(
        date=random_date(rng, words),
        date_side=rng.choice(("left", "right")),
        greeting=rng.choice(phrases.greetings).format(person=recipient),
        recipient=recipient,
        lines=_running_text(rng, language),
        closing=rng.choice(phrases.closings),
        sender=sender,
        page=rng.choice(phrases.page).format(number=number),
        page_number=number,
        page_side=rng.choice(("left", "middle", "right")),
        stamp=rng.choice(words.stamps) if rng.random() < 0.5 else "",
        stamp_colour=rng.choice(STAMP_COLOURS),
    )


def _running_text(rng: random.Random, language: Language) -> tuple[str, ...]:
    """Returns two to four sentences, broken into lines."""
    words = language.words
    sentences = [
        template.format(
            person=rng.choice(words.people), city=rng.choice(words.cities),
            day=rng.choice(words.days), time=random_time(rng), thing=rng.choice(words.things),
        )
        for template in rng.sample(words.sentences, rng.randint(2, 4))
    ]  # fmt: skip
    text = language.gap.join(sentences)
    # A line may break between any two ideographs, but not within a word or a number.
    units = text.split(" ") if language.gap else re.findall(r"[0-9:]+|.", text)
    # By characters, not by pixels: lines must not depend on the font that is installed.
    lines = [units[0]]
    for unit in units[1:]:
        longer = f"{lines[-1]}{language.gap}{unit}"
        if len(longer) <= language.line_length or unit in language.punctuation:
            lines[-1] = longer
        else:
            lines.append(unit)
    return tuple(lines)


def _lay_out(letter: Letter, language: Language, rng: random.Random) -> Sheet:
    look = random_look(rng, language.face)
    normal, bold = look.letters(), look.letters(bold=True)
    head = normal.width(letter.date) + bold.width(letter.stamp) + 60
    inner = max(head, *(normal.width(line) for line in letter.lines))
    sheet = Sheet(look, inner + 2 * look.margin)
    sheet.write(letter.date, letters=normal, side=letter.date_side)
    if letter.stamp:
        _stamp(sheet, letter)
    sheet.y += 2 * normal.line_height
    sheet.line(letter.greeting, letters=normal)
    sheet.y += normal.line_height // 2
    for line in letter.lines:
        sheet.line(line, letters=normal)
        sheet.y += 2
    sheet.y += normal.line_height // 2
    sheet.line(letter.closing, letters=normal)
    sheet.line(letter.sender, letters=bold, accent=True)
    sheet.y += normal.line_height
    sheet.line(letter.page, letters=normal, side=letter.page_side)
    return sheet


def _stamp(sheet: Sheet, letter: Letter) -> None:
    """Draws the stamp in the corner beside the date."""
    letters = sheet.look.letters(bold=True)
    width, height = letters.width(letter.stamp) + 14, letters.line_height + 4
    x = sheet.right - width if letter.date_side == "left" else sheet.left
    top, ink = sheet.y - 3, COLOURS[letter.stamp_colour]

    def draw(canvas: Canvas) -> None:
        canvas.rectangle(x, top, x + width, top + height, ink=ink, thickness=2)
        middle = (x + width / 2, top + height / 2)
        canvas.text(*middle, letter.stamp, letters=letters, ink=ink, anchor="mm")

    sheet.mark(draw)


def _describe(letter: Letter, language: Language, rng: random.Random) -> tuple[str, str]:
    phrases = language.letter
    values = {"recipient": letter.recipient, "sender": letter.sender, "date": letter.date}
    caption = rng.choice(fill(phrases.caption, values))
    detail = phrases.detail.format(
        greeting=letter.greeting, text=language.gap.join(letter.lines), closing=letter.closing,
        sender=letter.sender, page=letter.page, count=len(letter.lines),
    )  # fmt: skip
    parts = [caption, detail]
    if letter.stamp:
        colour = language.colour(letter.stamp_colour)
        parts.append(phrases.stamp.format(stamp=letter.stamp, colour=colour))
    return caption, language.gap.join(parts)


def _questions(letter: Letter, language: Language, rng: random.Random) -> Iterator[Question]:
    phrases = language.letter
    for n in rng.sample(range(len(letter.lines)), min(2, len(letter.lines))):
        values = {"nth": language.ordinals[n]}
        yield ask(rng, "letter_line", fill(phrases.ask_line, values), letter.lines[n])
        units = letter.lines[n].split() if language.gap else list(letter.lines[n])
        bare = [word for unit in units if (word := unit.strip(language.punctuation))]
        yield ask(rng, "letter_word", fill(phrases.ask_first_word, values), bare[0])
        yield ask(rng, "letter_word", fill(phrases.ask_last_word, values), bare[-1])
    yield ask(rng, "letter_num_lines", phrases.ask_num_lines, str(len(letter.lines)))
    yield ask(rng, "letter_recipient", phrases.ask_recipient, letter.recipient)
    yield ask(rng, "letter_sender", phrases.ask_sender, letter.sender)
    yield ask(rng, "letter_date", phrases.ask_date, letter.date)
    yield ask(rng, "letter_page", phrases.ask_page, letter.page_number)
    where = language.places[PLACES["top", letter.date_side]]
    yield ask(rng, "letter_where", phrases.ask_where_date, where)
    where = language.places[PLACES["bottom", letter.page_side]]
    yield ask(rng, "letter_where", phrases.ask_where_page, where)
    if letter.stamp:
        other: Side = "left" if letter.date_side == "right" else "right"
        where = language.places[PLACES["top", other]]
        yield ask(rng, "letter_where", phrases.ask_where_stamp, where)
        yield ask(rng, "letter_stamp", phrases.ask_stamp, letter.stamp)
        colour = language.colour(letter.stamp_colour)
        yield ask(rng, "letter_stamp_colour", phrases.ask_stamp_colour, colour)
