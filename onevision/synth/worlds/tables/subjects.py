"""What tables of records are about: the noun of a row, and columns of words or of numbers."""

import random
from dataclasses import dataclass

from onevision.synth.kit import lexicon
from onevision.synth.kit.words import split


@dataclass(frozen=True, kw_only=True)
class WordColumn:
    """A column of words from a list."""

    header: str
    words: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class NumberColumn:
    """A column of numbers between two, multiples of `step`; prices have two decimals."""

    header: str
    low: int
    high: int
    step: int = 1
    price: bool = False
    # Whether the header is a plural, and the cells are numbers of such things.
    counted: bool = False
    # What a cell is called, if the header does not say it.
    name: str = ""

    @property
    def phrase(self) -> str:
        """What one cell is called: "age", "number of goals", "mark in Physics"."""
        if self.name:
            return self.name
        return f"number of {self.header.lower()}" if self.counted else self.header.lower()

    def write(self, value: int) -> str:
        """Returns a number as the table shows it."""
        return f"{value / 100:.2f}" if self.price else str(value)


SubjectColumn = WordColumn | NumberColumn


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The noun of one row and of several, the first column, and the columns that may follow."""

    titles: tuple[str, ...]
    noun: str
    nouns: str
    key: str
    keys: tuple[str, ...]
    columns: tuple[SubjectColumn, ...]


def random_column(
    rng: random.Random, column: SubjectColumn, num_rows: int
) -> tuple[list[str], list[int]]:
    """Returns the cells of a column and, of numbers, their values."""
    if isinstance(column, WordColumn):
        # Few different words, so that some repeat and can be counted.
        pool = rng.sample(
            column.words, min(len(column.words), rng.randint(max(2, num_rows // 2), num_rows + 2))
        )
        return rng.choices(pool, k=num_rows), []
    values = [rng.randrange(column.low, column.high + 1, column.step) for _ in range(num_rows)]
    return [column.write(value) for value in values], values


_CITY = WordColumn(header="City", words=lexicon.CITIES)
_PHONES = tuple(str(number) for number in range(203, 800, 7))
_ROOMS = tuple(str(number) for number in range(1, 61))
_PLATFORMS = tuple(str(number) for number in range(1, 15))
_TIMES = tuple(f"{hour}:{minute:02d}" for hour in range(6, 23) for minute in range(0, 60, 5))

SUBJECTS = (
    Subject(
        titles=("Members", "Our Club", "Guests", "Participants", "Contacts"),
        noun="person", nouns="people", key="Name", keys=lexicon.FIRST_NAMES,
        columns=(
            NumberColumn(header="Age", low=9, high=90),
            _CITY,
            WordColumn(header="Job", words=lexicon.JOBS),
            WordColumn(header="Hobby", words=lexicon.HOBBIES),
            NumberColumn(header="Points", low=0, high=100, counted=True),
            WordColumn(header="Sport", words=lexicon.SPORTS),
            NumberColumn(header="Height", low=140, high=199),
            WordColumn(header="Country", words=lexicon.COUNTRIES),
        ),
    ),
    Subject(
        titles=("Price List", "Stock", "Shop", "Inventory", "Warehouse"),
        noun="item", nouns="items", key="Item", keys=lexicon.GOODS,
        columns=(
            NumberColumn(header="Price", low=50, high=2995, step=5, price=True),
            NumberColumn(header="Stock", low=0, high=120),
            NumberColumn(header="Sold", low=0, high=300),
            WordColumn(header="Shelf", words=tuple("ABCDEFGH")),
            NumberColumn(header="Weight", low=50, high=950, step=10),
            WordColumn(header="Origin", words=lexicon.COUNTRIES),
        ),
    ),
    Subject(
        titles=("Cities", "Travel Guide", "City Report", "Weather"),
        noun="city", nouns="cities", key="City", keys=lexicon.CITIES,
        columns=(
            NumberColumn(header="Hotels", low=3, high=240, counted=True),
            NumberColumn(header="Museums", low=0, high=60, counted=True),
            NumberColumn(header="Parks", low=1, high=45, counted=True),
            NumberColumn(header="Rain", low=0, high=95),
            NumberColumn(header="Temperature", low=2, high=39),
            WordColumn(header="Sky", words=split("clear, cloudy, foggy, rainy, snowy, stormy")),
        ),
    ),
    Subject(
        titles=("League", "Results", "Season", "Tournament"),
        noun="team", nouns="teams", key="Team", keys=lexicon.ANIMALS,
        columns=(
            NumberColumn(header="Goals", low=0, high=60, counted=True),
            NumberColumn(header="Points", low=0, high=50, counted=True),
            NumberColumn(header="Wins", low=0, high=18, counted=True),
            NumberColumn(header="Cards", low=0, high=30, counted=True),
            WordColumn(header="Home", words=lexicon.CITIES),
            WordColumn(header="Coach", words=lexicon.SURNAMES),
            WordColumn(header="Colour", words=("red", "blue", "green", "white", "black", "yellow")),
        ),
    ),
    Subject(
        titles=("Departures", "Trains", "Timetable"),
        noun="train", nouns="trains", key="Train",
        keys=tuple(f"{kind} {n}" for kind in ("IC", "RE", "EC") for n in range(101, 900, 37)),
        columns=(
            WordColumn(header="Destination", words=lexicon.CITIES),
            WordColumn(header="Time", words=_TIMES),
            WordColumn(header="Platform", words=_PLATFORMS),
            NumberColumn(header="Delay", low=0, high=45, step=5),
            NumberColumn(header="Stops", low=1, high=19, counted=True),
        ),
    ),
    Subject(
        titles=("Orders", "Open Orders", "Deliveries"),
        noun="order", nouns="orders", key="Order",
        keys=tuple(f"{letter}{n}" for letter in "ABCD" for n in range(104, 990, 31)),
        columns=(
            WordColumn(header="Customer", words=lexicon.SURNAMES),
            WordColumn(header="Item", words=lexicon.GOODS),
            NumberColumn(header="Amount", low=1, high=60),
            NumberColumn(header="Total", low=400, high=9900, step=25, price=True),
            WordColumn(header="Status", words=("open", "paid", "sent", "returned", "cancelled")),
            _CITY,
        ),
    ),
    Subject(
        titles=("Rooms", "Hotel", "Guest House"),
        noun="room", nouns="rooms", key="Room", keys=tuple(str(n) for n in range(101, 420, 3)),
        columns=(
            NumberColumn(header="Beds", low=1, high=6, counted=True),
            NumberColumn(header="Price", low=40, high=240, step=5),
            WordColumn(header="View", words=("sea", "garden", "street", "park", "lake", "hills")),
            WordColumn(header="Guest", words=lexicon.SURNAMES),
            NumberColumn(header="Nights", low=1, high=14, counted=True),
        ),
    ),
    Subject(
        titles=("Staff", "Office", "Team List", "Employees"),
        noun="person", nouns="people", key="Name", keys=lexicon.SURNAMES,
        columns=(
            WordColumn(header="Department", words=lexicon.DEPARTMENTS),
            WordColumn(header="Phone", words=_PHONES),
            WordColumn(header="Room", words=_ROOMS),
            NumberColumn(header="Salary", low=1800, high=6400, step=100),
            WordColumn(header="Job", words=lexicon.JOBS),
            WordColumn(header="Day off", words=lexicon.FULL_WEEKDAYS),
        ),
    ),
    Subject(
        titles=("Marks", "Report", "Test Scores"),
        noun="pupil", nouns="pupils", key="Pupil", keys=lexicon.FIRST_NAMES,
        columns=tuple(
            NumberColumn(header=subject, low=20, high=100, name=f"mark in {subject}")
            for subject in lexicon.SUBJECTS
        ),
    ),
)  # fmt: skip
