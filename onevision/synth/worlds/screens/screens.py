"""Windows, dialog boxes, menus and phones, with every control in some state.

+---------------------------+   What is typed in the field "Name"?   Ada Lind
| Booking              _ o x|   Which button is greyed out?          Print
| Name    [ Ada Lind      ] |   Which "Seat" is chosen?              Aisle
| Seat  ( ) Window (o) Aisle|   How many boxes are ticked?           1
| [x] Gift wrap  [ ] Loop   |   Which button is left of "Save"?      Print
|        ( Print ) ( Save ) |   Is "Gift wrap" ticked or empty?      ticked
+---------------------------+
"""

import random
from collections.abc import Callable

from PIL import Image as PIL
from PIL import ImageDraw
from PIL.Image import Image as PillowImage

from onevision.synth.kit.questions import ask_twice, picture_sample
from onevision.synth.kit.shapes import Colour
from onevision.synth.kit.words import article, join, number_of
from onevision.synth.sample import Sample, Split, rng_for
from onevision.synth.worlds.screens.layouts import TITLE_BAR, Screen, random_screen
from onevision.synth.worlds.screens.questions import QUESTIONS
from onevision.synth.worlds.screens.setting_questions import NOUNS
from onevision.synth.worlds.screens.widgets import Theme, Widget, draw_widget

ACCENTS: dict[str, Colour] = {
    "blue": (35, 100, 220),
    "green": (30, 145, 75),
    "purple": (130, 65, 190),
    "orange": (230, 120, 20),
    "red": (205, 45, 50),
}
DESKTOPS: tuple[Colour, ...] = ((70, 110, 140), (120, 140, 110), (95, 85, 120), (150, 150, 150))
PHONES = ("phone", "home screen")


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th screen of a split."""
    rng = rng_for(split, "screens", index)
    screen = random_screen(rng, random_theme(rng))
    picture, asked = draw_screen(screen, rng), ask_twice(QUESTIONS, screen, rng)
    return picture_sample(
        rng, picture, caption=_caption(screen), detail=_detail(screen), asked=asked
    )


def draw_screen(screen: Screen, rng: random.Random) -> PillowImage:
    """Draws a phone as it is, a window on a piece of desktop."""
    theme = screen.theme
    margin = 0 if screen.kind in PHONES else rng.randint(4, 24)
    size = (screen.width + 2 * margin, screen.height + 2 * margin)
    picture = PIL.new("RGB", (screen.width, screen.height), theme.panel)
    pen = ImageDraw.Draw(picture)
    if screen.kind in PHONES:
        _status_bar(pen, screen)
    else:
        _title_bar(pen, screen)
    items = screen.of_kind("item")
    if items:
        first, last = items[0], items[-1]
        box = (first.left - 1, first.top - 1, first.left + first.width + 1, last.top + last.height)
        pen.rectangle(box, fill=theme.field, outline=theme.line)
    for widget in screen.widgets:
        draw_widget(pen, widget, theme)
    desktop = PIL.new("RGB", size, rng.choice(DESKTOPS))
    desktop.paste(picture, (margin, margin))
    return desktop


def _title_bar(pen: ImageDraw.ImageDraw, screen: Screen) -> None:
    """Draws the top of a window: its title and the cross that closes it."""
    theme = screen.theme
    height = (TITLE_BAR - 0.4) * theme.size
    right, middle, arm = screen.width - theme.size, height / 2, theme.size * 0.28
    pen.rectangle((0, 0, screen.width, height), fill=theme.face)
    pen.rectangle((0, 0, screen.width - 1, screen.height - 1), outline=theme.line)
    theme.letters.write(pen, theme.size * 0.8, middle, screen.title, ink=theme.ink, anchor="lm")
    for sign in (-1, 1):
        ends = (right - arm, middle - sign * arm, right + arm, middle + sign * arm)
        pen.line(ends, fill=theme.ink, width=2)


def _status_bar(pen: ImageDraw.ImageDraw, screen: Screen) -> None:
    """Draws the top of a phone: the time and the charge."""
    theme, middle = screen.theme, screen.theme.size
    pen.rectangle((0, 0, screen.width - 1, screen.height - 1), outline=theme.line)
    theme.letters.write(pen, theme.size, middle, screen.clock, ink=theme.ink, anchor="lm")
    right = screen.width - theme.size
    theme.letters.write(pen, right, middle, screen.charge, ink=theme.ink, anchor="rm")


def random_theme(rng: random.Random) -> Theme:
    """Chooses light or dark, an accent colour, a text size and how round corners are."""
    accent = rng.choice(list(ACCENTS))
    size, corner = rng.randint(11, 16), rng.choice((0, 3, 6, 9))
    if rng.random() < 0.65:
        grey = rng.randint(240, 252)
        return Theme(
            name="light", panel=(grey, grey, grey), face=(222, 224, 228), field=(255, 255, 255),
            line=(165, 168, 172), ink=(25, 25, 28), faint=(176, 178, 182),
            accent_name=accent, accent=ACCENTS[accent], size=size, corner=corner,
        )  # fmt: skip
    grey = rng.randint(28, 46)
    return Theme(
        name="dark", panel=(grey, grey, grey + 3), face=(74, 76, 82), field=(20, 20, 22),
        line=(110, 112, 118), ink=(238, 238, 240), faint=(104, 105, 110),
        accent_name=accent, accent=ACCENTS[accent], size=size, corner=corner,
    )  # fmt: skip


def _caption(screen: Screen) -> str:
    """Describes the kind of a screen and what it holds."""
    named = f'titled "{screen.title}"' if screen.title else f"at {screen.clock}"
    held = [
        number_of(len(screen.of_kind(kind)), noun)
        for kind, noun in NOUNS.items()
        if screen.of_kind(kind)
    ]
    return f"A {screen.theme.name} {screen.kind} {named}, with {join(held)}."


def _detail(screen: Screen) -> str:
    """Describes what every control shows."""
    parts = [_caption(screen)]
    if screen.clock:
        parts.append(f"The clock says {screen.clock} and the battery is at {screen.charge}.")
    parts += [SENTENCES[w.kind](w) for w in screen.widgets if w.kind in SENTENCES]
    return " ".join(parts)


def _condition(item: Widget) -> str:
    """Describes whether a menu entry is highlighted or greyed out."""
    if item.state:
        return " and is highlighted"
    return "" if item.enabled else " and is greyed out"


def _unread(app: Widget) -> str:
    """Describes the number on an app."""
    return f" with the number {app.state}" if app.state else ""


SENTENCES: dict[str, Callable[[Widget], str]] = {
    "button": lambda w: f'A button "{w.label}"{"" if w.enabled else ", greyed out"}.',
    "check box": lambda w: f'The box "{w.label}" is {w.state}.',
    "option": lambda w: f'Under "{w.group}", "{w.label}" is {w.state or "not chosen"}.',
    "switch": lambda w: f'The switch "{w.label}" is {w.state}.',
    "field": lambda w: f'The field "{w.label}" {f"says {w.state}" if w.state else "is empty"}.',
    "list": lambda w: f'"{w.label}" is set to {w.state}.',
    "slider": lambda w: f'The slider "{w.label}" is at {w.state}.',
    "tab": lambda w: f'A tab "{w.label}"{", open" if w.state else ""}.',
    "menu": lambda w: f'A menu "{w.label}"{", open" if w.state else ""}.',
    "item": lambda w: f'The entry "{w.label}" has the short cut {w.group}{_condition(w)}.',
    "app": lambda w: f"{article(w.group).capitalize()} app {w.label}{_unread(w)}.",
    "text": lambda w: f'It says "{w.label.rstrip(".")}".',
}
