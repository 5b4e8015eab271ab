"""Pictures with labelled regions -> the loss of naming what covers each patch, by a linear layer.

    +-----+-----+     a picture of 2 x 2 patches with a K at its right has the labels
    |     |   K |
    +-----+-----+         0 2        0: nothing; 1 + n: the n-th of the names
    |     |     |         0 0
    +-----+-----+

A caption names a thing once; here every patch it covers has a label. An encoder learns letters and
shapes this way that it does not learn from captions (docs/log.md). The layer is discarded after the
stage.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from PIL.Image import Image as PillowImage
from torch import Tensor, nn

from onevision.anyres import SingleCrop, plan
from onevision.batch import TrainingBatch
from onevision.conversation import Image
from onevision.errors import ConfigError
from onevision.inputs.image import cut_crops, normalise
from onevision.inputs.processor import Processor
from onevision.model.llava import LlavaNetwork
from onevision.synth.families import COVERS
from onevision.synth.sample import Region, Sample, rng_for
from onevision.train.feed import MicroBatch
from onevision.train.learner import Learner, LossTerms
from onevision.train.objectives.objective import Objective, RunContext
from onevision.train.objectives.words import FamilyFeed, choose_sample, open_feed
from onevision.train.stage import Stage

NOTHING = 0
# Share of a patch that a region must cover to label it.
COVERED = 0.06


def make_patches(run: RunContext) -> Objective:
    """Returns the cross-entropy of naming every patch. Raises ConfigError if data do not fit."""
    names = label_names(run.config.stage)
    feed = open_feed(run, family_feed=PatchFeed)
    return Objective(feed=feed, make_learner=partial(PatchLearner, names=names))


def label_names(stage: Stage) -> tuple[str, ...]:
    """Returns what can cover the pictures of a stage.

    Raises ConfigError if a family does not label its pictures, or other parts than the encoder
    train.
    """
    unlabelled = [family for family in stage.families if family not in COVERS]
    if unlabelled or not stage.families or stage.trainable != ("vision_encoder",):
        raise ConfigError(
            f"stage {stage.name}: vision_objective patches trains the vision encoder alone, on "
            f"families that label what covers a picture ({', '.join(COVERS)}); its families are "
            f"{', '.join(stage.families) or 'none'}, trainable {', '.join(stage.trainable)}"
        )
    return tuple(dict.fromkeys(name for family in stage.families for name in COVERS[family]))


def label_patches(
    regions: Sequence[Region], names: Sequence[str], *, width: int, height: int, side: int
) -> Tensor:
    """Returns the label [P] of each of `side` x `side` patches of a picture squashed to a square.

    It is that of the region that covers most of the patch, if that is at least COVERED of it.
    """
    labels, most = torch.full((side, side), NOTHING), torch.full((side, side), COVERED)
    for region in regions:
        across = _overlap(region.left / width, region.right / width, side)
        down = _overlap(region.top / height, region.bottom / height, side)
        covered = down[:, None] * across
        labels[covered > most] = 1 + names.index(region.name)
        most = torch.maximum(most, covered)
    return labels.flatten()


def _overlap(begin: float, end: float, side: int) -> Tensor:
    """Returns the share of each of `side` equal parts of 0..1 that lies from `begin` to `end`."""
    edges = torch.arange(side + 1) / side
    covered = edges[1:].clamp(max=end) - edges[:-1].clamp(min=begin)
    return covered.clamp(min=0) * side


class PatchFeed(FamilyFeed):
    """Procedural pictures, one crop each, with the labels of their patches in place of words.

    In its batches a position is a patch: `sources` are all of them, `targets` their labels.
    """

    def __init__(
        self, stage: Stage, processor: Processor, *, seed: int, rank: int = 0, ranks: int = 1
    ) -> None:
        super().__init__(stage, processor, seed=seed, rank=rank, ranks=ranks)
        self.names = label_names(stage)

    def micro_batches(self, indices: Sequence[int]) -> list[MicroBatch]:
        """Makes samples; all are of one size."""
        if not indices:
            return []
        made = [self._sample(index) for index in indices]
        crops, labels = zip(*(self._crop_and_labels(sample) for _, sample in made), strict=True)
        config, targets = self.processor.config, torch.stack(labels)  # [N, P]
        pixels = normalise(torch.cat(crops), mean=config.image_mean, std=config.image_std)
        families = [family for family, _ in made]
        return [
            MicroBatch(
                batch=patch_batch(pixels, targets),
                owners=torch.arange(len(made)).repeat_interleave(targets.shape[1]),
                samples=tuple(f"{f} {n}" for f, n in zip(families, indices, strict=True)),
                sources=tuple(map(self.sources.index, families)),
            )
        ]

    def _crop_and_labels(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """Returns the crop of a picture, uint8 [1, 3, H, W], and the labels of its patches [P]."""
        picture, inputs = _picture(sample), self.processor.config
        width, height, rule = picture.width, picture.height, inputs.image
        assert isinstance(rule, SingleCrop), "patches are learned at one crop"
        crop = cut_crops(
            picture, plan(width=width, height=height, rule=rule), image_mean=inputs.image_mean
        )
        return crop, label_patches(
            sample.regions, self.names, width=width, height=height, side=rule.side
        )

    def _sample(self, index: int) -> tuple[str, Sample]:
        """Returns family and sample of an index, which depend on stage, seed and index alone."""
        rng = rng_for("train", f"patches/{self.stage.name}/{self.seed}", index)
        return choose_sample(self.stage, rng)


def _picture(sample: Sample) -> PillowImage:
    (media,) = sample.media
    assert isinstance(media, Image) and isinstance(media.source, PillowImage)
    return media.source


def patch_batch(pixels: Tensor, targets: Tensor) -> TrainingBatch:
    """Returns a batch of crops [N, 3, H, W] whose positions are patches, with labels [N, P]."""
    count, patches = targets.shape
    return TrainingBatch(
        input_ids=torch.zeros(count, patches, dtype=torch.int64),
        visual_mask=torch.ones(count, patches, dtype=torch.bool),
        position_ids=torch.arange(patches).expand(count, patches),
        mask=torch.ones(count, 1, 1, 1, dtype=torch.bool),
        sources=torch.arange(count * patches),
        targets=targets.flatten(),
        pixel_values=pixels,
        layouts=(),
    )


class PatchLearner(Learner):
    """Trains the vision encoder to name what covers each patch.

    The encoder holds the layer while it learns, so that the layer is optimised and saved with it;
    a checkpoint leaves it out.
    """

    divisible = False  # a crop has no layout here, by which a batch is split

    def __init__(
        self, network: LlavaNetwork, *, names: Sequence[str], encode_always: bool = False
    ) -> None:
        super().__init__(network, encode_always=encode_always)
        width = network.vision_encoder.width
        network.vision_encoder.namer = nn.Linear(width, 1 + len(names))

    def forward(self, micro_batch: MicroBatch, weights: Tensor) -> LossTerms:
        """Returns the weighted sum of the losses of all patches, and each of them [L]."""
        encoder, batch = self.network.vision_encoder, micro_batch.batch
        features = encoder(batch.pixel_values).flatten(0, 1)  # [N, P, C] -> [N * P, C]
        logits = encoder.get_submodule("namer")(features[batch.sources]).float()
        losses = F.cross_entropy(logits, batch.targets, reduction="none")
        return LossTerms((losses * weights).sum(), losses.detach())
