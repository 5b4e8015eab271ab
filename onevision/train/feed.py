"""What a stage learns from, step by step: drawn samples, or the packs of a mixture.

    feed.steps(first=120)  ->  step 120: [MicroBatch, MicroBatch, ...]   this process's share
                               step 121: ...

What stands in a step is a function of the seed and the step's number alone, so a run goes on
anywhere, on any number of processes, and its feed has no state to save.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from onevision.batch import TrainingBatch
from onevision.config import InputConfig
from onevision.conversation import Conversation, Message, Text, Video
from onevision.data.packing import PackedRow, collate, join, share_prefix
from onevision.inputs.processor import Processor
from onevision.synth.families import family_named
from onevision.synth.sample import Sample, rng_for
from onevision.train.halving import divided, middle
from onevision.train.stage import Stage

DESCRIBE = {
    "nothing": ("Make up a description.", "Describe something."),
    "picture": ("Describe the picture.", "What does the picture show?"),
    "pictures": ("Describe the pictures.", "What do the pictures show?"),
    "video": ("Describe the video.", "What happens in the video?"),
}
# Share of the samples that learn their whole caption beside their aspects.
CAPTIONED = 0.5


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """What one process learns from at a time, and where each part of it came from."""

    batch: TrainingBatch
    owners: Tensor  # [L] int64: to which of `samples` each target belongs
    samples: tuple[str, ...]  # "single_image.json, row 7"
    sources: tuple[int, ...]  # of each sample, an index into the feed's sources

    def halves(self) -> "tuple[MicroBatch, MicroBatch] | None":
        """Divide it about where half of its tokens end; None where it is one sample."""
        count = middle(self.batch)
        if count is None:
            return None
        first, second = divided(self.batch, count)
        scored = len(first.targets)
        return (
            MicroBatch(
                batch=first,
                owners=self.owners[:scored],
                samples=self.samples[:count],
                sources=self.sources[:count],
            ),
            MicroBatch(
                batch=second,
                owners=self.owners[scored:] - count,
                samples=self.samples[count:],
                sources=self.sources[count:],
            ),
        )

    def __str__(self) -> str:
        """Say how large it is."""
        batch = self.batch
        samples = self.samples[0] if len(self.samples) == 1 else f"{len(self.samples)} samples"
        return (
            f"{samples}: {batch.input_ids.numel():,} tokens, {len(batch.targets):,} of them "
            f"labelled, {len(batch.pixel_values)} crops"
        )


class Feed(Protocol):
    """The samples of a stage, dealt out to the processes that share a step."""

    @property
    def num_steps(self) -> int:
        """Optimiser steps of the whole stage."""
        ...

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of what samples are drawn from."""
        ...

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """What changes when the samples do, by source; of drawn ones nothing can."""
        ...

    def steps(self, first: int) -> Iterator[list[MicroBatch]]:
        """Give this process's share of every step from `first` (0-based) to the last."""
        ...


class DrawnFeed:
    """Procedural samples, drawn when they are needed."""

    def __init__(
        self, stage: Stage, processor: Processor, *, seed: int, rank: int = 0, ranks: int = 1
    ) -> None:
        assert stage.num_samples is not None, "a stage of families says how many it draws"
        self.stage, self.processor, self.seed = stage, processor, seed
        self.rank, self.ranks = rank, ranks
        self.num_samples = stage.num_samples * stage.epochs
        self.num_steps, self.sources = stage.num_steps(), tuple(stage.families)
        self.fingerprints: Mapping[str, str] = {}

    def steps(self, first: int) -> Iterator[list[MicroBatch]]:
        """Give this process's share of every step from `first` to the last."""
        for step in range(first, self.num_steps):
            begin = step * self.stage.global_batch
            end = min(begin + self.stage.global_batch, self.num_samples)
            yield self.micro_batches(range(begin + self.rank, end, self.ranks))

    def micro_batches(self, indices: Sequence[int]) -> list[MicroBatch]:
        """Draw samples and put those of like length together, padded."""
        drawn = [(index, *self.row(index)) for index in indices]
        drawn.sort(key=lambda one: len(one[2]))
        groups: list[list[tuple[int, str, PackedRow]]] = []
        for one in drawn:
            if not groups or (len(groups[-1]) + 1) * len(one[2]) > self.stage.max_tokens:
                groups.append([])
            groups[-1].append(one)
        return [
            micro_batch(
                [row for _, _, row in group],
                self.processor.config,
                samples=[f"{family} {index}" for index, family, _ in group],
                sources=[self.sources.index(family) for _, family, _ in group],
            )
            for group in groups
        ]

    def row(self, index: int) -> tuple[str, PackedRow]:
        """Return family and row of a sample: a function of stage, seed and index."""
        stage = self.stage
        rng = rng_for("train", f"rows/{stage.name}/{self.seed}", index)
        family, sample = draw(stage, rng)
        asked = rng.sample(sample.questions, min(stage.max_questions, len(sample.questions)))
        turns = [(q.question, q.answer) for q in asked]
        if not stage.aspects or not sample.aspects or rng.random() < CAPTIONED:
            turns.append((rng.choice(DESCRIBE[_kind(sample)]), sample.caption))
        if stage.aspects:
            turns += [("", aspect) for aspect in sample.aspects]
        talks = [
            Conversation([Message("user", [*sample.media, Text(q)]), Message("assistant", a)])
            for q, a in turns
        ]
        return family, share_prefix(self.processor.about_same_media(talks, template=stage.template))


def draw(stage: Stage, rng: random.Random) -> tuple[str, Sample]:
    """Draw a family by its share, and a sample of it."""
    family = rng.choices(list(stage.families), weights=list(stage.families.values()))[0]
    return family, family_named(family)("train", rng.randrange(10**9))


def micro_batch(
    rows: Sequence[PackedRow],
    config: InputConfig,
    *,
    samples: Sequence[str],
    sources: Sequence[int],
) -> MicroBatch:
    """Collate rows; `samples` and `sources` stand for the samples in them, row after row."""
    batch = collate(rows, config)
    length = batch.input_ids.shape[1]
    owners = torch.zeros(len(rows), length, dtype=torch.int64)
    before = 0
    for number, row in enumerate(rows):
        owners[number, : len(row)] = row.sample + before
        before += int(row.sample[-1]) + 1
    assert before == len(samples) == len(sources)
    return MicroBatch(
        batch=batch,
        owners=owners.flatten()[batch.sources],
        samples=tuple(samples),
        sources=tuple(sources),
    )


def packed(
    rows: Sequence[PackedRow],
    config: InputConfig,
    *,
    samples: Sequence[str],
    sources: Sequence[int],
) -> MicroBatch:
    """Collate the samples of a pack in one row."""
    return micro_batch([join(rows)], config, samples=samples, sources=sources)


def _kind(sample: Sample) -> str:
    if not sample.media:
        return "nothing"
    if isinstance(sample.media[0], Video):
        return "video"
    return "picture" if len(sample.media) == 1 else "pictures"
