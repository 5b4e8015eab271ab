"""Why a model fails outside of its training range: a few causes, each tested on the same questions.

    python runs/probe_causes.py MODEL ANSWERS [--count 24]

ANSWERS is the folder that `onevision probe MODEL -o ANSWERS` wrote. Every line compares two ways to
ask the same questions: if the suspected cause is the cause, the second is better. docs/failures.md
has the results.
"""

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import ImageEnhance, ImageFilter
from PIL.Image import Image as PillowImage

from onevision.conversation import Conversation, Image, Message, Text, Video
from onevision.eval.heldout import MAX_ANSWER_TOKENS
from onevision.eval.statistics import paired_means, proportion_interval
from onevision.generate.answer import Model, load
from onevision.science.probes import corruptions
from onevision.science.probes.item import ProbeItem, drawn_item
from onevision.science.probes.pictures import SIDE, TURNED, corruption_rng, random_still
from onevision.science.probes.registry import PROBES
from onevision.science.probes.results import read_results
from onevision.science.probes.several import PLACES
from onevision.synth.kit.scene import COLUMNS, ROWS, draw_scene
from onevision.synth.kit.shapes import COLOURS, SHAPES

SEED, BATCH = 0, 8
NUM_TRAINED_FRAMES, NUM_TRAINED_PICTURES = 16, 4
Change = Callable[[PillowImage], PillowImage]


@dataclass(frozen=True, kw_only=True)
class Cause:
    """A suspected cause: what is asked with it, and without it."""

    name: str
    with_it: Sequence[ProbeItem]
    without: Sequence[ProbeItem]


def main() -> None:
    """Prints the share of right answers with and without each cause."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("answers", type=Path)
    parser.add_argument("--count", type=int, default=24)
    options = parser.parse_args()
    print_places(options.answers)
    model = load(options.model)
    for cause in causes(options.count):
        scores = [ask(model, items) for items in (cause.with_it, cause.without)]
        shares = [proportion_interval(round(sum(some)), len(some)) for some in scores]
        change = paired_means(*scores)
        print(
            f"{cause.name}: " + " -> ".join(
                f"{100 * s.value:.0f} % ({100 * s.low:.0f} to {100 * s.high:.0f})" for s in shares
            )
            + f", {100 * change.value:+.0f} points, p {change.p:.2g}, {len(scores[0])} questions",
            flush=True,
        )  # fmt: skip


def causes(count: int) -> list[Cause]:
    """Returns the suspected causes, with `count` questions each."""
    return [
        thinned(64, count),
        repaired("contrast", 85, "given back", give_contrast_back, count),
        repaired("noise", 64, "smoothed", lambda p: p.filter(ImageFilter.GaussianBlur(2)), count),
        spread(8, count),
        stretched(8, count),
        reworded(
            "polite", "without the thanks", lambda text: text.removesuffix(" Thank you!"), count
        ),
        reworded("in capitals", "names in small letters", small_names, count),
        reworded("in capitals", "in small letters", str.lower, count),
    ]


def thinned(frames: int, count: int) -> Cause:
    """Clips of too many frames, and every fourth of them: the number is the cause, or events."""
    items = make_all("frames", str(frames), count)
    step = frames // NUM_TRAINED_FRAMES
    name = f"{frames} frames -> {NUM_TRAINED_FRAMES} of them"
    return Cause(name=name, with_it=items, without=[thin(item, step) for item in items])


def thin(item: ProbeItem, step: int) -> ProbeItem:
    """Returns an item with every `step`-th frame of its clip."""
    (video,) = item.conversation.media
    assert isinstance(video, Video) and isinstance(video.source, list)
    return with_media(item, Video(video.source[::step]))


def repaired(name: str, value: float, how: str, repair: Change, count: int) -> Cause:
    """Corrupted pictures, and the same repaired: what is lost is in the pixels, or not."""
    level = next(level.label for level in PROBES[name].levels if level.value == value)
    items = make_all(name, level, count)
    fixed = []
    for item in items:
        (image,) = item.conversation.media
        assert isinstance(image.source, PillowImage)
        fixed.append(with_media(item, Image(repair(image.source))))
    return Cause(name=f"{name} {level} -> {how}", with_it=items, without=fixed)


def spread(aspect: int, count: int) -> Cause:
    """Long pictures with things all along, and with all things in the middle of plain ground.

    Questions about places are left out, whose answers would change.
    """
    level = next(one.label for one in PROBES["aspect"].levels if one.value == aspect)
    items: list[ProbeItem] = []
    packed: list[ProbeItem] = []
    for index, item in enumerate(make_all("aspect", level, count)):
        if item.family in TURNED:
            continue
        items.append(item)
        scene, rng = random_still(SEED, index).scene, corruption_rng("aspect", SEED, index)
        square = draw_scene(scene, width=SIDE // 2, height=SIDE // 2)
        packed.append(with_media(item, Image(corruptions.pad_to_aspect(square, aspect, rng))))
    return Cause(name=f"aspect {aspect} -> things together", with_it=items, without=packed)


def stretched(aspect: int, count: int) -> Cause:
    """Long pictures, and square ones stretched to the same size.

    The base, the whole picture squashed into one crop, then shows things as they were trained, and
    the other crops do not: is it the base that the model reads?
    """
    level = next(one.label for one in PROBES["aspect"].levels if one.value == aspect)
    items, pulled = make_all("aspect", level, count), []
    for index, item in enumerate(items):
        (image,) = item.conversation.media
        assert isinstance(image.source, PillowImage)
        square = draw_scene(random_still(SEED, index).scene, width=SIDE // 2, height=SIDE // 2)
        pulled.append(with_media(item, Image(square.resize(image.source.size))))
    return Cause(name=f"aspect {aspect} -> a stretched square", with_it=items, without=pulled)


def give_contrast_back(picture: PillowImage) -> PillowImage:
    """Undoes a loss of 85 % of contrast, but for what was rounded."""
    return ImageEnhance.Contrast(picture).enhance(1 / 0.15)


def reworded(label: str, how: str, change: Callable[[str], str], count: int) -> Cause:
    """Questions in another wording, and the same with one difference less."""
    items = make_all("paraphrase", label, count)
    changed = [
        drawn_item(one.conversation.media, question=change(one.question), expected=one.expected,
                   family=one.family)
        for one in items
    ]  # fmt: skip
    return Cause(name=f"{label} -> {how}", with_it=items, without=changed)


def small_names(text: str) -> str:
    """Returns a text with the names of colours, shapes and places in small letters."""
    names = {*COLOURS, *SHAPES, *COLUMNS, *ROWS, "large", "small"}
    return re.sub(r"[A-Z]+", lambda word: word[0].lower() if word[0].lower() in names else word[0],
                  text)  # fmt: skip


def make_all(name: str, label: str, count: int) -> list[ProbeItem]:
    """Returns the first items at a level of a probe."""
    level = next(level for level in PROBES[name].levels if level.label == label)
    return [PROBES[name].make(level, SEED, index) for index in range(count)]


def with_media(item: ProbeItem, medium: Image | Video) -> ProbeItem:
    """Returns an item that asks the same about another medium."""
    talk = Conversation([Message("user", [medium, Text(item.question)])])
    return ProbeItem(conversation=talk, question=item.question, expected=item.expected,
                     family=item.family, score=item.score)  # fmt: skip


def ask(model: Model, items: Sequence[ProbeItem]) -> list[float]:
    """Returns the score of each answer."""
    scores: list[float] = []
    for begin in range(0, len(items), BATCH):
        some = items[begin : begin + BATCH]
        replies = model.ask_all(
            [item.conversation for item in some], max_new_tokens=MAX_ANSWER_TOKENS
        )
        scores += [item.score(reply.text) for item, reply in zip(some, replies, strict=True)]
    return scores


def print_places(answers: Path) -> None:
    """Prints, of sets with more pictures than were trained, the share right by the place asked."""
    near: dict[bool, list[float]] = {True: [], False: []}
    for line in read_results(answers).by_probe.get("images", ()):
        text = line["expected"] if line["family"] == "which_has" else line["question"]
        places = [place for place in PLACES if re.search(rf"\b{place}\b", text)]
        if places and int(line["level"]) > NUM_TRAINED_PICTURES:
            near[PLACES.index(places[0]) < NUM_TRAINED_PICTURES].append(line["score"])
    for is_near, scores in near.items():
        if scores:
            share = proportion_interval(round(sum(scores)), len(scores))
            where = "among the first four" if is_near else "after the fourth"
            print(
                f"more than four pictures, asked about one {where}: {100 * share.value:.0f} % "
                f"({100 * share.low:.0f} to {100 * share.high:.0f}) of {len(scores)}"
            )


if __name__ == "__main__":
    main()
