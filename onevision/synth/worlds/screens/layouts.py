"""Random screens with their widgets in place: dialogs, forms, settings, menus, phones.

+--------------------------+   +--------------------+   +-------------+
| Export              _ [] x|  | File [Edit] View   |   | 9:41    80% |
| Name   [ Ada          ]  |   |  | Undo   Ctrl+Z | |   | Settings    |
| [x] Include pictures     |   |  | Paste  Ctrl+V | |   | Wi-Fi   (O) |
|        ( Cancel ) ( Save)|   |  +---------------+ |   | Home  You   |
+--------------------------+   +--------------------+   +-------------+
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from onevision.synth.worlds.screens import words
from onevision.synth.worlds.screens.widgets import APP_COLOURS, Theme, Widget


@dataclass(frozen=True, kw_only=True)
class Screen:
    """A window or a phone: its size, its title, its widgets in reading order."""

    kind: str
    title: str
    theme: Theme
    width: int
    height: int
    widgets: tuple[Widget, ...]
    # What the status bar of a phone says.
    clock: str = ""
    charge: str = ""

    def of_kind(self, kind: str) -> list[Widget]:
        """Returns the widgets of a kind, in reading order."""
        return [w for w in self.widgets if w.kind == kind]


# A window's margin and the heights of its title bar and of a row, in text heights.
MARGIN, TITLE_BAR, ROW = 1.0, 2.2, 2.0


def random_screen(rng: random.Random, theme: Theme) -> Screen:
    """Makes a screen of one of the kinds."""
    return rng.choice(LAYOUTS)(rng, theme)


def _dialog(rng: random.Random, theme: Theme) -> Screen:
    """A message, sometimes a box to tick, and one to three buttons."""
    file = rng.choice(words.FILES)
    message = rng.choice(words.MESSAGES).format(file)
    rows = [Widget(kind="text", label=message, group=file)]
    if rng.random() < 0.6:
        label = rng.choice(words.REMARKS)
        rows.append(Widget(kind="check box", label=label, state=rng.choice(words.TICKS)))
    buttons = _buttons(rng, rng.randint(2, 3))
    width = max(20 * theme.size, theme.letters.width(message) + 3 * theme.size)
    return _window(rng.choice(words.TITLES), rows, buttons, width, theme, kind="dialog box")


def _form(rng: random.Random, theme: Theme) -> Screen:
    """Text fields, options, boxes to tick and lists to choose from, with buttons below."""
    names = rng.sample(list(words.FIELDS), rng.randint(2, 4))
    empty = rng.choice([*names, None, None])
    caret = rng.choice(names)
    rows = [
        Widget(
            kind="field",
            label=name,
            state="" if name == empty else rng.choice(words.FIELDS[name]),
            group="caret" if name == caret else "",
        )
        for name in names
    ]
    if rng.random() < 0.6:
        label = rng.choice(list(words.LISTS))
        rows.append(Widget(kind="list", label=label, state=rng.choice(words.LISTS[label])))
    rows += _options(rng) if rng.random() < 0.5 else _check_boxes(rng, rng.randint(2, 4))
    return _window(rng.choice(words.TITLES), rows, _buttons(rng, 2), 21 * theme.size, theme)


def _settings(rng: random.Random, theme: Theme) -> Screen:
    """Tabs above switches or boxes to tick, sliders and a list."""
    rows = rng.choice((_switches, _check_boxes))(rng, rng.randint(3, 5))
    sliders = rng.sample(words.SLIDERS, rng.randint(0, 2))
    rows += [Widget(kind="slider", label=s, state=str(rng.randint(0, 20) * 5)) for s in sliders]
    label = rng.choice(list(words.LISTS))
    rows.append(Widget(kind="list", label=label, state=rng.choice(words.LISTS[label])))
    tabs = _strip(rng, "tab", words.TABS, rng.randint(3, 4))
    title = rng.choice(words.SETTINGS)
    return _window(title, rows, _buttons(rng, 2), 23 * theme.size, theme, tabs=tabs)


def _menu(rng: random.Random, theme: Theme) -> Screen:
    """A menu bar with one menu open."""
    bar = _strip(rng, "menu", list(words.MENUS), rng.randint(4, 5))
    chosen = next(w for w in bar if w.state == "open")
    labels = rng.sample(words.MENUS[chosen.label], rng.randint(4, 6))
    keys = rng.sample(words.KEYS, len(labels))
    lit, grey = rng.sample(range(len(labels)), 2)
    width, pad = 26 * theme.size, theme.size
    top = TITLE_BAR * theme.size
    placed = _across(bar, left=pad / 2, top=top, width=width - pad, theme=theme)
    left = min(next(w.left for w in placed if w.state == "open"), width - 14.5 * pad)
    items = [
        Widget(
            kind="item",
            label=label,
            state="highlighted" if n == lit else "",
            group=f"{rng.choice(words.MODIFIERS)}+{key}",
            enabled=n != grey,
            left=left + 1,
            top=top + ROW * pad * (1 + n) + 1,
            width=14 * pad,
            height=ROW * pad,
        )
        for n, (label, key) in enumerate(zip(labels, keys, strict=True))
    ]
    return Screen(
        kind="window",
        title=rng.choice(words.FILES),
        theme=theme,
        width=round(width),
        height=round(top + ROW * pad * (len(labels) + 2.2)),
        widgets=(*placed, *items),
    )


def _phone(rng: random.Random, theme: Theme) -> Screen:
    """A page of settings on a phone, with tabs at the bottom."""
    rows = _switches(rng, rng.randint(3, 5))
    if rng.random() < 0.7:
        state = str(rng.randint(0, 20) * 5)
        rows.append(Widget(kind="slider", label=rng.choice(words.SLIDERS), state=state))
    heading = Widget(kind="heading", label=rng.choice(words.SETTINGS))
    width, pad = 17 * theme.size, theme.size
    placed = _down([heading, *rows], left=pad, top=2.2 * pad, width=width - 2 * pad, theme=theme)
    tabs = _strip(rng, "tab", words.PHONE_TABS, 3)
    bottom = placed[-1].top + placed[-1].height + rng.uniform(0.5, 4) * pad
    placed += _across(tabs, left=0, top=bottom, width=width, theme=theme)
    return Screen(
        kind="phone",
        title=heading.label,
        theme=theme,
        width=round(width),
        height=round(bottom + 2.6 * pad),
        widgets=tuple(placed),
        clock=f"{rng.randint(1, 12)}:{rng.randint(0, 59):02}",
        charge=f"{rng.randint(3, 100)}%",
    )


def _home(rng: random.Random, theme: Theme) -> Screen:
    """The home screen of a phone: rows of apps, some with unread messages."""
    cols, rows = 3, rng.randint(2, 4)
    names = rng.sample(words.APPS, cols * rows)
    with_badge = set(rng.sample(names, rng.randint(1, 3)))
    badges = iter(rng.sample(range(1, 30), len(with_badge)))
    pad = theme.size
    cell, step = 5.6 * pad, 6.4 * pad
    apps = [
        Widget(
            kind="app",
            label=name,
            state=str(next(badges)) if name in with_badge else "",
            group=rng.choice(list(APP_COLOURS)),
            left=pad / 2 + cell * (n % cols),
            top=3 * pad + step * (n // cols),
            width=cell,
            height=5.2 * pad,
        )
        for n, name in enumerate(names)
    ]
    return Screen(
        kind="home screen",
        title="",
        theme=theme,
        width=round(cols * cell + pad),
        height=round(3.4 * pad + rows * step),
        widgets=tuple(apps),
        clock=f"{rng.randint(1, 12)}:{rng.randint(0, 59):02}",
        charge=f"{rng.randint(3, 100)}%",
    )


def _window(
    title: str,
    rows: Sequence[Widget],
    buttons: Sequence[Widget],
    width: float,
    theme: Theme,
    *,
    tabs: Sequence[Widget] = (),
    kind: str = "window",
) -> Screen:
    """Puts tabs, rows and buttons into a window that fits them."""
    pad = theme.size
    top = TITLE_BAR * pad
    placed = _across(tabs, left=pad, top=top, width=width - 2 * pad, theme=theme)
    top += (ROW * pad if tabs else 0) + 0.7 * pad
    placed += _down(rows, left=pad, top=top, width=width - 2 * pad, theme=theme)
    bottom = placed[-1].top + placed[-1].height + 0.8 * pad
    right = width - pad
    ending: list[Widget] = []
    for button in reversed(buttons):
        wide = max(5 * pad, theme.letters.width(button.label) + 2 * pad)
        right -= wide
        ending.append(replace(button, left=right, top=bottom, width=wide, height=ROW * pad))
        right -= 0.7 * pad
    return Screen(
        kind=kind,
        title=title,
        theme=theme,
        width=round(width),
        height=round(bottom + (ROW + MARGIN) * pad),
        widgets=(*placed, *reversed(ending)),
    )


def _down(
    rows: Sequence[Widget], *, left: float, top: float, width: float, theme: Theme
) -> list[Widget]:
    """Places rows one under the other."""
    height = ROW * theme.size
    return [
        replace(w, left=left, top=top + n * height, width=width, height=height)
        for n, w in enumerate(rows)
    ]


def _across(
    cells: Sequence[Widget], *, left: float, top: float, width: float, theme: Theme
) -> list[Widget]:
    """Places cells of one width beside each other."""
    each = width / max(1, len(cells))
    return [
        replace(w, left=left + n * each, top=top, width=each, height=ROW * theme.size)
        for n, w in enumerate(cells)
    ]


def _buttons(rng: random.Random, count: int) -> list[Widget]:
    """Buttons for different purposes; the last one is filled, and at most one is greyed out."""
    purposes = rng.sample(list(words.BUTTONS), count)
    grey = rng.choice([*range(count), None])
    return [
        Widget(
            kind="button",
            label=rng.choice(words.BUTTONS[purpose]),
            group=purpose,
            state="primary" if n == count - 1 else "",
            enabled=n != grey,
        )
        for n, purpose in enumerate(purposes)
    ]


def _check_boxes(rng: random.Random, count: int) -> list[Widget]:
    """Boxes, each ticked or not."""
    labels = rng.sample(words.CHECKS, count)
    return [Widget(kind="check box", label=x, state=rng.choice(words.TICKS)) for x in labels]


def _switches(rng: random.Random, count: int) -> list[Widget]:
    """Switches, each on or off."""
    labels = rng.sample(words.SWITCHES, count)
    return [Widget(kind="switch", label=x, state=rng.choice(("on", "off"))) for x in labels]


def _options(rng: random.Random) -> list[Widget]:
    """A question, and its possible answers below."""
    name = rng.choice(list(words.OPTIONS))
    labels = rng.sample(words.OPTIONS[name], min(len(words.OPTIONS[name]), rng.randint(2, 4)))
    chosen = rng.choice(labels)
    return [
        Widget(kind="text", label=name),
        *(
            Widget(kind="option", label=x, group=name, state="chosen" if x == chosen else "")
            for x in labels
        ),
    ]


def _strip(rng: random.Random, kind: str, labels: Sequence[str], count: int) -> list[Widget]:
    """Tabs or menus of which one is open."""
    names = rng.sample(labels, count)
    chosen = rng.choice(names)
    return [Widget(kind=kind, label=x, state="open" if x == chosen else "") for x in names]


LAYOUTS: tuple[Callable[[random.Random, Theme], Screen], ...] = (
    _dialog,
    _form,
    _form,
    _settings,
    _menu,
    _phone,
    _home,
)
