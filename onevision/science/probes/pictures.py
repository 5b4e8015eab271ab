"""Probes of one picture: its size, its shape, its letters, and what is done to its pixels.

The pictures are those of the world `scenes`: one to six things, sometimes with a word or a number.
A scene of an index is the same at every level, and so is the question about it.
"""

import random
from collections.abc import Container
from dataclasses import dataclass

from PIL import Image as PIL
from PIL.Image import Image as PillowImage

from onevision.conversation import Image
from onevision.science.probes import corruptions
from onevision.science.probes.item import Corrupt, Level, Probe, ProbeItem, drawn_item
from onevision.synth.kit.scene import Scene, draw_scene, random_scene
from onevision.synth.sample import Question, rng_for
from onevision.synth.worlds.lettering.signs import READ
from onevision.synth.worlds.shapes import scenes

# The side of pictures whose size is not what varies, and of a crop of the embedded model.
SIDE, CROP = 196, 98
# Larger pictures are enlarged from this one: things are flat, so that no more would be seen.
MAX_DRAWN = 1024
# Other answers become right when a picture is turned.
TURNED = frozenset({"where", "what_at", "farthest", "relation", "size"})
AMBIGUOUS_SHAPES = frozenset({"square", "diamond"})
READING = frozenset({"read"})


@dataclass(frozen=True, kw_only=True)
class Still:
    """A scene and a question about it."""

    scene: Scene
    question: Question


def random_still(
    seed: int,
    index: int,
    *,
    without: Container[str] = (),
    shapes: Container[str] = (),
    with_writing: bool = True,
) -> Still:
    """Generates a scene without `shapes`, and a question of a family that is not in `without`."""
    rng = rng_for("heldout", f"probes/{seed}/still", index)
    while True:
        scene = random_scene(
            rng,
            num_things=rng.randint(1, scenes.MAX_THINGS),
            with_writing=with_writing and rng.random() < 0.4,
            distinct=rng.random() < 0.3,
        )
        if any(thing.shape in shapes for thing in scene.things):
            continue
        asked = [one for one in scenes.questions(scene, rng) if one.family not in without]
        if asked:
            return Still(scene=scene, question=rng.choice(asked))


def draw_any(scene: Scene, *, width: int, height: int) -> PillowImage:
    """Draws a scene at any size."""
    scale = min(1.0, MAX_DRAWN / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = draw_scene(scene, width=size[0], height=size[1])
    return picture if scale == 1 else picture.resize((width, height), PIL.Resampling.BICUBIC)


def corrupted_probe(
    name: str,
    title: str,
    corrupt: Corrupt,
    levels: tuple[Level, ...],
    *,
    without: Container[str] = (),
    shapes: Container[str] = (),
    with_writing: bool = True,
    note: str = "",
) -> Probe:
    """Returns the probe of a corruption, on scenes of 196 x 196 pixels."""

    def make(level: Level, seed: int, index: int) -> ProbeItem:
        still = random_still(seed, index, without=without, shapes=shapes, with_writing=with_writing)
        picture = draw_scene(still.scene, width=SIDE, height=SIDE)
        return _ask(still, corrupt(picture, level.value, corruption_rng(name, seed, index)))

    return Probe(name=name, title=title, levels=levels, make=make, corrupt=corrupt, note=note)


def corruption_rng(name: str, seed: int, index: int) -> random.Random:
    """Returns the random numbers of one picture's corruption, the same at every level."""
    return rng_for("heldout", f"probes/{seed}/{name}", index)


def _ask(still: Still, picture: PillowImage) -> ProbeItem:
    one = still.question
    return drawn_item(
        [Image(picture)], question=one.question, expected=one.answer, family=one.family
    )


def _at_resolution(level: Level, seed: int, index: int) -> ProbeItem:
    still, side = random_still(seed, index), round(level.value)
    return _ask(still, draw_any(still.scene, width=side, height=side))


def _at_aspect(level: Level, seed: int, index: int) -> ProbeItem:
    still, long = random_still(seed, index), round(CROP * level.value)
    upright = corruption_rng("aspect", seed, index).random() < 0.5
    width, height = (CROP, long) if upright else (long, CROP)
    return _ask(still, draw_any(still.scene, width=width, height=height))


def _with_letters(level: Level, seed: int, index: int) -> ProbeItem:
    rng = rng_for("heldout", f"probes/{seed}/letters", index)
    scene = random_scene(rng, num_things=rng.randint(1, 3), with_writing=True, distinct=True)
    assert scene.writing is not None
    share = level.value / 100
    picture = draw_scene(scene, width=SIDE, height=SIDE, writing_height=share)
    kind, text = scene.writing.kind, scene.writing.text
    words = (*READ[:2], f"Which {kind} is shown?")
    return drawn_item(
        [Image(picture)], question=rng.choice(words), expected=text, family=f"read_{kind}"
    )


def _levels(*values: float, trained: Container[float], unit: str = "") -> tuple[Level, ...]:
    return tuple(
        Level(label=f"{value:,g}{unit}", value=value, trained=value in trained) for value in values
    )


def _jpeg_levels(*qualities: int) -> tuple[Level, ...]:
    levels = [Level(label=str(quality), value=100 - quality) for quality in qualities]
    return (Level(label="none", value=0, trained=True), *levels)


UNCHANGED = (0,)
RESOLUTION = Probe(
    name="resolution",
    title="side of a square picture, pixels",
    levels=_levels(56, 98, 196, 392, 784, 1568, 4096, trained=(98, 196, 392)),
    make=_at_resolution,
    corrupt=corruptions.resize,
)
ASPECT = Probe(
    name="aspect",
    title="longer side, as times the shorter of 98 pixels",
    levels=_levels(1, 2, 4, 8, 12, 20, trained=(1, 2)),
    make=_at_aspect,
    corrupt=corruptions.pad_to_aspect,
)
LETTERS = Probe(
    name="text",
    title="height of letters, per cent of the side",
    levels=_levels(4, 6, 9, 13, 19, 27, 40, trained=(27,)),
    make=_with_letters,
)
CORRUPTED = (
    corrupted_probe(
        "contrast", "contrast taken away, per cent", corruptions.lower_contrast,
        _levels(0, 30, 50, 70, 85, 95, trained=UNCHANGED),
    ),
    corrupted_probe("jpeg", "JPEG quality", corruptions.compress,
                    _jpeg_levels(90, 50, 25, 10, 5, 1)),
    corrupted_probe(
        "noise", "Gaussian noise, standard deviation of 255", corruptions.add_noise,
        _levels(0, 8, 16, 32, 64, 128, trained=UNCHANGED),
    ),
    corrupted_probe(
        "blur", "blur radius, per cent of the side", corruptions.blur,
        _levels(0, 0.5, 1, 2, 4, 8, trained=UNCHANGED),
    ),
    corrupted_probe(
        "rotation", "rotation, degrees", corruptions.rotate,
        _levels(0, 5, 15, 30, 45, 90, 180, trained=UNCHANGED),
        without=TURNED, shapes=AMBIGUOUS_SHAPES,
        note="No question about places or sizes, and no squares and diamonds: their answers turn "
        "with the picture. Of a benchmark's answers, some turn too.",
    ),
    corrupted_probe(
        "occlusion", "covered by grey cells, per cent", corruptions.occlude,
        _levels(0, 5, 10, 20, 40, 60, 80, trained=UNCHANGED),
        note="What a question asks for may be covered.",
    ),
    corrupted_probe(
        "distractors", "unrelated words written over the picture", corruptions.write_words,
        _levels(0, 1, 2, 4, 8, 16, trained=UNCHANGED),
        without=READING, with_writing=False,
        note="Scenes without writing of their own; words may cover what a question asks for.",
    ),
)  # fmt: skip
PICTURE_PROBES: tuple[Probe, ...] = (RESOLUTION, ASPECT, LETTERS, *CORRUPTED)
