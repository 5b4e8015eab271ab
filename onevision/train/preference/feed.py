"""Preferences -> the steps of a stage: every epoch all pairs in another order, packed."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from onevision.batch import TrainingBatch
from onevision.data.packing import PackedRow
from onevision.data.planner import digest_record
from onevision.errors import DataError
from onevision.inputs.processor import Processor
from onevision.train.feed import MicroBatch
from onevision.train.halving import divided, middle
from onevision.train.parallel import Processes
from onevision.train.preference.data import (
    Preference,
    PreferenceBatch,
    preference_batch,
    preference_row,
    read_preferences,
)
from onevision.train.recipes import Stage

NAMED = 5  # pairs that an error names


@dataclass(frozen=True, kw_only=True)
class PairBatch(MicroBatch):
    """Pairs to learn from at a time; what counts as a target is a pair."""

    pairs: PreferenceBatch

    def halves(self) -> "tuple[PairBatch, PairBatch] | None":
        """Divide it about where half of its tokens end; None where it is one pair."""
        count = middle(self.batch)
        if count is None:
            return None
        first, second = divided(self.batch, count)
        return self._of(first, slice(count)), self._of(second, slice(count, None))

    def _of(self, batch: TrainingBatch, some: slice) -> "PairBatch":
        keys = self.pairs.keys[some]
        return PairBatch(
            batch=batch,
            pairs=PreferenceBatch(batch=batch, num_tokens=self.pairs.num_tokens[some], keys=keys),
            owners=torch.arange(len(keys)),
            samples=self.samples[some],
            sources=self.sources[some],
        )

    @property
    def scored_tokens(self) -> int:
        """Tokens of all answers."""
        return int(self.pairs.num_tokens.sum())


class PreferenceFeed:
    """The pairs of one file, dealt out to the processes that share a step.

    Raises DataError where there is no pair, or one is longer than the model can read: than
    `max_positions`, or the stage's `max_tokens`.
    """

    def __init__(
        self,
        stage: Stage,
        processor: Processor,
        preferences: Sequence[Preference],
        *,
        name: str,
        max_positions: int,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if not preferences:
            raise DataError(f"{name}: it has no pair; give a file of preferences")
        self.stage, self.processor, self.preferences = stage, processor, preferences
        self.seed, self.rank, self.ranks = seed, rank, ranks
        self.sources = (name,)
        self.fingerprints = {name: _fingerprint(preferences)}
        self.num_steps = stage.num_steps(len(preferences))
        self._check_lengths(min(max_positions, stage.max_tokens))

    def steps(self, first: int) -> Iterator[list[MicroBatch]]:
        """Give this process's share of every step from `first` to the last."""
        for step in range(first, self.num_steps):
            yield [*self.batches(step)]

    def first_epoch(self) -> Iterator[PairBatch]:
        """Give this process's share of the steps that show every pair once."""
        for step in range(self.num_steps):
            if step * self.stage.global_batch < len(self.preferences):
                yield from self.batches(step)

    def batches(self, step: int) -> Iterator[PairBatch]:
        """Give this process's pairs of a step, as many at a time as `max_tokens` holds."""
        begin = step * self.stage.global_batch
        end = min(begin + self.stage.global_batch, len(self.preferences) * self.stage.epochs)
        group: list[tuple[int, PackedRow]] = []
        for place in range(begin + self.rank, end, self.ranks):
            number = self.number_at(place)
            row = preference_row(self.preferences[number], self.processor)
            if group and sum(len(r) for _, r in group) + len(row) > self.stage.max_tokens:
                yield self._batch(group)
                group = []
            group.append((number, row))
        if group:
            yield self._batch(group)

    def number_at(self, place: int) -> int:
        """Return which pair stands at a place of all epochs: a function of the seed."""
        epoch, within = divmod(place, len(self.preferences))
        return _order(len(self.preferences), f"pairs/{self.seed}/{epoch}")[within]

    def _batch(self, group: Sequence[tuple[int, PackedRow]]) -> PairBatch:
        pairs = preference_batch([row for _, row in group], self.processor.config)
        return PairBatch(
            batch=pairs.batch,
            pairs=pairs,
            owners=torch.arange(len(group)),
            samples=tuple(f"{self.sources[0]}, {self.preferences[n].id}" for n, _ in group),
            sources=(0,) * len(group),
        )

    def _check_lengths(self, most: int) -> None:
        """Refuse pairs that do not fit, from words and headers alone."""
        long = [
            f"{preference.id!r} ({length:,})"
            for preference in self.preferences
            if (length := self._length(preference)) > most
        ]
        if long:
            more = f" and {len(long) - NAMED} more" if len(long) > NAMED else ""
            raise DataError(
                f"{self.sources[0]}: {len(long)} of {len(self.preferences)} pairs are longer than "
                f"the {most:,} tokens that are read: {', '.join(long[:NAMED])}{more}; shorten or "
                "remove them"
            )

    def _length(self, preference: Preference) -> int:
        """Return the tokens of the longer of both conversations."""
        return max(self.processor.outline(c).num_tokens for c in preference.conversations())


def open_feed(
    stage: Stage,
    processor: Processor,
    processes: Processes,
    *,
    path: Path,
    root: Path | None,
    max_positions: int,
    seed: int,
) -> PreferenceFeed:
    """Return this process's feed of a file of pairs; `root` is as in `read_preferences`.

    Raises DataError.
    """
    return PreferenceFeed(
        stage,
        processor,
        read_preferences(path, root=root, num_frames=stage.num_frames),
        name=path.name,
        max_positions=max_positions,
        seed=seed,
        rank=processes.rank,
        ranks=processes.count,
    )


def _fingerprint(preferences: Sequence[Preference]) -> str:
    """Return what changes with the words and the media's names of any pair."""
    told = hashlib.sha256()
    for preference in preferences:
        for conversation in preference.conversations():
            told.update(digest_record(conversation, directory=Path("/")).to_bytes(8, "little"))
    return told.hexdigest()[:16]


@lru_cache(maxsize=2)
def _order(count: int, seed: str) -> list[int]:
    return random.Random(seed).sample(range(count), count)
