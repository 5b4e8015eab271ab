"""A screen -> questions about all that is on it: settings, titles, order, menus, apps.

File  [Edit]  View            Which menu is open?                 Edit
| Undo    Ctrl+U |      What is the short cut of "Undo"?    Ctrl+U
| Paste   Alt+K  |      Which menu entry is below "Undo"?   Paste
"""

import random
from collections.abc import Callable

from onevision.synth.kit.words import article, plural, yes_or_no
from onevision.synth.sample import Question, ask
from onevision.synth.worlds.screens import words as screen_words
from onevision.synth.worlds.screens.layouts import Screen
from onevision.synth.worlds.screens.setting_questions import NOUNS, SETTINGS
from onevision.synth.worlds.screens.widgets import Widget


def _ask_title(screen: Screen, rng: random.Random) -> Question | None:
    """Asks for the title."""
    if not screen.title:
        return None
    words = ("What is the title of this screen?", "Which title stands at the top?")
    return ask(rng, "title", words, screen.title)


def _ask_clock(screen: Screen, rng: random.Random) -> Question | None:
    """Asks what the status bar of a phone says."""
    if not screen.clock:
        return None
    if rng.random() < 0.5:
        words = ("What time does the phone show?", "What time is it on the screen?")
        return ask(rng, "clock", words, screen.clock)
    words = ("What is the charge of the battery?", "How full is the battery?")
    return ask(rng, "battery", words, screen.charge)


def _ask_open(screen: Screen, rng: random.Random) -> Question | None:
    """Asks which tab or menu is open."""
    kind = rng.choice(("tab", "menu"))
    labels = [w.label for w in screen.of_kind(kind) if w.state == "open"]
    if not labels:
        return None
    words = (f"Which {kind} is open?", f"What is the name of the open {kind}?")
    return ask(rng, "open", words, labels[0])


def _ask_shortcut(screen: Screen, rng: random.Random) -> Question | None:
    """Asks for short cuts, or for the highlighted entry of a menu."""
    if not screen.of_kind("item"):
        return None
    w = rng.choice(screen.of_kind("item"))
    kind = rng.random()
    if kind < 0.4:
        words = (f'What is the short cut of "{w.label}"?', f'Which keys stand beside "{w.label}"?')
        return ask(rng, "short_cut", words, w.group)
    if kind < 0.7:
        words = (f"Which menu entry has the short cut {w.group}?", f"What does {w.group} do?")
        return ask(rng, "short_cut", words, w.label)
    lit = next(w for w in screen.of_kind("item") if w.state)
    words = ("Which menu entry is highlighted?", "Which entry of the menu is marked by a bar?")
    return ask(rng, "highlighted", words, lit.label)


def _ask_next_to(screen: Screen, rng: random.Random) -> Question | None:
    """Asks what follows a control of the same kind, in its row or in its column."""
    kind, side, before = rng.choice(SIDES)
    widgets = screen.of_kind(kind)
    pairs = [(a, b) for a in widgets for b in widgets if before(a, b)]
    if not pairs:
        return None
    a, b = rng.choice(pairs)
    if rng.random() < 0.5:
        a, b, side = b, a, OPPOSITES[side]
    words = (
        f'Which {NOUNS[kind]} is directly {side} "{a.label}"?',
        f'What is the {NOUNS[kind]} directly {side} "{a.label}" called?',
    )
    return ask(rng, "next_to", words, b.label)


def _ask_badge(screen: Screen, rng: random.Random) -> Question | None:
    """Asks for the numbers on apps."""
    marked = [w for w in screen.of_kind("app") if w.state]
    if not marked:
        return None
    w, kind = rng.choice(marked), rng.random()
    if kind < 0.35:
        words = (f"How many messages wait in {w.label}?", f"Which number is on {w.label}?")
        return ask(rng, "badge", words, w.state)
    if kind < 0.7:
        words = (f"Which app shows the number {w.state}?", f"On which app is a {w.state}?")
        return ask(rng, "badge", words, w.label)
    words = ("How many apps show a number?", "How many apps have unread messages?")
    return ask(rng, "count_badges", words, str(len(marked)))


def _ask_icon(screen: Screen, rng: random.Random) -> Question | None:
    """Asks for the colour of an app's icon."""
    if not screen.of_kind("app"):
        return None
    w = rng.choice(screen.of_kind("app"))
    words = (f"What colour is the icon of {w.label}?", f"Which colour has the app {w.label}?")
    return ask(rng, "icon_colour", words, w.group)


def _ask_count(screen: Screen, rng: random.Random) -> Question | None:
    """Asks for a number of controls; not of buttons, as the cross in the corner may be one."""
    kinds = [kind for kind in NOUNS if kind != "button" and screen.of_kind(kind)]
    if not kinds:
        return None
    kind = rng.choice(kinds)
    nouns = plural(NOUNS[kind])
    words = (f"How many {nouns} are there?", f"Count the {nouns}.", f"How many {nouns} do you see?")
    return ask(rng, "count", words, str(len(screen.of_kind(kind))))


def _ask_file(screen: Screen, rng: random.Random) -> Question | None:
    """Asks for the file that a message is about."""
    messages = [w for w in screen.of_kind("text") if w.group]
    if not messages:
        return None
    words = ("Which file is the message about?", "What is the name of the file in the message?")
    return ask(rng, "file", words, messages[0].group)


def _ask_exists(screen: Screen, rng: random.Random) -> Question | None:
    """Asks whether there is a control with some label."""
    kind, noun = rng.choice((("button", "button"), ("app", "app"), ("tab", "tab")))
    labels = [w.label for w in screen.of_kind(kind)]
    if not labels:
        return None
    others = [extra for extra in EXTRAS[kind] if extra not in labels]
    label = rng.choice(rng.choice((labels, others)))
    words = (f'Is there {article(noun)} "{label}"?', f'Do you see {article(noun)} "{label}"?')
    return ask(rng, "exists", words, yes_or_no(label in labels))


def _beside(a: Widget, b: Widget) -> bool:
    """Whether `b` is the next control to the right of `a`."""
    return a.top == b.top and 0 < b.left - a.left - a.width + 1 < 0.6 * a.width


def _under(a: Widget, b: Widget) -> bool:
    """Whether `b` is the next control below `a`."""
    return a.left == b.left and 0 < b.top - a.top - a.height + 1 < 0.6 * a.height


SIDES: tuple[tuple[str, str, Callable[[Widget, Widget], bool]], ...] = (
    ("button", "to the right of", _beside),
    ("tab", "to the right of", _beside),
    ("menu", "to the right of", _beside),
    ("app", "to the right of", _beside),
    ("app", "below", _under),
    ("switch", "below", _under),
    ("check box", "below", _under),
    ("item", "below", _under),
    ("field", "below", _under),
)
OPPOSITES = {"to the right of": "to the left of", "below": "above"}
EXTRAS = {
    "button": tuple(label for labels in screen_words.BUTTONS.values() for label in labels),
    "app": screen_words.APPS,
    "tab": (*screen_words.TABS, *screen_words.PHONE_TABS),
}
QUESTIONS: tuple[Callable[[Screen, random.Random], Question | None], ...] = (
    *SETTINGS,
    _ask_title,
    _ask_clock,
    _ask_open,
    _ask_shortcut,
    _ask_next_to,
    _ask_badge,
    _ask_icon,
    _ask_count,
    _ask_file,
    _ask_exists,
)
