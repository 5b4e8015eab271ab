"""A picture or two that show an edit, and the video that is to be edited in this way.

 picture       the video                How must the video be edited to look like the picture?
| *(blue) |   | *(red) | -> |      * |      make the star blue
|    o    |   |   o    |    |   o    |  What does the thing do that the edit changes?
                                            it moves right

before, after                           The pictures show an edit. Which instruction does the
| *(pink) |  | *(blue) |                same to the video?       make the star blue
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from onevision.conversation import Image, Video
from onevision.synth.kit.questions import choose
from onevision.synth.kit.scene import GROUNDS, Scene, draw_scene, random_scene
from onevision.synth.kit.shapes import COLOURS, Look, random_looks
from onevision.synth.kit.splits import draw_apart
from onevision.synth.kit.words import article, yes_or_no
from onevision.synth.sample import Question, Sample, Split, ask, rng_for
from onevision.synth.worlds.clips.actors import (
    MOVING,
    Actor,
    Setting,
    random_cast,
    random_setting,
)

KINDS = {
    "recolour": "it changes a colour",
    "remove": "it removes a thing",
    "add": "it adds a thing",
}
# What keeps its colour and stays in view.
DEEDS = ("stays", *MOVING)


@dataclass(frozen=True, kw_only=True)
class Edit:
    """The things of a video, and what is to be done to one of them."""

    actors: tuple[Actor, ...]
    setting: Setting
    kind: str
    # The thing that changes, goes, or is to come.
    target: Actor
    # Its new colour, if it gets one.
    colour: str
    # Pictures of another scene, before and after the edit; or none, if the video's own first frame
    # is shown as it will be.
    before: Scene | None
    after: Scene | None

    @property
    def instruction(self) -> str:
        """The edit, as it is asked for."""
        shape = self.target.look.shape
        if self.kind == "recolour":
            return f"make the {shape} {self.colour}"
        if self.kind == "remove":
            return f"remove the {shape}"
        return f"add {article(self.target.look.name)}"

    @property
    def edited(self) -> tuple[Actor, ...]:
        """The things of the video after the edit."""
        if self.kind == "add":
            return (*self.actors, self.target)
        others = tuple(actor for actor in self.actors if actor is not self.target)
        if self.kind == "remove":
            return others
        look = Look(colour=self.colour, shape=self.target.look.shape)
        return (*others, replace(self.target, look=look, later=look))


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th edit of a split."""
    rng = rng_for(split, "edits", index)
    edit = draw_apart(split, rng, _random_edit, describe)
    if edit.before is None or edit.after is None:
        pictures = [edit.setting.draw(edit.edited, 0)]
    else:
        pictures = [draw_scene(edit.before), draw_scene(edit.after)]
    shown = "A picture that shows" if len(pictures) == 1 else "Two pictures that show"
    return Sample(
        media=(*map(Image, pictures), Video(edit.setting.film(edit.actors))),
        caption=f"{shown} an edit, and a video that is to be edited.",
        detail=describe(edit),
        questions=choose(rng, _questions(edit, rng)),
    )


def describe(edit: Edit) -> str:
    """Says what every thing of the video does, and which edit the pictures show."""
    deeds = "; ".join(f"{article(a.look.name)}: {edit.setting.deed(a)}" for a in edit.actors)
    if edit.before is None:
        shown = "The picture shows the video's beginning after this edit"
    else:
        names = ", ".join(thing.name for thing in edit.before.things)
        shown = f"Two pictures ({names}) show this edit"
    return f"In the video: {deeds}. {shown}: {edit.instruction}."


def _random_edit(rng: random.Random) -> Edit:
    """Chooses things, and an edit of one of them."""
    kind = rng.choice(("recolour", "recolour", "remove", "add"))
    looks = random_looks(rng, 4)
    every = random_cast(rng, looks, deeds=DEEDS)
    target = rng.choice(every)
    others = [actor for actor in every if actor is not target]
    actors = tuple(others) if kind == "add" else tuple(a for a in every if a is not others[0])
    spare = [colour for colour in COLOURS if all(look.colour != colour for look in looks)]
    colour, before, after = rng.choice(spare), None, None
    if kind != "add" and rng.random() < 0.5:
        taken = {actor.look.colour for actor in actors if actor is not target}
        before, after = _other_scene(rng, kind, target.look, colour, taken)
    return Edit(
        actors=actors,
        setting=random_setting(rng, num_lanes=4),
        kind=kind,
        target=target,
        colour=colour if kind == "recolour" else "",
        before=before,
        after=after,
    )


def _other_scene(
    rng: random.Random, kind: str, look: Look, colour: str, taken: set[str]
) -> tuple[Scene, Scene]:
    """Makes another scene with a thing of this shape, before and after the edit.

    That thing has none of the colours that are `taken` by other things of the video: its shape
    alone says which thing of the video is meant.
    """
    scene = random_scene(rng, num_things=rng.randint(2, 3), distinct=True)
    while (
        not (found := scene.having(shape=look.shape))
        or found[0].colour in taken
        or scene.having(colour=colour)
    ):
        scene = random_scene(rng, num_things=rng.randint(2, 3), distinct=True)
    scene = replace(scene, ground=rng.choice(list(GROUNDS)))
    (old,) = found
    new = replace(old, colour=colour, tint=COLOURS[colour])
    things = [new if thing is old else thing for thing in scene.things]
    if kind == "remove":
        things = [thing for thing in scene.things if thing is not old]
    return scene, replace(scene, things=tuple(things))


def _questions(edit: Edit, rng: random.Random) -> Iterator[Question]:
    """Asks for the edit, and what it does to the video."""
    forms = '"make the SHAPE COLOUR", "remove the SHAPE" or "add a COLOUR SHAPE"'
    if edit.before is None:
        words: tuple[str, ...] = (
            f"Which instruction makes the video look like the picture: {forms}?",
            f"How must the video be edited to look like the picture: {forms}?",
        )
    else:
        words = (
            f"The pictures show an edit. Which instruction does the same to the video: {forms}?",
            f"Which edit, shown by the two pictures, is to be made to the video: {forms}?",
        )
    yield ask(rng, "instruction", words, edit.instruction)
    kinds = f"{KINDS['recolour']}, {KINDS['remove']} or {KINDS['add']}"
    words = (f"Which is true of the edit: {kinds}?",)
    yield ask(rng, "kind", words, KINDS[edit.kind])
    left = len(edit.actors) - (edit.kind != "add")
    words = ("How many things of the video does the edit leave as they are?",)
    yield ask(rng, "left", words, str(left))
    if edit.kind == "add":
        return
    words = (
        "What does the thing that the edit changes or removes do in the video?",
        "The edit changes or removes a thing. What does it do in the video?",
    )
    yield ask(rng, "deed", words, edit.setting.deed(edit.target))
    moves = edit.target.deed in MOVING
    words = ("Does the thing that the edit changes or removes move in the video?",)
    yield ask(rng, "moves", words, yes_or_no(moves))
    if edit.kind == "recolour":
        words = ("From which colour to which does the edit change a thing of the video?",)
        told = f"from {edit.target.look.colour} to {edit.colour}"
        yield ask(rng, "colours", words, told)
