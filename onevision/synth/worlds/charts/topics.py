"""What charts are about: a topic, random categories, and their values on the lines of a grid."""

import random
from dataclasses import dataclass

from onevision.synth.kit import lexicon
from onevision.synth.kit.shapes import COLOURS, Colour

# The distance between two labelled grid lines; values are multiples of half that.
STEPS = (2, 10, 10, 20, 50, 100, 200, 1000)
YEARS = tuple(str(year) for year in range(1998, 2031))
HOURS = tuple(f"{hour}:00" for hour in range(6, 22))
GROUP_NAMES = (
    ("Boys", "Girls"), ("Adults", "Children"), ("North", "South"), ("East", "West"),
    ("Plan", "Result"), ("Morning", "Evening"), ("Team A", "Team B"), ("Home", "Away"),
    ("Online", "Shop"), ("Indoor", "Outdoor"), ("Summer", "Winter"), ("Urban", "Rural"),
    ("North", "South", "West"), ("Small", "Medium", "Large"),
    ("Class A", "Class B", "Class C"), ("Bus", "Car", "Train"), ("Old", "New"),
)  # fmt: skip
# Colours that are easy to tell apart, on white and in thin lines.
INKS: dict[str, Colour] = {
    **{name: tint for name, tint in COLOURS.items() if name != "yellow"},
    "grey": (140, 140, 140),
    "black": (30, 30, 30),
}


@dataclass(frozen=True, kw_only=True)
class Topic:
    """A quantity and what it is counted for; `question` asks for the value of one category."""

    quantity: str
    per: str
    names: tuple[str, ...]
    question: str
    # Whether the categories have an order, as months and years do.
    ordered: bool = False

    def title(self, rng: random.Random) -> str:
        """Returns a title for a chart of this topic."""
        return rng.choice((f"{self.quantity} by {self.per}", f"{self.quantity} per {self.per}"))


@dataclass(frozen=True, kw_only=True)
class Series:
    """One value for every category; named if there are several series."""

    name: str
    colour: str
    values: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Data:
    """The content of a chart: categories, one to three series, and the grid's step."""

    topic: Topic
    title: str
    categories: tuple[str, ...]
    series: tuple[Series, ...]
    step: int

    @property
    def values(self) -> tuple[int, ...]:
        """The values of the only series."""
        assert len(self.series) == 1
        return self.series[0].values

    @property
    def top(self) -> int:
        """The value of the highest grid line; no value exceeds it."""
        highest = max(max(series.values) for series in self.series)
        return -(-highest // self.step) * self.step


def random_data(
    rng: random.Random, *, num_series: int, num_categories: int, ordered: bool = False
) -> Data:
    """Generates a topic, its categories and values; no two series meet in a category."""
    topic = rng.choice([t for t in TOPICS if t.ordered or not ordered])
    if topic.ordered:
        num_categories = min(num_categories, len(topic.names))
        first = rng.randrange(len(topic.names) - num_categories + 1)
        categories = topic.names[first : first + num_categories]
    else:
        categories = tuple(rng.sample(topic.names, num_categories))
    step = rng.choice(STEPS)
    levels = range(1, 2 * rng.randint(4, 8) + 1)
    columns = [rng.sample(levels, num_series) for _ in categories]
    names = _series_names(rng, num_series, cities=topic.names is not lexicon.CITIES)
    colours = rng.sample(list(INKS), num_series)
    series = tuple(
        Series(
            name=names[n], colour=colours[n], values=tuple(c[n] * step // 2 for c in columns)
        )
        for n in range(num_series)
    )  # fmt: skip
    return Data(
        topic=topic, title=topic.title(rng), categories=categories, series=series, step=step
    )


def _series_names(rng: random.Random, num_series: int, *, cities: bool) -> tuple[str, ...]:
    if num_series == 1:
        return ("",)
    if cities and rng.random() < 0.5:
        return tuple(rng.sample(lexicon.CITIES, num_series))
    return rng.choice([names for names in GROUP_NAMES if len(names) == num_series])


def _topic(
    quantity: str, per: str, names: tuple[str, ...], question: str, *, ordered: bool = False
) -> Topic:
    return Topic(quantity=quantity, per=per, names=names, question=question, ordered=ordered)


TOPICS = (
    _topic("Books sold", "city", lexicon.CITIES,
           "How many books were sold in {}?"),
    _topic("Trees planted", "year", YEARS, "How many trees were planted in {}?", ordered=True),
    _topic("Rainfall in mm", "month", lexicon.MONTHS,
           "How many millimetres of rain fell in {}?", ordered=True),
    _topic("Visitors", "month", lexicon.MONTHS, "How many visitors came in {}?", ordered=True),
    _topic("Visitors", "weekday", lexicon.WEEKDAYS, "How many visitors came on {}?", ordered=True),
    _topic("Calls", "hour", HOURS, "How many calls were there at {}?", ordered=True),
    _topic("Goals", "player", lexicon.FIRST_NAMES, "How many goals did {} score?"),
    _topic("Votes", "person", lexicon.FIRST_NAMES, "How many votes did {} get?"),
    _topic("Pages read", "pupil", lexicon.FIRST_NAMES, "How many pages did {} read?"),
    _topic("Harvest in kg", "fruit", lexicon.FRUITS, "How many kilograms of {} were harvested?"),
    _topic("Animals", "kind", lexicon.ANIMALS, "How many {} are there?"),
    _topic("Members", "sport", lexicon.SPORTS, "How many members does {} have?"),
    _topic("Points", "subject", lexicon.SUBJECTS, "How many points are given for {}?"),
    _topic("Staff", "department", lexicon.DEPARTMENTS, "How many people work in {}?"),
    _topic("Exports", "country", lexicon.COUNTRIES, "How large are the exports of {}?"),
    _topic("Cups sold", "drink", lexicon.DRINKS, "How many cups of {} were sold?"),
    _topic("Vehicles", "kind", lexicon.VEHICLES, "How many {} were counted?"),
    _topic("Profit", "quarter", ("Q1", "Q2", "Q3", "Q4"), "How large was the profit in {}?",
           ordered=True),
    _topic("Bikes rented", "city", lexicon.CITIES, "How many bikes were rented in {}?"),
    _topic("Sunny hours", "city", lexicon.CITIES, "How many sunny hours did {} have?"),
)  # fmt: skip
