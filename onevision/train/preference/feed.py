"""Preferences -> the steps of a stage: in every epoch all pairs in another order, packed."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from onevision.batch import TrainingBatch
from onevision.config import InputConfig
from onevision.data.packing import PackedRow, collate, join
from onevision.data.planner import digest_record
from onevision.errors import DataError
from onevision.inputs.chat import IGNORE
from onevision.inputs.processor import Processor
from onevision.train.feed import MicroBatch
from onevision.train.preference.data import Preference, preference_row
from onevision.train.stage import Stage

CHOSEN, REJECTED = 1, 2  # branches of a pair's row
MAX_NAMED = 5  # pairs that an error names


@dataclass(frozen=True, kw_only=True)
class PairBatch(MicroBatch):
    """P pairs in one row, packed; the terms of its loss are pairs.

    Scored positions go pair by pair, the chosen answer first.
    """

    num_tokens: Tensor  # [P, 2] int64, scored positions of each chosen and rejected answer
    keys: tuple[str, ...]  # of each pair, by content

    def _part(self, batch: TrainingBatch, part: slice) -> Self:
        half = super()._part(batch, part)
        return replace(half, num_tokens=self.num_tokens[part], keys=self.keys[part])


class PreferenceFeed:
    """The pairs of one file, dealt out to the processes that share a step.

    Raises DataError if there is no pair, or one is longer than `max_positions` or the stage's
    `max_tokens`.
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
        """Yields this process's share of every step from `first` to the last."""
        for step in range(first, self.num_steps):
            yield [*self.batches(step)]

    def first_epoch(self) -> Iterator[PairBatch]:
        """Yields this process's share of the steps that show every pair once."""
        for step in range(self.num_steps):
            if step * self.stage.global_batch < len(self.preferences):
                yield from self.batches(step)

    def batches(self, step: int) -> Iterator[PairBatch]:
        """Yields this process's pairs of a step, as many at a time as fit in `max_tokens`."""
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
        """Returns which pair stands at a place of all epochs; it depends on the seed alone."""
        epoch, within = divmod(place, len(self.preferences))
        return _order(len(self.preferences), f"pairs/{self.seed}/{epoch}")[within]

    def _batch(self, group: Sequence[tuple[int, PackedRow]]) -> PairBatch:
        return pack_pairs(
            [row for _, row in group],
            self.processor.config,
            samples=[f"{self.sources[0]}, {self.preferences[n].id}" for n, _ in group],
        )

    def _check_lengths(self, most: int) -> None:
        """Refuses pairs that do not fit; reads only words and the headers of media."""
        long = [
            f"{preference.id!r} ({length:,})"
            for preference in self.preferences
            if (length := self._length(preference)) > most
        ]
        if long:
            more = f" and {len(long) - MAX_NAMED} more" if len(long) > MAX_NAMED else ""
            raise DataError(
                f"{self.sources[0]}: {len(long)} of {len(self.preferences)} pairs are longer than "
                f"the limit of {most:,} tokens: {', '.join(long[:MAX_NAMED])}{more}; shorten or "
                "remove them"
            )

    def _length(self, preference: Preference) -> int:
        """Returns the tokens of the longer of both conversations."""
        return max(self.processor.outline(c).num_tokens for c in preference.conversations())


def pack_pairs(
    rows: Sequence[PackedRow], config: InputConfig, *, samples: Sequence[str]
) -> PairBatch:
    """Packs the rows of P pairs into one, without padding; `samples` names the pairs."""
    return PairBatch(
        batch=collate([join(rows)], config),
        owners=torch.arange(len(rows)),
        samples=tuple(samples),
        sources=(0,) * len(rows),
        num_tokens=torch.stack([_count_scored(row) for row in rows]),
        keys=tuple(_content_key(row) for row in rows),
    )


def _count_scored(row: PackedRow) -> Tensor:
    """Counts the scored positions of both answers: [2]."""
    scored = row.branch[(row.labels != IGNORE) & (row.previous >= 0)]
    return torch.bincount(scored, minlength=REJECTED + 1)[CHOSEN:]


def _content_key(row: PackedRow) -> str:
    """Returns a digest of all that the model reads or learns of a pair."""
    content = hashlib.blake2b(repr(row.layouts).encode(), digest_size=16)
    for tensor in (row.input_ids, row.labels, row.branch, row.crops):
        content.update(repr(tuple(tensor.shape)).encode())
        content.update(tensor.contiguous().numpy().data)
    return content.hexdigest()


def _fingerprint(preferences: Sequence[Preference]) -> str:
    """Returns a digest of the words and the media's names of all pairs."""
    content = hashlib.sha256()
    for preference in preferences:
        for conversation in preference.conversations():
            content.update(digest_record(conversation, directory=Path("/")).to_bytes(8, "little"))
    return content.hexdigest()[:16]


@lru_cache(maxsize=2)
def _order(count: int, seed: str) -> list[int]:
    return random.Random(seed).sample(range(count), count)
