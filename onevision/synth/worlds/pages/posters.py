"""Posters: what happens when and where, what it costs and whom to call, without labels.

███ JAZZ NIGHT ███        Which event is announced?   Jazz Night
 Sat 14 May 2024          Where does it take place?   Town Hall
 19:30, Town Hall         How much is the entry?      $8
  Entry: $8
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from onevision.synth.kit.canvas import WHITE, Canvas
from onevision.synth.kit.questions import picture_sample
from onevision.synth.kit.shapes import COLOURS
from onevision.synth.sample import Question, Sample, ask
from onevision.synth.worlds.pages.language import (
    Language,
    fill,
    random_date,
    random_phone,
    random_time,
)
from onevision.synth.worlds.pages.sheet import Sheet, random_look

BANDS = ("red", "blue", "green", "purple", "brown")


@dataclass(frozen=True, kw_only=True)
class Poster:
    """An event and its circumstances, as they are printed."""

    event: str
    date: str
    time: str
    place: str
    price: str
    phone: str
    band: str


def make(rng: random.Random, language: Language) -> Sample:
    """Makes a poster in a language."""
    words = language.words
    free = rng.random() < 0.15
    price = f"{rng.choice(words.currencies)}{rng.randint(2, 95)}"
    poster = Poster(
        event=rng.choice(words.events),
        date=random_date(rng, words),
        time=random_time(rng),
        place=rng.choice(words.venues),
        price=language.poster.free if free else price,
        phone=random_phone(rng),
        band=rng.choice(BANDS),
    )
    values = {
        "event": poster.event, "date": poster.date, "time": poster.time, "place": poster.place,
        "price": poster.price, "phone": poster.phone, "colour": language.colour(poster.band),
    }  # fmt: skip
    caption = rng.choice(fill(language.poster.caption, values))
    return picture_sample(
        rng, _lay_out(poster, language, rng).picture(), caption=caption,
        detail=f"{caption}{language.gap}{language.poster.detail.format_map(values)}",
        asked=_questions(poster, language, rng),
    )  # fmt: skip


def _lay_out(poster: Poster, language: Language, rng: random.Random) -> Sheet:
    look = random_look(rng, language.face)
    title = look.letters(larger=rng.randint(6, 12), bold=True)
    large, normal = look.letters(larger=3, bold=True), look.letters(larger=1)
    entry = rng.choice(language.poster.entry).format(price=poster.price)
    lines = [
        (poster.date, large), (poster.time, large), (poster.place, normal), (entry, normal),
        (language.poster.phone.format(phone=poster.phone), normal),
    ]  # fmt: skip
    if rng.random() < 0.5:
        lines[0], lines[2] = (poster.date, normal), (poster.place, large)
    widest = max(title.width(poster.event), *(letters.width(text) for text, letters in lines))
    sheet = Sheet(look, widest + 2 * look.margin + rng.randint(10, 50))
    band, height = COLOURS[poster.band], title.line_height + 16

    def draw(canvas: Canvas) -> None:
        canvas.rectangle(0, 0, sheet.width, height, fill=band)
        middle = (sheet.width / 2, height / 2)
        canvas.text(*middle, poster.event, letters=title, ink=WHITE, anchor="mm")

    sheet.mark(draw)
    sheet.y = height + 14
    for text, letters in lines:
        sheet.line(text, letters=letters, side="middle")
        sheet.y += 7
    return sheet


def _questions(poster: Poster, language: Language, rng: random.Random) -> Iterator[Question]:
    phrases = language.poster
    yield ask(rng, "poster_event", phrases.ask_event, poster.event)
    yield ask(rng, "poster_date", phrases.ask_date, poster.date)
    yield ask(rng, "poster_time", phrases.ask_time, poster.time)
    yield ask(rng, "poster_place", phrases.ask_place, poster.place)
    yield ask(rng, "poster_price", phrases.ask_price, poster.price)
    yield ask(rng, "poster_phone", phrases.ask_phone, poster.phone)
    yield ask(rng, "poster_band", phrases.ask_band, language.colour(poster.band))
