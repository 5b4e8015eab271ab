"""Clips of things that move, appear, disappear, blink or change colour, or of numbers in turn.

frame 1   frame 4   frame 8     In which direction does the red circle move? right
| ●     | |   ●   | |     ● |   Which object appears first? blue star
|   ★   | |   ★   | |   ★   |   How many times does the green ring blink? 3
"""

import random
from dataclasses import dataclass, replace

from PIL.Image import Image as PillowImage

from onevision.conversation import Video
from onevision.synth.kit.scene import NUMBERS, Scene, Thing, Writing, draw_scene, random_scene
from onevision.synth.kit.shapes import COLOURS
from onevision.synth.kit.words import number_of, yes_or_no
from onevision.synth.sample import Question, Sample, Split, ask, rng_for

FRAME_COUNTS = (6, 8, 8, 8, 8, 10, 12, 16)
MIN_FRAMES = 3
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


@dataclass(frozen=True, kw_only=True)
class Clip:
    """The scene of every frame, a caption and questions."""

    scenes: tuple[Scene, ...]
    caption: str
    questions: tuple[Question, ...]


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th clip of a split."""
    clip = random_clip(rng_for(split, "clips", index))
    media = (Video(render(clip)),)
    return Sample(media=media, caption=clip.caption, questions=clip.questions)


def random_clip(rng: random.Random, *, num_frames: int | None = None) -> Clip:
    """Generates a clip of one of the scripts; by default of one of the usual lengths.

    No script has fewer than `MIN_FRAMES`.
    """
    script = rng.choice((_motion, _motion, _appearance, _recolour, _blink, _numbers))
    return script(rng, rng.choice(FRAME_COUNTS) if num_frames is None else num_frames)


def render(clip: Clip, *, width: int = 98, height: int = 98) -> list[PillowImage]:
    """Draws every frame of a clip."""
    return [draw_scene(scene, width=width, height=height) for scene in clip.scenes]


def _still(rng: random.Random, count: int) -> Scene:
    return random_scene(rng, num_things=count, distinct=True)


def _motion(rng: random.Random, num_frames: int) -> Clip:
    """One or two of up to three things cross the picture; sometimes none does."""
    scene = _still(rng, rng.randint(1, 3))
    movers = rng.sample(scene.things, min(len(scene.things), rng.choice((0, 1, 1, 1, 1, 2))))
    headings = {t.name: rng.choice(list(DIRECTIONS)) for t in movers}
    scenes = tuple(
        replace(scene, things=tuple(_move(t, headings.get(t.name), share) for t in scene.things))
        for share in (frame / (num_frames - 1) for frame in range(num_frames))
    )
    sentences = [
        f"The {t.name} moves {headings[t.name]}." if t.name in headings
        else f"The {t.name} stays at the {t.place}."
        for t in scene.things
    ]  # fmt: skip
    asked = [
        ask(rng, "how_many_move", ("How many objects move?",), str(len(movers))),
        ask(rng, "count", ("How many objects are there?",), str(len(scene.things))),
        _ask_colour(rng, scene),
    ]
    if rng.random() < 0.4:
        words = ("Does anything move?", "Is there any motion?")
        asked.append(ask(rng, "any_motion", words, yes_or_no(movers)))
    for t in movers:
        words = (
            f"In which direction does the {t.name} move?",
            f"Where does the {t.shape} go?",
            f"Which way does the {t.name} move?",
        )
        asked.append(ask(rng, "direction", words, headings[t.name]))
    if len(movers) == 1:
        words = ("Which object moves?", "What is moving?")
        asked.append(ask(rng, "mover", words, movers[0].name))
    return Clip(scenes=scenes, caption=" ".join(sentences), questions=tuple(asked))


def _move(thing: Thing, heading: str | None, share: float) -> Thing:
    """Returns a thing where it is after `share` of its way across the picture."""
    if heading is None:
        return thing
    dx, dy = DIRECTIONS[heading]
    way = 0.16 + 0.68 * share
    x = thing.x if dx == 0 else (way if dx > 0 else 1 - way)
    y = thing.y if dy == 0 else (way if dy > 0 else 1 - way)
    return replace(thing, x=x, y=y)


def _appearance(rng: random.Random, num_frames: int) -> Clip:
    """One or two things of up to three appear or disappear, one after the other."""
    scene = _still(rng, rng.randint(2, 3))
    actors = rng.sample(scene.things, rng.randint(1, 2))
    verb = rng.choice(("appears", "disappears"))
    times = sorted(rng.sample(range(1, num_frames), len(actors)))
    when = {t.name: time for t, time in zip(actors, times, strict=True)}

    def visible(thing: Thing, frame: int) -> bool:
        return thing.name not in when or (frame >= when[thing.name]) == (verb == "appears")

    scenes = tuple(
        replace(scene, things=tuple(t for t in scene.things if visible(t, frame)))
        for frame in range(num_frames)
    )
    order = ("First", "Then") if len(actors) == 2 else ("Then",)
    stays = [f"The {t.name} stays at the {t.place}." for t in scene.things if t.name not in when]
    events = [f"{n} the {t.name} {verb}." for n, t in zip(order, actors, strict=True)]
    asked = [
        ask(rng, "how_many_at_end", ("How many objects are there at the end?",),
            str(len(scenes[-1].things))),
        ask(rng, "how_many_at_start", ("How many objects are there at the beginning?",),
            str(len(scenes[0].things))),
    ]  # fmt: skip
    if len(actors) == 1:
        words = (f"Which object {verb}?", f"What {verb}?")
        asked.append(ask(rng, verb, words, actors[0].name))
    else:
        for place, t in zip(("first", "last"), actors, strict=True):
            words = (f"Which object {verb} {place}?",)
            asked.append(ask(rng, "order", words, t.name))
    return Clip(scenes=scenes, caption=" ".join(stays + events), questions=tuple(asked))


def _recolour(rng: random.Random, num_frames: int) -> Clip:
    """One of up to three things takes another colour."""
    scene = _still(rng, rng.randint(1, 3))
    old = rng.choice(scene.things)
    new = replace(old, colour=(other := _other_colour(rng, scene)), tint=COLOURS[other])
    switch = rng.randint(1, num_frames - 1)
    after = replace(scene, things=tuple(new if t is old else t for t in scene.things))
    scenes = tuple(scene if frame < switch else after for frame in range(num_frames))
    stays = [f"The {t.name} stays at the {t.place}." for t in scene.things if t is not old]
    event = f"The {old.shape} turns from {old.colour} to {other}."
    asked = (
        ask(rng, "becomes", (f"Which colour does the {old.shape} become?",
                             f"What colour is the {old.shape} at the end?"), other),
        ask(rng, "was", (f"What colour is the {old.shape} at the beginning?",), old.colour),
        ask(rng, "recoloured", ("Which shape changes its colour?",), old.shape),
    )  # fmt: skip
    return Clip(scenes=scenes, caption=" ".join([*stays, event]), questions=asked)


def _blink(rng: random.Random, num_frames: int) -> Clip:
    """One thing disappears for single frames, one to four times."""
    scene = _still(rng, rng.randint(1, 3))
    thing = rng.choice(scene.things)
    times = rng.randint(1, min(4, (num_frames - 1) // 2))
    slots = sorted(rng.sample(range((num_frames - 1) // 2), times))
    gone = {2 * slot + 1 for slot in slots}
    without = replace(scene, things=tuple(t for t in scene.things if t is not thing))
    scenes = tuple(without if frame in gone else scene for frame in range(num_frames))
    stays = [f"The {t.name} stays at the {t.place}." for t in scene.things if t is not thing]
    event = f"The {thing.name} blinks {number_of(times, 'time')}."
    asked = (
        ask(rng, "blinks", (f"How many times does the {thing.name} blink?",
                            f"How often does the {thing.shape} blink?"), str(times)),
        ask(rng, "blinker", ("Which object blinks?",), thing.name),
    )  # fmt: skip
    return Clip(scenes=scenes, caption=" ".join([*stays, event]), questions=asked)


def _numbers(rng: random.Random, num_frames: int) -> Clip:
    """Two or three numbers are shown one after the other."""
    texts = rng.sample(NUMBERS, rng.randint(2, 3))
    scene = random_scene(rng, num_things=1)
    things = tuple(replace(t, y=0.5 / 3, row=0) for t in scene.things)
    scenes = tuple(
        replace(scene, things=things,
                writing=Writing(text=texts[frame * len(texts) // num_frames], row=1))
        for frame in range(num_frames)
    )  # fmt: skip
    asked = (
        ask(rng, "first_number", ("Which number is shown first?",), texts[0]),
        ask(rng, "last_number", ("Which number is shown last?",), texts[-1]),
        ask(rng, "how_many_numbers", ("How many numbers are shown?",), str(len(texts))),
    )
    caption = f"The numbers {', '.join(texts)} follow each other."
    return Clip(scenes=scenes, caption=caption, questions=asked)


def _ask_colour(rng: random.Random, scene: Scene) -> Question:
    t = rng.choice(scene.things)
    return ask(rng, "colour", (f"What colour is the {t.shape}?",), t.colour)


def _other_colour(rng: random.Random, scene: Scene) -> str:
    return rng.choice([c for c in COLOURS if not scene.having(colour=c)])
