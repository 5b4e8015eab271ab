"""Two to four pictures: which one, what changed, how many in all.

+-------+ +-------+    Which object changed its colour? star
| ●   ★ | | ●   ☆ |    What was added in the second picture? red ring
|   42  | |   17  |    Which picture shows the larger number? first
+-------+ +-------+    How many objects are in the second picture? 2
"""

import random
from dataclasses import replace

from onevision.conversation import Image
from onevision.synth.kit.questions import Asker, ask_each
from onevision.synth.kit.scene import (
    CELLS,
    NUMBERS,
    Scene,
    Writing,
    draw_scene,
    random_scene,
    random_thing,
)
from onevision.synth.kit.shapes import COLOURS, SHAPES
from onevision.synth.kit.words import ORDINALS, yes_or_no
from onevision.synth.sample import Question, Sample, Split, ask, rng_for
from onevision.synth.worlds.shapes.scenes import describe, facts

Scenes = tuple[Scene, ...]


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th sample of several pictures of a split."""
    rng = rng_for(split, "pairs", index)
    if rng.random() < 0.45:
        scenes, asked = _edited_pair(rng)
    else:
        scenes, asked = _different(rng)
    captions = [f"{n.capitalize()}: {describe(s)}" for n, s in zip(ORDINALS, scenes, strict=False)]
    return Sample(
        media=tuple(Image(draw_scene(scene)) for scene in scenes),
        caption=" ".join(captions),
        questions=tuple(asked) + tuple(ask_each(QUESTIONS, scenes, rng)),
        aspects=tuple(
            f"{n.capitalize()}: {facts(s, rng)}" for n, s in zip(ORDINALS, scenes, strict=False)
        ),
    )


def _different(rng: random.Random) -> tuple[Scenes, list[Question]]:
    """Makes pictures that have nothing to do with each other."""
    count = rng.choice((2, 2, 3, 4))
    with_numbers = rng.random() < 0.35
    scenes = []
    for _ in range(count):
        scene = random_scene(rng, num_things=rng.randint(1, 4), distinct=rng.random() < 0.5)
        if with_numbers:
            things = tuple(t for t in scene.things if t.row != 1)
            writing = Writing(text=rng.choice(NUMBERS), row=1)
            scene = replace(scene, things=things, writing=writing)
        scenes.append(scene)
    return tuple(scenes), []


def _edited_pair(rng: random.Random) -> tuple[Scenes, list[Question]]:
    """Makes a picture and a copy of it with one change, or none."""
    scene = random_scene(rng, num_things=rng.randint(2, 4), distinct=True)
    edit = rng.choice((_recolour, _add, _remove, _move, _keep))
    second, asked = edit(scene, rng)
    words = (
        "Are the two pictures the same?",
        "Is the second picture equal to the first?",
        "Do both pictures show the same?",
    )
    same = ask(rng, "same", words, yes_or_no(edit is _keep))
    return (scene, second), [*asked, same]


def _keep(scene: Scene, rng: random.Random) -> tuple[Scene, list[Question]]:
    words = ("What changed?", "What changed in the second picture?")
    return scene, [ask(rng, "changed", words, "nothing")]


def _recolour(scene: Scene, rng: random.Random) -> tuple[Scene, list[Question]]:
    old = rng.choice(scene.things)
    colour = rng.choice([c for c in COLOURS if not scene.having(colour=c)])
    new = replace(old, colour=colour, tint=COLOURS[colour])
    things = tuple(new if t is old else t for t in scene.things)
    which = ("Which object changed its colour?", "What shape has another colour now?")
    becomes = (f"Which colour did the {old.shape} become?", f"What colour is the {old.shape} now?")
    return replace(scene, things=things), [
        ask(rng, "recoloured", which, old.shape),
        ask(rng, "recoloured", becomes, colour),
        _ask_change(rng, old.shape),
    ]


def _add(scene: Scene, rng: random.Random) -> tuple[Scene, list[Question]]:
    col, row = _free_cell(scene, rng)
    new = random_thing(
        rng,
        colour=rng.choice([c for c in COLOURS if not scene.having(colour=c)]),
        shape=rng.choice([s for s in SHAPES if not scene.having(shape=s)]),
        col=col,
        row=row,
    )
    things = tuple(sorted((*scene.things, new), key=lambda t: (t.row, t.col)))
    words = ("What was added in the second picture?", "Which object is new in the second picture?")
    return replace(scene, things=things), [
        ask(rng, "added", words, new.name),
        _ask_change(rng, new.shape),
    ]


def _remove(scene: Scene, rng: random.Random) -> tuple[Scene, list[Question]]:
    old = rng.choice(scene.things)
    words = ("What is missing in the second picture?", "Which object was removed?")
    return replace(scene, things=tuple(t for t in scene.things if t is not old)), [
        ask(rng, "removed", words, old.name),
        _ask_change(rng, old.shape),
    ]


def _move(scene: Scene, rng: random.Random) -> tuple[Scene, list[Question]]:
    old = rng.choice(scene.things)
    col, row = _free_cell(scene, rng)
    new = replace(old, col=col, row=row, x=(col + 0.5) / 3, y=(row + 0.5) / 3)
    things = tuple(
        sorted((new if t is old else t for t in scene.things), key=lambda t: (t.row, t.col))
    )
    words = ("Which object moved?", "What has moved in the second picture?")
    return replace(scene, things=things), [
        ask(rng, "moved", words, old.name),
        ask(rng, "moved", (f"Where did the {old.name} move to?",), new.place),
        _ask_change(rng, old.shape),
    ]


def _ask_change(rng: random.Random, shape: str) -> Question:
    return ask(rng, "changed", ("What changed?", "What changed in the second picture?"), shape)


def _free_cell(scene: Scene, rng: random.Random) -> tuple[int, int]:
    taken = {(t.col, t.row) for t in scene.things}
    return rng.choice([cell for cell in CELLS if cell not in taken])


def _ask_nth_colour(scenes: Scenes, rng: random.Random) -> Question | None:
    n = rng.randrange(len(scenes))
    things = [t for t in scenes[n].things if len(scenes[n].having(shape=t.shape)) == 1]
    if not things:
        return None
    t = rng.choice(things)
    words = (
        f"What colour is the {t.shape} in the {ORDINALS[n]} picture?",
        f"In the {ORDINALS[n]} picture, what colour is the {t.shape}?",
    )
    return ask(rng, "nth_colour", words, t.colour)


def _ask_nth_count(scenes: Scenes, rng: random.Random) -> Question:
    n = rng.randrange(len(scenes))
    words = (
        f"How many objects are in the {ORDINALS[n]} picture?",
        f"Count the objects in the {ORDINALS[n]} picture.",
    )
    return ask(rng, "nth_count", words, str(len(scenes[n].things)))


def _ask_which_has(scenes: Scenes, rng: random.Random) -> Question | None:
    owners: dict[str, set[int]] = {}
    for n, scene in enumerate(scenes):
        for t in scene.things:
            for name in (t.name, t.shape, f"{t.colour} object"):
                owners.setdefault(name, set()).add(n)
    names = sorted(name for name, where in owners.items() if len(where) == 1)
    if not names:
        return None
    name = rng.choice(names)
    words = (f"Which picture has a {name}?", f"In which picture is a {name}?")
    return ask(rng, "which_has", words, ORDINALS[owners[name].pop()])


def _ask_most(scenes: Scenes, rng: random.Random) -> Question | None:
    counts = [len(scene.things) for scene in scenes]
    word, wanted = rng.choice((("most", max(counts)), ("fewest", min(counts))))
    if counts.count(wanted) > 1:
        return None
    words = (f"Which picture has the {word} objects?",)
    return ask(rng, "most", words, ORDINALS[counts.index(wanted)])


def _ask_total(scenes: Scenes, rng: random.Random) -> Question:
    words = (
        "How many objects are there in all pictures together?",
        "Count the objects in all pictures.",
    )
    return ask(rng, "total", words, str(sum(len(scene.things) for scene in scenes)))


def _ask_larger_number(scenes: Scenes, rng: random.Random) -> Question | None:
    numbers = [int(s.writing.text) for s in scenes if s.writing is not None]
    if len(numbers) < len(scenes) or len(set(numbers)) < len(numbers):
        return None
    n = rng.randrange(len(scenes))
    if rng.randrange(2) == 0:
        words = ("Which picture shows the largest number?",)
        return ask(rng, "larger_number", words, ORDINALS[numbers.index(max(numbers))])
    words = (f"Which number is in the {ORDINALS[n]} picture?",)
    return ask(rng, "nth_number", words, str(numbers[n]))


QUESTIONS: tuple[Asker[Scenes], ...] = (
    _ask_nth_colour,
    _ask_nth_count,
    _ask_which_has,
    _ask_most,
    _ask_total,
    _ask_larger_number,
)
