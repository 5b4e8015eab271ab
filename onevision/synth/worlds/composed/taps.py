"""Four screens of a phone, with a tap between each two: an app, a switch, or the way back.

  first      second     third      fourth      What was tapped between the first and the second
+-------+  +-------+  +-------+  +-------+     screen?                             red star
| *   o |  | < *   |  | < *   |  | *   o |     What are the three taps, in order?
|       |  | @ ( ) |  | @ (O) |  |       |         red star, blue ring, back
| ^   # |  | + ( ) |  | + ( ) |  | ^   # |
+-------+  +-------+  +-------+  +-------+
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from onevision.synth.kit.questions import picture_sample
from onevision.synth.kit.splits import draw_apart
from onevision.synth.kit.words import ORDINALS, yes_or_no
from onevision.synth.sample import Question, Sample, Split, ask, rng_for
from onevision.synth.worlds.composed.tap_screens import (
    NUM_APPS,
    NUM_SWITCHES,
    Phone,
    describe,
    draw_phone,
    random_phone,
    random_phone_look,
)

NUM_TAPS = 3
BACK = "back"
# How questions name the answers.
FORMS = f'a thing or "{BACK}"'


@dataclass(frozen=True, kw_only=True)
class Session:
    """The screens of a phone, and what was tapped between each two."""

    screens: tuple[Phone, ...]
    taps: tuple[str, ...]

    @property
    def num_switched(self) -> int:
        """How many taps were on switches: those that leave the page as it is."""
        return sum(a.page is not None and a.page == b.page for a, b in pairwise(self.screens))


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th sequence of screens of a split."""
    rng = rng_for(split, "taps", index)
    session, look = draw_apart(split, rng, _random_session, _describe), random_phone_look(rng)
    return picture_sample(
        rng,
        *(draw_phone(screen, look) for screen in session.screens),
        caption="Four screens of a phone, with a tap between each two.",
        detail=_describe(session),
        asked=_questions(session, rng),
    )


def _random_session(rng: random.Random) -> Session:
    """Taps three times at random; the way back is rarer than a switch."""
    screens, taps = [random_phone(rng)], list[str]()
    for _ in range(NUM_TAPS):
        screen = screens[-1]
        if screen.page is None:
            app = rng.randrange(NUM_APPS)
            screens.append(replace(screen, page=app))
            taps.append(screen.apps[app].name)
        elif rng.random() < 0.35:
            screens.append(replace(screen, page=None))
            taps.append(BACK)
        else:
            switch = rng.randrange(NUM_SWITCHES)
            screens.append(screen.flip(switch))
            taps.append(screen.switches[switch].name)
    return Session(screens=tuple(screens), taps=tuple(taps))


def _describe(session: Session) -> str:
    """Says what the first screen shows, and what was tapped."""
    first = describe(session.screens[0])
    return f"First: {first} The taps are: {', '.join(session.taps)}."


def _questions(session: Session, rng: random.Random) -> Iterator[Question]:
    """Asks for the taps."""
    for n, tap in enumerate(session.taps):
        words: tuple[str, ...] = (
            f"What was tapped between the {ORDINALS[n]} and the {ORDINALS[n + 1]} screen: {FORMS}?",
            f"Which tap leads from the {ORDINALS[n]} to the {ORDINALS[n + 1]} screen: {FORMS}?",
        )
        yield ask(rng, "tap", words, tap)
    words = (
        f"What are the three taps, in order, each {FORMS}?",
        f"Name the three taps, one after the other: each is {FORMS}.",
    )
    yield ask(rng, "all_taps", words, ", ".join(session.taps))
    words = ("How many of the three taps were on switches?",)
    yield ask(rng, "count_switches", words, str(session.num_switched))
    backs = session.taps.count(BACK)
    if backs == 1:
        words = ("After which screen was the way back tapped?",)
        yield ask(rng, "back_after", words, ORDINALS[session.taps.index(BACK)])
    words = ("Was the way back ever tapped?",)
    yield ask(rng, "ever_back", words, yes_or_no(backs))
