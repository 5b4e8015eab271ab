"""A stage -> what it reads of each source: samples, crops and tokens.

If the data are available, they are counted: a few samples of each procedural family, the length of
every sample of a planned mixture. A published mixture without its data is *simulated*: its file
gives the number of samples, and ASSUMED describes a sample of each scenario.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from onevision.anyres import Layout, plan, plan_video
from onevision.config import InputConfig, ModelConfig
from onevision.data.entries import DatasetEntry, Modality, count_chosen, read_datasets
from onevision.data.order import count_rows_per_epoch
from onevision.data.packing import PackedRow
from onevision.data.plan import Plan
from onevision.data.remote.ahead import rows_of_few_shards
from onevision.data.samples import SampleReader
from onevision.errors import DataError
from onevision.inputs.chat import IGNORE, MediaSlot
from onevision.inputs.processor import Outline, Processor
from onevision.train.objectives.words import FamilyFeed
from onevision.train.stage import Stage
from onevision.train.validation.split import MIN_SAMPLES, count_held_out, parse_share


@dataclass(frozen=True, kw_only=True)
class Amount:
    """What one epoch reads of one source; all numbers but `num_samples` are means per sample."""

    name: str
    scenario: Modality
    # None if no count is published: such a source is left out of every total.
    num_samples: int | None
    num_crops: float
    visual_tokens: float
    text_tokens: float
    # Text tokens that carry a label.
    labelled_tokens: float
    # Pairs of patches of which one attends to the other in the vision encoder.
    vision_pairs: float
    # Pairs of tokens of which one attends to the other: half the square of a sample's length.
    pairs: float
    # Whether the means are assumed, not counted.
    simulated: bool = False

    @property
    def num_tokens(self) -> float:
        """Mean tokens per sample."""
        return self.visual_tokens + self.text_tokens


def without_held_out(amounts: Sequence[Amount], held_out: str | None) -> tuple[Amount, ...]:
    """Returns what there is to learn from, without a share that is held out.

    Samples of a file that are left out of the mixture are not known before the file is read.
    """
    share = None if held_out is None else parse_share(held_out)
    total = sum(one.num_samples or 0 for one in amounts)
    if share is None or total < MIN_SAMPLES:  # the run says that these are too few
        return tuple(amounts)
    kept = 1 - count_held_out(total, share=share) / total
    return tuple(
        one if one.num_samples is None else replace(one, num_samples=round(kept * one.num_samples))
        for one in amounts
    )


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """What a sample is assumed to be like if there are no data to count."""

    text_tokens: int
    labelled_tokens: int
    # Images per sample; a video has the stage's number of frames.
    num_images: int


# Assumed widths and heights of images, with their shares. Photographs of COCO and Visual Genome are
# 640 pixels wide, web images and charts about 1024, pages about A4 at 150 dpi.
PICTURES = ((640, 480, 0.60), (1024, 768, 0.25), (1240, 1754, 0.15))
ASSUMED: Mapping[Modality, Assumption] = MappingProxyType(
    {
        # Detailed captions of 150 to 200 words, mixed with short answers.
        "single_image": Assumption(text_tokens=260, labelled_tokens=180, num_images=1),
        # Two to six images and a few short questions about them.
        "multi_image": Assumption(text_tokens=220, labelled_tokens=80, num_images=4),
        # Captions of ShareGPT4Video's length, mixed with short answers.
        "video": Assumption(text_tokens=300, labelled_tokens=240, num_images=0),
        # Answers of Evol-Instruct and Magpie: several hundred words.
        "text": Assumption(text_tokens=700, labelled_tokens=550, num_images=0),
    }
)
# With the plain template a sample is one image and its caption: an alt text or one of BLIP's.
CAPTION = Assumption(text_tokens=16, labelled_tokens=16, num_images=1)


def simulate_mixture(path: Path, stage: Stage, config: InputConfig) -> tuple[Amount, ...]:
    """Simulates the sources of a mixture file without their data.

    `config` is the stage's. Raises DataError if the file cannot be read or has no scenarios.
    """
    return tuple(_simulate_dataset(dataset, stage, config) for dataset in read_datasets(path))


def count_mixture(reader: SampleReader, plan: Plan, *, rows_each: int = 32) -> tuple[Amount, ...]:
    """Counts a mixture whose data are available, by its plan.

    Lengths are those of all usable rows. Their composition of crops, visual, text and labelled
    tokens is that of some rows of each source, read from headers. Raises DataError, InputError,
    MediaError.
    """
    mixture = plan.restrict(reader.mixture)
    amounts = []
    for number, (dataset, one, count) in enumerate(
        zip(mixture.datasets, plan.datasets, count_rows_per_epoch(mixture), strict=True)
    ):
        if not count:
            continue
        rows = rows_of_few_shards(dataset)
        some = np.linspace(0, len(rows) - 1, min(rows_each, len(rows))).astype(int)
        outlines = [reader.fit(number, int(row)).whole for row in rows[some]]
        counted = _mean(
            [_of_outline(outline) for outline in outlines],
            name=dataset.entry.name,
            num_samples=count,
        )
        amounts.append(_of_lengths(counted, one.num_tokens[one.usable].astype(np.float64)))
    return tuple(amounts)


def count_families(
    stage: Stage, processor: Processor, *, seed: int = 0, rows_each: int = 16
) -> tuple[Amount, ...]:
    """Counts a stage of procedural families by generating a few samples of each."""
    assert stage.num_samples is not None, "a stage of families has a number of samples"
    total = sum(stage.families.values())
    amounts = []
    for family, weight in stage.families.items():
        feed = FamilyFeed(replace(stage, families={family: 1.0}), processor, seed=seed)
        samples = [_of_row(feed.row(index)[1]) for index in range(rows_each)]
        count = round(stage.num_samples * weight / total)
        amounts.append(_mean(samples, name=family, num_samples=count))
    return tuple(amounts)


def _simulate_dataset(dataset: DatasetEntry, stage: Stage, config: InputConfig) -> Amount:
    if dataset.scenario is None or dataset.share is not None:
        raise DataError(
            f"data set {dataset.name!r} needs a scenario and no share to be planned without its "
            "data; add `scenario`, say `rows` instead of `share`, or give the data"
        )
    assumed = CAPTION if stage.template == "plain" else ASSUMED[dataset.scenario]
    samples = [
        _sample(
            layouts,
            text_tokens=assumed.text_tokens,
            labelled_tokens=assumed.labelled_tokens,
        )
        for layouts in _assumed_layouts(dataset.scenario, assumed, stage, config)
    ]
    shares = [share for _, _, share in PICTURES] if len(samples) > 1 else None
    mean = _mean(samples, name=dataset.name, num_samples=_published_rows(dataset), shares=shares)
    return replace(mean, scenario=dataset.scenario, simulated=True)


def _published_rows(dataset: DatasetEntry) -> int | None:
    if dataset.rows is not None:
        return dataset.rows
    if dataset.published_rows is None:
        return None
    return count_chosen(dataset.sampling_strategy, dataset.published_rows, name=dataset.name)


def _assumed_layouts(
    scenario: Modality, assumed: Assumption, stage: Stage, config: InputConfig
) -> list[tuple[Layout, ...]]:
    """Returns the layouts of assumed samples: one per size in PICTURES, or a single one."""
    if scenario == "text":
        return [()]
    if scenario == "video":
        return [(plan_video(num_frames=stage.num_frames, rule=config.video),)]
    rule = config.image if assumed.num_images == 1 else config.multi_image
    return [
        (plan(width=width, height=height, rule=rule),) * assumed.num_images
        for width, height, _ in PICTURES
    ]


def _of_lengths(counted: Amount, lengths: NDArray[np.float64]) -> Amount:
    """Returns a source with the mean length of all its rows, composed as the counted ones are."""
    scale = float(lengths.mean()) / counted.num_tokens
    return replace(
        counted,
        num_crops=scale * counted.num_crops,
        vision_pairs=scale * counted.vision_pairs,
        visual_tokens=scale * counted.visual_tokens,
        text_tokens=scale * counted.text_tokens,
        labelled_tokens=scale * counted.labelled_tokens,
        pairs=float((lengths**2).mean()) / 2,
    )


def _of_outline(outline: Outline) -> Amount:
    words = [piece for piece in outline.pieces if not isinstance(piece, MediaSlot)]
    return _sample(
        outline.layouts,
        text_tokens=sum(len(piece.ids) for piece in words),
        labelled_tokens=sum(label != IGNORE for piece in words for label in piece.labels),
    )


def _of_row(row: PackedRow) -> Amount:
    amount = _sample(
        row.layouts,
        text_tokens=int((~row.visual_mask).sum()),
        labelled_tokens=int((row.labels != IGNORE).sum()),
    )
    # A branch attends to the shared prefix and itself: as many tokens as its position says.
    return replace(amount, pairs=float((row.position_ids + 0.5).sum()))


def _sample(layouts: Sequence[Layout], *, text_tokens: int, labelled_tokens: int) -> Amount:
    visual = sum(layout.num_tokens for layout in layouts)
    return Amount(
        name="",
        scenario=_scenario(layouts),
        num_samples=1,
        num_crops=sum(layout.num_crops for layout in layouts),
        vision_pairs=count_vision_pairs(layouts),
        visual_tokens=visual,
        text_tokens=text_tokens,
        labelled_tokens=labelled_tokens,
        pairs=(visual + text_tokens) ** 2 / 2,
    )


def count_vision_pairs(layouts: Iterable[Layout]) -> int:
    """Counts the pairs of patches that see each other: of one crop, picture or frame."""
    return sum(one.crops_together * la.side**4 for la in layouts for one in la.owners)


def projector_weights(config: ModelConfig) -> float:
    """Returns how many weights of the projector a patch is multiplied by.

    In its blocks, attention to the other patches of the crop counts as weights.
    """
    square, width = config.projector.merge**2, config.language.hidden_size
    mixed = config.projector.block_width if config.projector.num_blocks else None
    joined = (mixed or config.vision.hidden_size) * square
    hidden = width if square == 1 else joined
    widths = [joined, *[hidden] * (config.projector.num_layers - 1), width]
    layers = sum(before * after for before, after in pairwise(widths)) / square
    if not config.projector.num_blocks:
        return layers
    inner = config.projector.block_width
    block = 12 * inner**2 + 2 * inner * config.vision.num_patches
    return layers + config.vision.hidden_size * inner + config.projector.num_blocks * block


def _scenario(layouts: Iterable[Layout]) -> Modality:
    layouts = list(layouts)
    if any(layout.is_video for layout in layouts):
        return "video"
    names: tuple[Modality, ...] = ("text", "single_image", "multi_image")
    return names[min(len(layouts), 2)]


def _mean(
    samples: Sequence[Amount],
    *,
    name: str,
    num_samples: int | None,
    shares: Sequence[float] | None = None,
) -> Amount:
    """Averages samples, weighted by `shares` (which add up to one) if given."""
    weights = shares or [1 / len(samples)] * len(samples)

    def mean(column: str) -> float:
        return sum(w * vars(s)[column] for w, s in zip(weights, samples, strict=True))

    return replace(
        samples[0],
        name=name,
        num_samples=num_samples,
        num_crops=mean("num_crops"),
        vision_pairs=mean("vision_pairs"),
        visual_tokens=mean("visual_tokens"),
        text_tokens=mean("text_tokens"),
        labelled_tokens=mean("labelled_tokens"),
        pairs=mean("pairs"),
    )
