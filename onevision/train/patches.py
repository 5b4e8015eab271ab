"""What covers each patch of a picture, named by a linear layer: the densest thing to learn to see.

    +-----+-----+     a picture of 2 x 2 patches with a K at its right, taught as
    |     |   K |
    +-----+-----+         0 2        0: nothing; 1 + n: the n-th of the names
    |     |     |         0 0
    +-----+-----+

A caption says once what is there; here every patch is told. Letters and shapes that an encoder does
not learn from captions it learns so (docs/log.md). The layer is thrown away afterwards.
"""

from collections.abc import Sequence

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
from onevision.train.feed import DrawnFeed, MicroBatch, draw
from onevision.train.learner import Learner
from onevision.train.stage import Stage

NOTHING = 0
# Share of a patch that must be covered for it to be told so.
COVERED = 0.06


def names_of(stage: Stage) -> tuple[str, ...]:
    """Return what can cover the pictures of a stage. Raises ConfigError where nobody says."""
    silent = [family for family in stage.families if family not in COVERS]
    if silent or not stage.families or stage.trainable != ("vision_encoder",):
        raise ConfigError(
            f"stage {stage.name}: vision_objective patches teaches the vision encoder alone, from "
            f"families that say what covers a picture ({', '.join(COVERS)}); its families are "
            f"{', '.join(stage.families) or 'none'}, trainable {', '.join(stage.trainable)}"
        )
    return tuple(dict.fromkeys(name for family in stage.families for name in COVERS[family]))


def label_patches(
    regions: Sequence[Region], names: Sequence[str], *, width: int, height: int, side: int
) -> Tensor:
    """Say what covers each of `side` x `side` patches of a picture squashed to a square [P].

    It is the region that covers most of the patch; of less than COVERED nothing.
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
    """Return the share of each of `side` equal parts of 0..1 that lies from `begin` to `end`."""
    edges = torch.arange(side + 1) / side
    covered = edges[1:].clamp(max=end) - edges[:-1].clamp(min=begin)
    return covered.clamp(min=0) * side


class PatchFeed(DrawnFeed):
    """Drawn pictures, one crop each, with what covers their patches in place of words.

    In its batches a position is a patch: `sources` are all of them, `targets` what covers them.
    """

    def __init__(
        self, stage: Stage, processor: Processor, *, seed: int, rank: int = 0, ranks: int = 1
    ) -> None:
        super().__init__(stage, processor, seed=seed, rank=rank, ranks=ranks)
        self.names = names_of(stage)

    def micro_batches(self, indices: Sequence[int]) -> list[MicroBatch]:
        """Draw samples; all are of one size."""
        if not indices:
            return []
        drawn = [self._sample(index) for index in indices]
        crops, labels = zip(*(self._taught(sample) for _, sample in drawn), strict=True)
        config, targets = self.processor.config, torch.stack(labels)  # [N, P]
        pixels = normalise(torch.cat(crops), mean=config.image_mean, std=config.image_std)
        families = [family for family, _ in drawn]
        return [
            MicroBatch(
                batch=patch_batch(pixels, targets),
                owners=torch.arange(len(drawn)).repeat_interleave(targets.shape[1]),
                samples=tuple(f"{f} {n}" for f, n in zip(families, indices, strict=True)),
                sources=tuple(map(self.sources.index, families)),
            )
        ]

    def _taught(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """Return the crop of a picture, uint8 [1, 3, H, W], and what covers its patches [P]."""
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
        """Return family and sample of an index: a function of stage, seed and index."""
        rng = rng_for("train", f"patches/{self.stage.name}/{self.seed}", index)
        return draw(self.stage, rng)


def _picture(sample: Sample) -> PillowImage:
    (media,) = sample.media
    assert isinstance(media, Image) and isinstance(media.source, PillowImage)
    return media.source


def patch_batch(pixels: Tensor, targets: Tensor) -> TrainingBatch:
    """Put crops [N, 3, H, W] and what covers their patches [N, P] where words would stand."""
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
    """Teaches the vision encoder what covers each patch.

    The layer is held by the encoder while it learns, so that it is optimised and saved with it; a
    checkpoint leaves it out.
    """

    divisible = False  # the losses of a batch are all of its patches'

    def __init__(
        self, network: LlavaNetwork, *, names: Sequence[str], encode_always: bool = False
    ) -> None:
        super().__init__(network, encode_always=encode_always)
        width = network.vision_encoder.position_embedding.embedding_dim
        network.vision_encoder.namer = nn.Linear(width, 1 + len(names))

    def forward(self, batch: TrainingBatch, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted sum of the losses of all patches, and each of them [L]."""
        encoder = self.network.vision_encoder
        features = encoder(batch.pixel_values).flatten(0, 1)  # [N, P, C] -> [N * P, C]
        logits = encoder.get_submodule("namer")(features[batch.sources]).float()
        losses = F.cross_entropy(logits, batch.targets, reduction="none")
        return (losses * weights).sum(), losses.detach()
