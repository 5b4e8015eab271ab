"""Pictures of one to six things, sometimes with a number or a word.

+-----------+   "A white picture with 3 objects. A large red circle at the top left. ..."
| ●       ★ |   What colour is the star? blue     How many objects are there? 3
|     42    |   Where is the red circle? top left What is written? 42
| ■         |   What is at the bottom left? green square
+-----------+
"""

import random
from collections.abc import Callable, Iterator

from PIL import Image as PIL
from PIL import ImageFilter

from onevision.conversation import Image
from onevision.synth.kit.questions import Asker, ask_each
from onevision.synth.kit.scene import Scene, Thing, draw_scene, place_name, random_scene
from onevision.synth.kit.shapes import COLOURS, SHAPES
from onevision.synth.kit.words import number_of, plural, yes_or_no
from onevision.synth.sample import CANNOT_TELL, Question, Sample, Split, ask, rng_for

MAX_THINGS = 6
# One picture in this many shows nothing of this world, and its questions have no answers.
OUTSIDE_EVERY = 25


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th single-picture sample of a split."""
    rng = rng_for(split, "scenes", index)
    if rng.randrange(OUTSIDE_EVERY) == 0:
        return _outside(rng)
    scene = random_scene(
        rng,
        num_things=rng.randint(1, MAX_THINGS),
        with_writing=rng.random() < 0.4,
        distinct=rng.random() < 0.3,
    )
    width, height = random_size(rng)
    picture = Image(draw_scene(scene, width=width, height=height))
    return Sample(
        media=(picture,),
        caption=describe(scene),
        questions=tuple(questions(scene, rng)),
        aspects=(*aspects(scene), facts(scene, rng), facts(scene, rng)),
    )


def random_size(rng: random.Random) -> tuple[int, int]:
    """Returns a picture's width and height: mostly one crop, some with finer grids."""
    kind = rng.random()
    if kind < 0.6:
        return 98, 98
    if kind < 0.75:
        return rng.choice(((rng.randint(120, 196), 98), (98, rng.randint(120, 196))))
    if kind < 0.93:
        return rng.randint(99, 196), rng.randint(99, 196)
    return rng.randint(150, 400), rng.randint(150, 400)


def describe(scene: Scene, *, writing_col: int = 1) -> str:
    """Names everything in a scene and where it is; writing is centred in its row by default."""
    objects = number_of(len(scene.things), "object")
    sentences = [f"A {scene.ground} picture with {objects}."]
    sentences += [f"A {t.size} {t.name} at the {t.place}." for t in scene.things]
    if scene.writing is not None:
        kind, text = scene.writing.kind, scene.writing.text
        sentences.append(f"The {kind} {text} at the {place_name(writing_col, scene.writing.row)}.")
    return " ".join(sentences)


def aspects(scene: Scene) -> Iterator[str]:
    """Yields one property of all things at a time, in the order of the caption."""
    yield f"Shapes: {', '.join(t.shape for t in scene.things)}."
    yield f"Sizes: {', '.join(t.size for t in scene.things)}."
    if scene.writing is not None:
        yield f"Written: {scene.writing.text}."


def facts(scene: Scene, rng: random.Random) -> str:
    """Returns a fact about each thing, in any order: "Facts: star brown, left red ring".

    A fact names a thing by what singles it out, then says what else is true of it: as much in three
    tokens as a question and its answer in fifteen. No thing has two facts, or the second could be
    read off the first.
    """
    told = [rng.choice(list(_facts_of(thing, scene))) for thing in scene.things]
    rng.shuffle(told)
    return f"Facts: {', '.join(told)}."


def _facts_of(thing: Thing, scene: Scene) -> Iterator[str]:
    yield f"{thing.place} {thing.name}"
    if len(scene.having(shape=thing.shape)) == 1:
        yield f"{thing.shape} {thing.colour}"
    if len(scene.having(colour=thing.colour)) == 1:
        yield f"{thing.colour} {thing.shape}"
    if thing in scene.unique():
        yield f"{thing.name} {thing.place}"
        yield f"{thing.name} {thing.size}"


def questions(scene: Scene, rng: random.Random) -> Iterator[Question]:
    """Yields a question of every kind that has an answer in a scene."""
    return ask_each(QUESTIONS, scene, rng)


def _ask_colour(scene: Scene, rng: random.Random) -> Question | None:
    things = [t for t in scene.things if len(scene.having(shape=t.shape)) == 1]
    if not things:
        return None
    t = rng.choice(things)
    words = (
        f"What colour is the {t.shape}?",
        f"Which colour does the {t.shape} have?",
        f"What is the colour of the {t.shape}?",
    )
    return ask(rng, "colour", words, t.colour)


def _ask_shape(scene: Scene, rng: random.Random) -> Question | None:
    things = [t for t in scene.things if len(scene.having(colour=t.colour)) == 1]
    if not things:
        return None
    t = rng.choice(things)
    words = (f"What shape is the {t.colour} object?", f"Which shape is {t.colour}?")
    return ask(rng, "shape", words, t.shape)


def _ask_count(scene: Scene, rng: random.Random) -> Question:
    words = ("How many objects are there?", "How many objects are in the picture?",
             "Count the objects.")  # fmt: skip
    return ask(rng, "count", words, str(len(scene.things)))


def _ask_count_some(scene: Scene, rng: random.Random) -> Question:
    t = rng.choice(scene.things)
    colour = rng.choice((t.colour, rng.choice(list(COLOURS))))
    shape = rng.choice((t.shape, rng.choice(SHAPES)))
    if rng.random() < 0.5:
        words = (f"How many {colour} objects are there?", f"Count the {colour} objects.")
        return ask(rng, "count_some", words, str(len(scene.having(colour=colour))))
    words = (f"How many {plural(shape)} are there?", f"Count the {plural(shape)}.")
    return ask(rng, "count_some", words, str(len(scene.having(shape=shape))))


def _ask_where(scene: Scene, rng: random.Random) -> Question | None:
    if not scene.unique():
        return None
    t = rng.choice(scene.unique())
    words = (f"Where is the {t.name}?", f"In which place is the {t.name}?")
    return ask(rng, "where", words, t.place)


def _ask_what_at(scene: Scene, rng: random.Random) -> Question:
    t = rng.choice(scene.things)
    words = (f"What is at the {t.place}?", f"Which object is at the {t.place}?")
    return ask(rng, "what_at", words, t.name)


def _ask_farthest(scene: Scene, rng: random.Random) -> Question | None:
    side, position = rng.choice(SIDES)
    ranked = sorted(scene.things, key=position)
    if len(ranked) < 2 or position(ranked[1]) - position(ranked[0]) < 0.15:
        return None
    words = (f"Which object is farthest {side}?", f"What is the object farthest {side}?")
    return ask(rng, "farthest", words, ranked[0].name)


def _ask_size(scene: Scene, rng: random.Random) -> Question | None:
    if not scene.unique():
        return None
    t = rng.choice(scene.unique())
    words = (f"Is the {t.name} large or small?", f"What size is the {t.name}?")
    return ask(rng, "size", words, t.size)


def _ask_ground(scene: Scene, rng: random.Random) -> Question:
    words = ("What colour is the background?", "Which colour is behind the objects?")
    return ask(rng, "background", words, scene.ground)


def _ask_read(scene: Scene, rng: random.Random) -> Question | None:
    if scene.writing is None:
        return None
    kind = scene.writing.kind
    words = ("What is written in the picture?", "Read the text.", f"Which {kind} is shown?")
    return ask(rng, "read", words, scene.writing.text)


def _ask_exists(scene: Scene, rng: random.Random) -> Question:
    t = rng.choice(scene.things)
    name = t.name if rng.random() < 0.5 else _other_name(t, rng)
    words = (f"Is there a {name}?", f"Does the picture show a {name}?")
    return ask(rng, "exists", words, yes_or_no(any(t.name == name for t in scene.things)))


def _ask_relation(scene: Scene, rng: random.Random) -> Question | None:
    if len(scene.unique()) < 2:
        return None
    a, b = rng.sample(scene.unique(), 2)
    side, position = rng.choice(RELATIONS)
    if abs(position(a) - position(b)) < 0.15:
        return None
    words = (f"Is the {a.name} {side} the {b.name}?",)
    return ask(rng, "relation", words, yes_or_no(position(a) < position(b)))


def _ask_absent(scene: Scene, rng: random.Random) -> Question | None:
    missing = [shape for shape in SHAPES if not scene.having(shape=shape)]
    if not missing or rng.random() < 0.5:
        return None
    shape = rng.choice(missing)
    words = (f"What colour is the {shape}?", f"Where is the {shape}?")
    return ask(rng, "absent", words, f"there is no {shape}")


def _outside(rng: random.Random) -> Sample:
    """Makes a picture of nothing in this world: coloured noise, more or less smooth."""
    width, height = random_size(rng)
    cells = rng.randint(2, 24)
    noise = PIL.frombytes("RGB", (cells, cells), rng.randbytes(3 * cells * cells))
    picture = noise.resize((width, height), PIL.Resampling(rng.choice((0, 2, 3))))
    if rng.random() < 0.5:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 6)))
    scene = random_scene(rng, num_things=3, with_writing=True, distinct=True)
    asked = [q for q in questions(scene, rng) if q.family not in ("count_some", "absent")]
    return Sample(
        media=(Image(picture),),
        caption=f"{CANNOT_TELL} what this is.",
        questions=tuple(
            Question(family="outside", question=q.question, answer=CANNOT_TELL) for q in asked
        ),
    )


def _other_name(thing: Thing, rng: random.Random) -> str:
    """Returns a name that differs from the thing's in colour or in shape."""
    if rng.random() < 0.5:
        return f"{rng.choice([c for c in COLOURS if c != thing.colour])} {thing.shape}"
    return f"{thing.colour} {rng.choice([s for s in SHAPES if s != thing.shape])}"


SIDES: tuple[tuple[str, Callable[[Thing], float]], ...] = (
    ("to the left", lambda t: t.x),
    ("to the right", lambda t: -t.x),
    ("to the top", lambda t: t.y),
    ("to the bottom", lambda t: -t.y),
)
RELATIONS: tuple[tuple[str, Callable[[Thing], float]], ...] = (
    ("left of", lambda t: t.x),
    ("above", lambda t: t.y),
)
QUESTIONS: tuple[Asker[Scene], ...] = (
    _ask_colour,
    _ask_shape,
    _ask_count,
    _ask_count_some,
    _ask_where,
    _ask_what_at,
    _ask_farthest,
    _ask_size,
    _ask_ground,
    _ask_read,
    _ask_exists,
    _ask_relation,
    _ask_absent,
)
