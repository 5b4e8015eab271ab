"""The registry of procedural families: name -> what makes its samples, and what it shows.

A family is a module of `worlds/` with a function `make`; its name is the module's, and the first
line of the module's docstring is what `onevision synth list` prints.
"""

from collections.abc import Callable, Mapping
from types import ModuleType

from onevision.errors import InputError
from onevision.synth.sample import Sample, Split
from onevision.synth.worlds.charts import charts
from onevision.synth.worlds.clips import cameras, clips, pans, pointed
from onevision.synth.worlds.composed import (
    camera_stills,
    deeds,
    edits,
    figure_pairs,
    figures,
    pointed_stills,
    referred,
    split_videos,
    tap_screens,
    taps,
    video_pairs,
)
from onevision.synth.worlds.diagrams import geometry
from onevision.synth.worlds.lettering import capitals, glimpses, lettered, plates, signs
from onevision.synth.worlds.pages import chinese_documents, documents
from onevision.synth.worlds.rooms import rooms
from onevision.synth.worlds.screens import screens
from onevision.synth.worlds.sets import pairs, sequences, statements
from onevision.synth.worlds.shapes import boxes, marks, scenes, texts, things
from onevision.synth.worlds.tables import tables
from onevision.values import name_closest

Maker = Callable[[Split, int], Sample]

_MODULES: Mapping[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        *(scenes, things, signs, plates, capitals, glimpses, lettered),
        *(rooms, marks, boxes, documents, chinese_documents),
        *(charts, tables, geometry, screens),
        *(pairs, statements, sequences),
        *(clips, pans, pointed, cameras),
        *(figures, figure_pairs, tap_screens, taps, deeds, pointed_stills, camera_stills),
        *(edits, video_pairs, split_videos, referred),
        texts,
    )
}
FAMILIES: Mapping[str, Maker] = {name: module.make for name, module in _MODULES.items()}
# What can cover the pictures of families that say so.
COVERS: Mapping[str, tuple[str, ...]] = {
    "capitals": capitals.CAPITALS,
    "glimpses": capitals.CAPITALS,
    "lettered": lettered.COVERS,
}


def family_named(name: str) -> Maker:
    """Returns a family's maker. Raises InputError for an unknown name."""
    if name not in FAMILIES:
        raise InputError(f"no family {name!r}{name_closest(name, FAMILIES)}")
    return FAMILIES[name]


def summary(name: str) -> str:
    """Returns what a family shows, in one line."""
    return (_MODULES[name].__doc__ or "").strip().splitlines()[0]
