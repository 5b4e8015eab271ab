"""Widgets -> pixels: the controls that screens are made of, in a light or a dark theme.

    [x] Spell check     (o) Large     Name  [ Ada Lind   ]     ( Save )
    Wi-Fi       (  O)   Size [ A4 v]  Volume  ----o-----  40

`draw_widget` looks up what draws each kind; a widget carries its own place.
"""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import ImageDraw

from onevision.synth.kit.shapes import Colour
from onevision.synth.kit.text import Letters


@dataclass(frozen=True, kw_only=True)
class Widget:
    """One control: its kind, what is written on it, its state and its box in pixels."""

    kind: str
    label: str
    # "on", "ticked", "chosen", a typed text, a number: what the user has set.
    state: str = ""
    # What an option answers, a menu item's short cut, an app's colour or a button's purpose.
    group: str = ""
    enabled: bool = True
    left: float = 0
    top: float = 0
    width: float = 0
    height: float = 0

    @property
    def middle(self) -> float:
        """The y coordinate of the widget's middle."""
        return self.top + self.height / 2


@dataclass(frozen=True, kw_only=True)
class Theme:
    """The colours and the sizes all widgets of a screen share."""

    name: str
    panel: Colour
    face: Colour
    field: Colour
    line: Colour
    ink: Colour
    faint: Colour
    accent_name: str
    accent: Colour
    # Text height, corner radius and the share of a row that labels take.
    size: int
    corner: int
    label_share: float = 0.45

    @property
    def letters(self) -> Letters:
        """The letters of all labels."""
        return Letters(size=self.size)

    def ink_for(self, widget: Widget) -> Colour:
        """The colour of a widget's text: greyed out when it is disabled."""
        return self.ink if widget.enabled else self.faint


Pen = ImageDraw.ImageDraw
WHITE: Colour = (255, 255, 255)


def draw_widget(pen: Pen, widget: Widget, theme: Theme) -> None:
    """Draws one widget where it stands."""
    DRAWINGS[widget.kind](pen, widget, theme)


def _text(pen: Pen, w: Widget, theme: Theme) -> None:
    """Writes a line of text."""
    theme.letters.write(pen, w.left, w.middle, w.label, ink=theme.ink_for(w), anchor="lm")


def _heading(pen: Pen, w: Widget, theme: Theme) -> None:
    """Writes a larger line of text."""
    Letters(size=round(theme.size * 1.35)).write(
        pen, w.left, w.middle, w.label, ink=theme.ink, anchor="lm"
    )


def _button(pen: Pen, w: Widget, theme: Theme) -> None:
    """Draws a button: filled with the accent colour if it is the primary one."""
    primary = w.state == "primary" and w.enabled
    face = theme.accent if primary else theme.face if w.enabled else theme.panel
    box = (w.left, w.top, w.left + w.width, w.top + w.height)
    outline = theme.accent if primary else theme.line
    pen.rounded_rectangle(box, radius=theme.corner, fill=face, outline=outline)
    tint = WHITE if primary else theme.ink_for(w)
    theme.letters.write(pen, w.left + w.width / 2, w.middle, w.label, ink=tint, anchor="mm")


def _check_box(pen: Pen, w: Widget, theme: Theme) -> None:
    """Draws a box, with a tick if it is ticked, and its label."""
    side = round(theme.size * 1.05)
    x, y = w.left, round(w.middle - side / 2)
    ticked = w.state == "ticked"
    tint = theme.accent if w.enabled else theme.faint
    pen.rectangle(
        (x, y, x + side, y + side),
        fill=tint if ticked else theme.field,
        outline=tint if ticked else theme.line,
    )
    if ticked:
        tick = [(x + 0.2 * side, y + 0.55 * side), (x + 0.42 * side, y + 0.78 * side)]
        pen.line([*tick, (x + 0.82 * side, y + 0.25 * side)], fill=WHITE, width=2)
    theme.letters.write(pen, x + 1.6 * side, w.middle, w.label, ink=theme.ink_for(w), anchor="lm")


def _option(pen: Pen, w: Widget, theme: Theme) -> None:
    """Draws a ring, with a dot if it is chosen, and its label."""
    side = round(theme.size * 1.05)
    x, y = w.left, round(w.middle - side / 2)
    chosen = w.state == "chosen"
    outline = theme.accent if chosen else theme.line
    pen.ellipse((x, y, x + side, y + side), fill=theme.field, outline=outline, width=1 + chosen)
    if chosen:
        inset = round(0.28 * side)
        pen.ellipse((x + inset, y + inset, x + side - inset, y + side - inset), fill=theme.accent)
    theme.letters.write(pen, x + 1.5 * side, w.middle, w.label, ink=theme.ink_for(w), anchor="lm")


def _switch(pen: Pen, w: Widget, theme: Theme) -> None:
    """Draws a label and a switch, its knob to the right if it is on."""
    _text(pen, w, theme)
    height = round(theme.size * 1.15)
    width = round(height * 1.9)
    x, y = round(w.left + w.width - width), round(w.middle - height / 2)
    on = w.state == "on"
    track = theme.accent if on else theme.line
    pen.rounded_rectangle((x, y, x + width, y + height), radius=height / 2, fill=track)
    knob = x + width - height if on else x
    pen.ellipse((knob + 2, y + 2, knob + height - 2, y + height - 2), fill=WHITE)


def _inset(pen: Pen, w: Widget, theme: Theme) -> float:
    """Draws a label and the box behind it; returns where the box begins."""
    _text(pen, w, theme)
    x = w.left + theme.label_share * w.width
    box = (x, w.top + 2, w.left + w.width, w.top + w.height - 2)
    face = theme.field if w.enabled else theme.panel
    pen.rounded_rectangle(box, radius=min(4, theme.corner), fill=face, outline=theme.line)
    theme.letters.write(pen, x + 6, w.middle, w.state, ink=theme.ink_for(w), anchor="lm")
    return x


def _field(pen: Pen, w: Widget, theme: Theme) -> None:
    """Draws a text field, with the cursor if it has it."""
    x = _inset(pen, w, theme)
    if w.group == "caret":
        edge = x + 8 + theme.letters.width(w.state)
        pen.line((edge, w.top + 5, edge, w.top + w.height - 6), fill=theme.accent, width=2)


def _list(pen: Pen, w: Widget, theme: Theme) -> None:
    """Draws a field that opens a list."""
    _inset(pen, w, theme)
    half, x, y = theme.size * 0.3, w.left + w.width - theme.size, w.middle
    pen.polygon([(x - half, y - half / 2), (x + half, y - half / 2), (x, y + half)], fill=theme.ink)


def _slider(pen: Pen, w: Widget, theme: Theme) -> None:
    """Draws a label, a slider and its number."""
    _text(pen, w, theme)
    start, end = w.left + theme.label_share * w.width, w.left + w.width - 3 * theme.size
    knob, radius = start + (end - start) * int(w.state) / 100, theme.size * 0.5
    pen.line((start, w.middle, end, w.middle), fill=theme.line, width=3)
    pen.line((start, w.middle, knob, w.middle), fill=theme.accent, width=3)
    pen.ellipse(
        (knob - radius, w.middle - radius, knob + radius, w.middle + radius), fill=theme.accent
    )
    right = w.left + w.width
    theme.letters.write(pen, right, w.middle, w.state, ink=theme.ink, anchor="rm")


def _tab(pen: Pen, w: Widget, theme: Theme) -> None:
    """Draws a tab, underlined if it is open."""
    x, bottom = w.left + w.width / 2, w.top + w.height
    is_open = w.state == "open"
    tint = theme.accent if is_open else theme.ink
    theme.letters.write(pen, x, w.middle, w.label, ink=tint, anchor="mm")
    pen.line((w.left, bottom, w.left + w.width, bottom), fill=theme.line)
    if is_open:
        pen.rectangle((w.left + 3, bottom - 2, w.left + w.width - 3, bottom), fill=theme.accent)


def _menu(pen: Pen, w: Widget, theme: Theme) -> None:
    """Draws an entry of a menu bar, filled if it is open."""
    is_open = w.state == "open"
    if is_open:
        pen.rectangle((w.left, w.top, w.left + w.width, w.top + w.height), fill=theme.accent)
    tint = WHITE if is_open else theme.ink
    x = w.left + w.width / 2
    theme.letters.write(pen, x, w.middle, w.label, ink=tint, anchor="mm")


def _item(pen: Pen, w: Widget, theme: Theme) -> None:
    """Draws an entry of an open menu and its short cut."""
    tint = theme.ink_for(w)
    if w.state == "highlighted":
        pen.rectangle((w.left, w.top, w.left + w.width, w.top + w.height), fill=theme.accent)
        tint = WHITE
    x, right = w.left + theme.size, w.left + w.width - theme.size
    theme.letters.write(pen, x, w.middle, w.label, ink=tint, anchor="lm")
    theme.letters.write(pen, right, w.middle, w.group, ink=tint, anchor="rm")


def _app(pen: Pen, w: Widget, theme: Theme) -> None:
    """Draws an icon with its name below it and the number of its messages on its corner."""
    side = round(w.height - 1.7 * theme.size)
    x, y = round(w.left + (w.width - side) / 2), round(w.top)
    icon = APP_COLOURS[w.group]
    pen.rounded_rectangle((x, y, x + side, y + side), radius=side // 4, fill=icon)
    middle, size = x + side / 2, round(side * 0.5)
    Letters(size=size).write(pen, middle, y + side / 2, w.label[0], ink=WHITE, anchor="mm")
    below, size = y + side + theme.size, theme.size
    Letters(size=size).write(pen, middle, below, w.label, ink=theme.ink, anchor="mm")
    if w.state:
        radius, x, y = 0.8 * theme.size, x + side - 2, y + 3
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(225, 30, 40))
        Letters(size=theme.size - 1).write(pen, x, y, w.state, ink=WHITE, anchor="mm")


APP_COLOURS: dict[str, Colour] = {
    "red": (205, 45, 45),
    "orange": (235, 130, 30),
    "green": (45, 150, 75),
    "blue": (40, 95, 215),
    "purple": (125, 60, 180),
    "brown": (125, 80, 50),
    "grey": (120, 125, 130),
}
DRAWINGS: dict[str, Callable[[Pen, Widget, Theme], None]] = {
    "text": _text,
    "heading": _heading,
    "button": _button,
    "check box": _check_box,
    "option": _option,
    "switch": _switch,
    "field": _field,
    "list": _list,
    "slider": _slider,
    "tab": _tab,
    "menu": _menu,
    "item": _item,
    "app": _app,
}
