"""The nine capabilities that LLaVA-OneVision shows by transfer, each as a world and its parts.

Source: arXiv 2408.03326, section 5.3, S1 to S9. The *parts* are what a model may have seen: single
images, several images, videos, each alone. The *world* puts them together, which only the arm
`taught` ever sees.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from onevision.errors import InputError
from onevision.values import name_closest


@dataclass(frozen=True, kw_only=True)
class Capability:
    """One capability."""

    # S1 to S9, as in the paper.
    name: str
    title: str
    # From which skills to which, as the paper says.
    transfer: str
    # The family of procedural samples that is asked about.
    world: str
    # What is shown and asked, in one sentence.
    asks: str
    # What the parts never show.
    unseen: str
    # Families with their relative frequencies, which the arm `transfer` learns.
    parts: Mapping[str, float]
    # The kinds of questions that need more than a part; empty: all that the world asks.
    questions: tuple[str, ...] = ()
    # How questions begin that may have two right answers; they are not asked.
    ambiguous: tuple[str, ...] = ()


_CAPABILITIES = (
    Capability(
        name="S1",
        title="Diagram and chart read jointly",
        transfer="single image -> several images",
        world="figure_pairs",
        asks="A diagram of arrows and a bar chart of the same things; each question needs both.",
        unseen="both figures in one question",
        parts={"figures": 0.6, "pairs": 0.25, "scenes": 0.15},
    ),
    Capability(
        name="S2",
        title="Taps on a phone",
        transfer="single and several images -> agent",
        world="taps",
        asks="Four screens with a tap between each two: which are the three taps?",
        unseen="several screens, and any tap",
        parts={"tap_screens": 0.6, "pairs": 0.4},
    ),
    Capability(
        name="S3",
        title="Set-of-mark prompting",
        transfer="composition of single-image skills",
        world="marks",
        asks="Things carry numbers or letters, by which questions and answers refer to them.",
        unseen="marks on things",
        parts={"scenes": 0.6, "charts": 0.4},
        questions=(
            *("what", "colour", "shape", "size", "which", "which_ones", "count_some"),
            *("neighbour", "share", "alike", "larger"),
        ),
    ),
    Capability(
        name="S4",
        title="Editing instructions for a video",
        transfer="single image and video",
        world="edits",
        asks="A picture or two show an edit: how is the video edited, and what changes in it?",
        unseen="a picture and a video in one question, and any instruction",
        parts={"scenes": 0.4, "deeds": 0.6},
    ),
    Capability(
        name="S5",
        title="Differences between two videos",
        transfer="several images and video",
        world="video_pairs",
        asks="Two videos of the same things, which differ in one of them or in none: in what?",
        unseen="two videos in one question",
        parts={"pairs": 0.3, "statements": 0.2, "deeds": 0.5},
    ),
    Capability(
        name="S6",
        title="Several cameras, as in driving",
        transfer="single and several images -> video",
        world="cameras",
        asks="Videos of two to four cameras: which see a thing, in which order, when?",
        unseen="videos of cameras",
        parts={"camera_stills": 0.5, "pairs": 0.1, "clips": 0.4},
        questions=(
            *("first", "last", "path", "count_cameras", "at_beginning", "at_end", "only_camera"),
            *("count_things", "what", "total", "still"),
        ),
    ),
    Capability(
        name="S7",
        title="Video composed of sub-videos",
        transfer="several images -> video",
        world="split_videos",
        asks="A video of two or four parts at the same time: what happens in which part?",
        unseen="a video of several parts",
        parts={"scenes": 0.2, "pairs": 0.3, "deeds": 0.5},
    ),
    Capability(
        name="S8",
        title="Visual prompts in a video",
        transfer="single image -> video",
        world="pointed",
        asks="An arrow, a circle or a box is drawn on one thing of a video: what does it do?",
        unseen="anything drawn into a video",
        parts={"pointed_stills": 0.5, "deeds": 0.5},
        questions=(
            *("what", "shape", "colour", "deed", "direction", "end", "colour_at_end"),
            *("same_colour", "same_shape", "neighbour"),
        ),
        # "What is the thing in the box?", of what changes its colour.
        ambiguous=("What is ",),
    ),
    Capability(
        name="S9",
        title="An image that refers to a thing in a video",
        transfer="single image and video",
        world="referred",
        asks="A picture of one thing, and a video of several: what does this thing do in it?",
        unseen="a picture and a video in one question",
        parts={"things": 0.2, "pairs": 0.2, "deeds": 0.6},
    ),
)
CAPABILITIES: Mapping[str, Capability] = MappingProxyType({one.name: one for one in _CAPABILITIES})


def choose_capabilities(names: Sequence[str], *, of: str) -> tuple[Capability, ...]:
    """Returns the capabilities of these names, by default all, in the paper's order.

    Raises InputError, which names `of`, the option or argument, for an unknown one.
    """
    for name in names:
        if name not in CAPABILITIES:
            raise InputError(f"{of}: no capability {name!r}{name_closest(name, CAPABILITIES)}")
    return tuple(one for name, one in CAPABILITIES.items() if not names or name in names)
