"""Forms: labelled fields, filled in or left empty, and boxes of which one is ticked.

REGISTRATION             What is the name?           Ada Reed
Name   [ Ada Reed ]      Which field is empty?       Phone
Phone  [          ]      What is ticked for size?    large
Size   [ ] small  [x] large
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from onevision.synth.kit.canvas import Canvas
from onevision.synth.kit.questions import picture_sample
from onevision.synth.sample import Question, Sample, ask
from onevision.synth.worlds.pages.language import (
    Language,
    Templates,
    fill,
    random_date,
    random_phone,
)
from onevision.synth.worlds.pages.sheet import Sheet, random_look


@dataclass(frozen=True, kw_only=True)
class Form:
    """A title, labels with their values ("" if empty), and a choice ("" if none)."""

    title: str
    fields: tuple[tuple[str, str], ...]
    choice: str
    options: Templates
    ticked: str

    @property
    def filled(self) -> list[tuple[str, str]]:
        """The fields that have values."""
        return [(label, value) for label, value in self.fields if value]

    @property
    def empty(self) -> list[str]:
        """The labels of the fields that are empty."""
        return [label for label, value in self.fields if not value]


def make(rng: random.Random, language: Language) -> Sample:
    """Makes a form in a language."""
    form = _random_form(rng, language)
    caption, detail = _describe(form, language, rng)
    return picture_sample(
        rng, _lay_out(form, language, rng).picture(), caption=caption, detail=detail,
        asked=_questions(form, language, rng),
    )  # fmt: skip


def _random_form(rng: random.Random, language: Language) -> Form:
    words, phrases = language.words, language.form
    number = f"{rng.choice('ABCDEFGHK')}{rng.randint(100, 9999)}"
    fields = [
        (phrases.name, rng.choice(words.people)), (phrases.birth, random_date(rng, words)),
        (phrases.city, rng.choice(words.cities)), (phrases.street, rng.choice(words.streets)),
        (phrases.phone, random_phone(rng)), (phrases.job, rng.choice(words.jobs)),
        (phrases.date, random_date(rng, words)), (phrases.number, number),
    ]  # fmt: skip
    chosen = sorted(rng.sample(range(len(fields)), rng.randint(3, 6)))
    blank = set(rng.sample(chosen, rng.choice((0, 0, 1, 1, 2))))
    choice, options, ticked = "", (), ""
    if rng.random() < 0.6:
        choice, options = rng.choice(phrases.choices)
        ticked = rng.choice(options)
    return Form(
        title=rng.choice(phrases.titles),
        fields=tuple((fields[n][0], "" if n in blank else fields[n][1]) for n in chosen),
        choice=choice,
        options=tuple(options),
        ticked=ticked,
    )


def _lay_out(form: Form, language: Language, rng: random.Random) -> Sheet:
    look = random_look(rng, language.face)
    normal, bold = look.letters(), look.letters(bold=True)
    labels = [label for label, _ in form.fields] + ([form.choice] if form.choice else [])
    start = look.margin + max(bold.width(label) for label in labels) + 14
    widest = max(normal.width(value) for _, value in form.fields)
    options = sum(normal.width(option) + 34 for option in form.options)
    heading = look.letters(larger=5, bold=True)
    inner = max(start + max(widest + 24, options, rng.randint(110, 160)) - look.margin,
                heading.width(form.title))  # fmt: skip
    sheet = Sheet(look, inner + 2 * look.margin)
    sheet.line(form.title, letters=heading, side=rng.choice(("left", "middle")), accent=True)
    sheet.rule()
    boxed = rng.random() < 0.5
    for label, value in form.fields:
        sheet.y += 5
        sheet.write(label, letters=bold)
        _frame_field(sheet, start, boxed=boxed, height=normal.line_height)
        sheet.write_at(start + 7, value, letters=normal)
        sheet.y += normal.line_height + 5
    if form.choice:
        sheet.y += 5
        sheet.write(form.choice, letters=bold)
        x = start
        for option in form.options:
            _draw_box(sheet, x, size=normal.size, ticked=option == form.ticked)
            sheet.write_at(x + normal.size + 5, option, letters=normal)
            x += normal.width(option) + 34
        sheet.y += normal.line_height + 5
    return sheet


def _frame_field(sheet: Sheet, start: float, *, boxed: bool, height: int) -> None:
    """Draws the box of a field, or the line it stands on."""
    top, bottom, end, ink = sheet.y - 3, sheet.y + height + 1, sheet.right, (120, 120, 120)

    def draw(canvas: Canvas) -> None:
        if boxed:
            canvas.rectangle(start, top, end, bottom, ink=ink)
        else:
            canvas.line([(start, bottom), (end, bottom)], ink=ink)

    sheet.mark(draw)


def _draw_box(sheet: Sheet, x: float, *, size: int, ticked: bool) -> None:
    top, ink = sheet.y + 1, sheet.look.ink

    def draw(canvas: Canvas) -> None:
        canvas.rectangle(x, top, x + size, top + size, ink=ink)
        if ticked:
            low, high = 3, size - 4
            canvas.line([(x + low, top + low), (x + high, top + high)], ink=ink, thickness=2)
            canvas.line([(x + low, top + high), (x + high, top + low)], ink=ink, thickness=2)

    sheet.mark(draw)


def _describe(form: Form, language: Language, rng: random.Random) -> tuple[str, str]:
    phrases = language.form
    labels = language.join(label for label, _ in form.fields)
    values = {"title": form.title, "labels": labels, "count": str(len(form.fields))}
    caption = rng.choice(fill(phrases.caption, values))
    parts = [caption, phrases.detail.format(fields=language.fields(form.filled))]
    if form.empty:
        parts.append(phrases.empty.format(labels=language.join(form.empty)))
    if form.choice:
        options = language.join(form.options)
        parts.append(phrases.ticked.format(label=form.choice, options=options, ticked=form.ticked))
    return caption, language.gap.join(parts)


def _questions(form: Form, language: Language, rng: random.Random) -> Iterator[Question]:
    phrases = language.form
    for label, value in form.filled:
        yield ask(rng, "form_field", fill(language.ask_field, {"label": label.lower()}), value)
    label, value = rng.choice(form.filled)
    yield ask(rng, "form_label", fill(phrases.ask_label, {"value": value}), label)
    n = rng.randrange(len(form.fields) - 1)
    words = fill(phrases.ask_below, {"label": form.fields[n][0]})
    yield ask(rng, "form_below", words, form.fields[n + 1][0])
    yield ask(rng, "form_title", phrases.ask_title, form.title)
    yield ask(rng, "form_num_empty", phrases.ask_num_empty, str(len(form.empty)))
    if not form.choice:
        yield ask(rng, "form_num_fields", phrases.ask_num_fields, str(len(form.fields)))
    if len(form.empty) == 1:
        yield ask(rng, "form_which_empty", phrases.ask_which_empty, form.empty[0])
    if form.choice:
        values = {"label": form.choice.lower()}
        yield ask(rng, "form_ticked", fill(phrases.ask_ticked, values), form.ticked)
        words = fill(phrases.ask_num_options, values)
        yield ask(rng, "form_num_options", words, str(len(form.options)))
