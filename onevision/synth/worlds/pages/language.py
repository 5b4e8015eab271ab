"""What pages say in one language: the words printed on them, and the phrases that ask about them.

Phrases are templates: "What is the {label}?" is filled in with what a page shows. So each kind of
page is written once, for all languages.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from onevision.synth.kit.fonts import Face
from onevision.synth.kit.shapes import COLOURS
from onevision.synth.kit.words import join

Templates = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class WordLists:
    """The lists that pages are filled from."""

    people: Templates
    shops: Templates
    streets: Templates
    cities: Templates
    goods: Templates
    jobs: Templates
    events: Templates
    venues: Templates
    notes: Templates
    stamps: Templates
    things: Templates
    # Whole sentences with {person}, {city}, {day}, {time} and {thing}.
    sentences: Templates
    days: Templates
    months: Templates
    # Dates with {day}, {month} (a name), {number} (of the month) and {year}.
    dates: Templates
    currencies: Templates


@dataclass(frozen=True, kw_only=True)
class ReceiptPhrases:
    """Labels printed on receipts, and questions about goods and amounts."""

    date: str
    time: str
    number: str
    cashier: str
    columns: tuple[str, str, str, str]
    subtotal: str
    tax: str
    total: str
    cash: str
    change: str
    thanks: Templates
    caption: Templates
    detail: str
    good: str
    good_counted: str
    ask_field: Templates
    ask_amount: Templates
    ask_total: Templates
    ask_shop: Templates
    ask_street: Templates
    ask_price: Templates
    ask_unit: Templates
    ask_count: Templates
    ask_sum: Templates
    ask_goods: Templates
    ask_dearest: Templates
    ask_nth: Templates
    ask_tax_rate: Templates


@dataclass(frozen=True, kw_only=True)
class FormPhrases:
    """Labels printed on forms, and questions about fields and ticks."""

    titles: Templates
    name: str
    birth: str
    city: str
    street: str
    phone: str
    job: str
    date: str
    number: str
    choices: tuple[tuple[str, Templates], ...]
    caption: Templates
    detail: str
    empty: str
    ticked: str
    ask_title: Templates
    ask_label: Templates
    ask_below: Templates
    ask_num_fields: Templates
    ask_num_empty: Templates
    ask_which_empty: Templates
    ask_ticked: Templates
    ask_num_options: Templates


@dataclass(frozen=True, kw_only=True)
class LetterPhrases:
    """Openings and closings of letters, and questions about their lines."""

    greetings: Templates
    closings: Templates
    page: Templates
    caption: Templates
    detail: str
    stamp: str
    ask_line: Templates
    ask_num_lines: Templates
    ask_first_word: Templates
    ask_last_word: Templates
    ask_recipient: Templates
    ask_sender: Templates
    ask_date: Templates
    ask_page: Templates
    ask_stamp: Templates
    ask_stamp_colour: Templates
    ask_where_date: Templates
    ask_where_page: Templates
    ask_where_stamp: Templates


@dataclass(frozen=True, kw_only=True)
class BoardPhrases:
    """Questions about notes on a board."""

    caption: Templates
    detail: str
    note: str
    ask_at: Templates
    ask_where: Templates
    ask_colour: Templates
    ask_of_colour: Templates
    ask_count: Templates


@dataclass(frozen=True, kw_only=True)
class PosterPhrases:
    """Words printed on posters, and questions about the event."""

    entry: Templates
    free: str
    phone: str
    caption: Templates
    detail: str
    ask_event: Templates
    ask_date: Templates
    ask_time: Templates
    ask_place: Templates
    ask_price: Templates
    ask_phone: Templates
    ask_band: Templates


@dataclass(frozen=True, kw_only=True)
class Language:
    """All words and phrases of a language, and its letters."""

    face: Face
    words: WordLists
    comma: str
    last: str
    punctuation: str
    # Names of the nine cells of a page, row by row, and of kit.shapes.COLOURS, in their order.
    places: Templates
    colours: Templates
    ordinals: Templates
    # Maximum number of characters in a line of running text.
    line_length: int
    ask_field: Templates
    field: str
    receipt: ReceiptPhrases
    form: FormPhrases
    letter: LetterPhrases
    board: BoardPhrases
    poster: PosterPhrases

    @property
    def gap(self) -> str:
        """What stands between two words, and between two sentences."""
        return " " if self.face == "latin" else ""

    def join(self, items: Iterable[str]) -> str:
        """Joins items to a list with commas and "and"."""
        return join(items, comma=self.comma, last=self.last)

    def colour(self, name: str) -> str:
        """Returns this language's name of a colour."""
        return self.colours[list(COLOURS).index(name)]

    def fields(self, fields: Iterable[tuple[str, str]]) -> str:
        """Reads out labelled fields."""
        return self.comma.join(self.field.format(label=a, value=b) for a, b in fields)


def fill(templates: Templates, values: Mapping[str, str]) -> Templates:
    """Fills the same values into every phrasing."""
    return tuple(template.format_map(values) for template in templates)


def random_date(rng: random.Random, words: WordLists) -> str:
    """Returns a date in one of the language's formats."""
    month = rng.randrange(12)
    return rng.choice(words.dates).format(
        day=rng.randint(1, 28), month=words.months[month], number=month + 1,
        year=rng.randint(1996, 2031),
    )  # fmt: skip


def random_time(rng: random.Random) -> str:
    """Returns a time of day."""
    return f"{rng.randint(7, 21)}:{rng.randrange(0, 60, 5):02d}"


def random_phone(rng: random.Random) -> str:
    """Returns a telephone number."""
    return f"{rng.randint(200, 989)} {rng.randint(1000, 9899)}"
