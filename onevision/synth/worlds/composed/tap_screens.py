"""One screen of a phone whose apps and switches are shapes: its home screen, or an app's page.

+---------+ +---------+    Which app is at the top left?                 red star
| *   o   | | <  *    |    Is the switch of the blue ring on or off?     on
|         | | @   (O) |    How many switches are on?                     1
| ^   #   | | +   ( ) |    Whose page is this?                           red star
+---------+ +---------+
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from PIL.Image import Image as PillowImage

from onevision.synth.kit.canvas import Canvas
from onevision.synth.kit.questions import picture_sample
from onevision.synth.kit.shapes import COLOURS, Colour, Look, random_looks
from onevision.synth.kit.splits import draw_apart
from onevision.synth.kit.words import join, yes_or_no
from onevision.synth.sample import Question, Sample, Split, ask, rng_for

NUM_APPS, NUM_SWITCHES = 4, 3
PLACES = ("top left", "top right", "bottom left", "bottom right")
WALLS: tuple[Colour, ...] = ((205, 215, 228), (225, 218, 205), (60, 66, 82))
TILE: Colour = (248, 248, 250)
PAGE: Colour = (242, 242, 245)
HEADER: Colour = (215, 219, 226)
INK: Colour = (45, 48, 55)
ON: Colour = (45, 165, 90)
OFF: Colour = (165, 168, 174)


@dataclass(frozen=True, kw_only=True)
class Phone:
    """Apps, and the switches of every app's page; which page is open, and what is on."""

    apps: tuple[Look, ...]
    switches: tuple[Look, ...]
    # The number of the open app, from 0; None on the home screen.
    page: int | None
    # What is on, by app and switch.
    states: Mapping[tuple[int, int], bool]

    def switch_on(self, switch: int) -> bool:
        """Whether a switch of the open page is on."""
        assert self.page is not None
        return self.states[self.page, switch]

    def flip(self, switch: int) -> "Phone":
        """Returns the phone after a tap on a switch of the open page."""
        assert self.page is not None
        place = (self.page, switch)
        return replace(self, states={**self.states, place: not self.states[place]})


@dataclass(frozen=True, kw_only=True)
class PhoneLook:
    """What does not change from screen to screen."""

    side: int
    wall: Colour


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th screen of a split."""
    rng = rng_for(split, "tap_screens", index)
    phone = draw_apart(split, rng, random_phone, describe)
    shown = "home screen" if phone.page is None else "page of an app"
    return picture_sample(
        rng,
        draw_phone(phone, random_phone_look(rng)),
        caption=f"The {shown} of a phone.",
        detail=f"The {shown} of a phone. {describe(phone)}",
        asked=_ask_home(phone, rng) if phone.page is None else _ask_page(phone, rng),
    )


def random_phone(rng: random.Random) -> Phone:
    """Chooses apps, switches and what is on."""
    looks = random_looks(rng, NUM_APPS + NUM_SWITCHES)
    return Phone(
        apps=tuple(looks[:NUM_APPS]),
        switches=tuple(looks[NUM_APPS:]),
        page=rng.choice((None, rng.randrange(NUM_APPS))),
        states={
            (app, switch): rng.random() < 0.5
            for app in range(NUM_APPS)
            for switch in range(NUM_SWITCHES)
        },
    )


def random_phone_look(rng: random.Random) -> PhoneLook:
    """Chooses a size and a background."""
    return PhoneLook(side=rng.randint(98, 120), wall=rng.choice(WALLS))


def describe(phone: Phone) -> str:
    """Says what a screen shows."""
    if phone.page is None:
        told = zip(phone.apps, PLACES, strict=True)
        return f"The apps are {join(f'the {look.name} at the {place}' for look, place in told)}."
    told_switches = join(
        f"the {look.name} {_state(phone, n)}" for n, look in enumerate(phone.switches)
    )
    return f"The page of the {phone.apps[phone.page].name} has the switches {told_switches}."


def _state(phone: Phone, switch: int) -> str:
    return "on" if phone.switch_on(switch) else "off"


def draw_phone(phone: Phone, look: PhoneLook) -> PillowImage:
    """Draws the open screen."""
    return _draw_home(phone, look) if phone.page is None else _draw_page(phone, look)


def _draw_home(phone: Phone, look: PhoneLook) -> PillowImage:
    """Draws four apps on tiles."""
    side, half = look.side, 0.19 * look.side
    canvas = Canvas(side, side, ground=TILE)
    canvas.rectangle(0, 0, side, side, fill=look.wall)
    for n, app in enumerate(phone.apps):
        x, y = (0.27 + 0.46 * (n % 2)) * side, (0.27 + 0.46 * (n // 2)) * side
        canvas.rectangle(x - half, y - half, x + half, y + half, fill=TILE, radius=0.3 * half)
        canvas.shape(app.shape, x, y, 0.125 * side, fill=COLOURS[app.colour])
    return canvas.picture()


def _draw_page(phone: Phone, look: PhoneLook) -> PillowImage:
    """Draws the arrow back, the app that is open, and its switches."""
    assert phone.page is not None
    side, app = look.side, phone.apps[phone.page]
    canvas = Canvas(side, side, ground=PAGE)
    tip, edge, middle, half = 0.07 * side, 0.17 * side, 0.13 * side, 0.06 * side
    canvas.line([(0, 0.26 * side), (side, 0.26 * side)], ink=HEADER, thickness=2)
    canvas.polygon([(tip, middle), (edge, middle - half), (edge, middle + half)], fill=INK)
    canvas.shape(app.shape, 0.5 * side, middle, 0.095 * side, fill=COLOURS[app.colour])
    for n, switch in enumerate(phone.switches):
        y, is_on = (0.39 + 0.235 * n) * side, phone.switch_on(n)
        canvas.shape(switch.shape, 0.2 * side, y, 0.095 * side, fill=COLOURS[switch.colour])
        left, right, reach = 0.58 * side, 0.88 * side, 0.075 * side
        track = ON if is_on else OFF
        canvas.rectangle(left, y - reach, right, y + reach, fill=track, radius=reach)
        knob = right - reach if is_on else left + reach
        canvas.circle(knob, y, 0.8 * reach, fill=TILE)
    return canvas.picture()


def _ask_home(phone: Phone, rng: random.Random) -> Iterator[Question]:
    for app, place in zip(phone.apps, PLACES, strict=True):
        words: tuple[str, ...] = (f"Which app is at the {place}?", f"What is at the {place}?")
        yield ask(rng, "app_at", words, app.name)
        words = (f"Where is the app with the {app.name}?",)
        yield ask(rng, "where", words, place)
    words = ("Is this the home screen?",)
    yield ask(rng, "is_home", words, "yes")


def _ask_page(phone: Phone, rng: random.Random) -> Iterator[Question]:
    assert phone.page is not None
    for n, look in enumerate(phone.switches):
        words: tuple[str, ...] = (f"Is the switch of the {look.name} on or off?",)
        yield ask(rng, "state", words, _state(phone, n))
    words = ("Whose page is this?", "Which app is open?")
    yield ask(rng, "page", words, phone.apps[phone.page].name)
    on = [look.name for n, look in enumerate(phone.switches) if phone.switch_on(n)]
    words = ("How many switches are on?",)
    yield ask(rng, "count_on", words, str(len(on)))
    for names, word in ((on, "on"), ([s.name for s in phone.switches if s.name not in on], "off")):
        if len(names) == 1:
            words = (f"Which switch is {word}?", f"Which is the only switch that is {word}?")
            yield ask(rng, f"only_{word}", words, names[0])
    words = ("Is this the home screen?",)
    yield ask(rng, "is_home", words, yes_or_no(phone.page is None))
