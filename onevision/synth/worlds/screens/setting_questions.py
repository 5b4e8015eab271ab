"""A screen -> questions about what its controls are set to.

Name  [ Ada Lind   ]          What is typed in the field "Name"?   Ada Lind
[x] Gift wrap  [ ] Loop       Is the box "Loop" ticked or empty?   empty
( Print ) ( Save )            Which button is filled with colour?  Save
"""

import random
from collections.abc import Callable

from onevision.synth.kit.words import join, plural
from onevision.synth.sample import Question, ask
from onevision.synth.worlds.screens.layouts import Screen

# What questions call the controls.
NOUNS = {
    "button": "button",
    "check box": "check box",
    "switch": "switch",
    "tab": "tab",
    "menu": "menu",
    "item": "menu entry",
    "app": "app",
    "field": "text field",
}


def _ask_state(screen: Screen, rng: random.Random) -> Question | None:
    """Asks whether a switch is on or a box is ticked."""
    widgets = screen.of_kind("switch") + screen.of_kind("check box")
    if not widgets:
        return None
    w = rng.choice(widgets)
    if w.kind == "switch":
        words = (f'Is "{w.label}" on or off?', f'How is the switch "{w.label}" set?')
    else:
        words = (f'Is the box "{w.label}" ticked or empty?', f'In which state is "{w.label}"?')
    return ask(rng, "state", words, w.state)


def _ask_how_many_on(screen: Screen, rng: random.Random) -> Question | None:
    """Asks which switches or boxes are set so, or how many."""
    kind, state = rng.choice((("switch", "on"), ("switch", "off"), *TICK_STATES))
    widgets = screen.of_kind(kind)
    if len(widgets) < 2:
        return None
    set_so = [w.label for w in widgets if w.state == state]
    name = "switch" if kind == "switch" else "box"
    if len(set_so) == 1 and rng.random() < 0.5:
        return ask(rng, "only_one", (f"Which {name} is {state}?",), set_so[0])
    if 2 <= len(set_so) <= 3 and rng.random() < 0.5:
        words = (f"Which {plural(name)} are {state}?", f"Name the {plural(name)} that are {state}.")
        return ask(rng, "which_ones", words, join(set_so))
    words = (f"How many {plural(name)} are {state}?", f"Count the {plural(name)} that are {state}.")
    return ask(rng, "count_set", words, str(len(set_so)))


def _ask_typed(screen: Screen, rng: random.Random) -> Question | None:
    """Asks what is typed in a field, which field holds a text, or which one is empty."""
    fields = screen.of_kind("field")
    if not fields:
        return None
    w = rng.choice(fields)
    if not w.state:
        words = ("Which text field is empty?", "Which field is still to be filled in?")
        return ask(rng, "empty_field", words, w.label)
    if rng.random() < 0.3:
        words = (f'Which field holds "{w.state}"?', f'Into which field is "{w.state}" typed?')
        return ask(rng, "which_field", words, w.label)
    words = (
        f'What is typed in the field "{w.label}"?',
        f'Which text is in "{w.label}"?',
        f'What has been entered as "{w.label}"?',
    )
    return ask(rng, "typed", words, w.state)


def _ask_caret(screen: Screen, rng: random.Random) -> Question | None:
    """Asks for the field that has the cursor."""
    fields = [w for w in screen.of_kind("field") if w.group == "caret"]
    if not fields:
        return None
    words = ("In which field is the cursor?", "Which field would take what is typed now?")
    return ask(rng, "cursor", words, fields[0].label)


def _ask_chosen(screen: Screen, rng: random.Random) -> Question | None:
    """Asks which option or list entry is chosen."""
    chosen = [(w.group, w.label) for w in screen.of_kind("option") if w.state]
    chosen += [(w.label, w.state) for w in screen.of_kind("list")]
    if not chosen:
        return None
    name, value = rng.choice(chosen)
    words = (f'Which "{name}" is chosen?', f'What is selected under "{name}"?')
    return ask(rng, "chosen", words, value)


def _ask_slider(screen: Screen, rng: random.Random) -> Question | None:
    """Asks for the number of a slider."""
    if not screen.of_kind("slider"):
        return None
    w = rng.choice(screen.of_kind("slider"))
    words = (f'At what number is "{w.label}"?', f'To what is the slider "{w.label}" set?')
    return ask(rng, "slider", words, w.state)


def _ask_grey(screen: Screen, rng: random.Random) -> Question | None:
    """Asks which button or menu entry is greyed out."""
    kind = "item" if screen.of_kind("item") else "button"
    widgets = screen.of_kind(kind)
    if len(widgets) < 2:
        return None
    grey = [w.label for w in widgets if not w.enabled] or ["none"]
    words = (f"Which {NOUNS[kind]} is greyed out?", f"Which {NOUNS[kind]} cannot be used now?")
    return ask(rng, "greyed_out", words, grey[0])


def _ask_purpose(screen: Screen, rng: random.Random) -> Question | None:
    """Asks for the button that serves a purpose."""
    buttons = [w for w in screen.of_kind("button") if w.enabled]
    if not buttons:
        return None
    w = rng.choice(buttons)
    words = (
        f"Which button do you press to {w.group}?",
        f"You want to {w.group}: which button is for that?",
    )
    return ask(rng, "purpose", words, w.label)


def _ask_filled(screen: Screen, rng: random.Random) -> Question | None:
    """Asks which button is filled with colour, or with which colour."""
    filled = [w for w in screen.of_kind("button") if w.state == "primary" and w.enabled]
    if not filled:
        return None
    if rng.random() < 0.5:
        words = ("Which button is filled with colour?", "Which button stands out in colour?")
        return ask(rng, "filled", words, filled[0].label)
    words = (f'What colour is the button "{filled[0].label}"?',)
    return ask(rng, "colour", words, screen.theme.accent_name)


TICK_STATES = (("check box", "ticked"), ("check box", "empty"))
SETTINGS: tuple[Callable[[Screen, random.Random], Question | None], ...] = (
    _ask_state,
    _ask_how_many_on,
    _ask_typed,
    _ask_caret,
    _ask_chosen,
    _ask_slider,
    _ask_grey,
    _ask_purpose,
    _ask_filled,
)
