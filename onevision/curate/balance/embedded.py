"""Captions and concepts in one space -> which captions to keep, rare concepts more often.

Each caption has the `top_k` concepts that are nearest to it. It is drawn, without replacement, with
a weight that is the mean of the inverse frequencies of its concepts. Source: LLaVA-OneVision-1.5
(2509.23661), which uses pictures and 500K concepts in place of captions and theirs.

Memory holds the concepts' vectors and 12 bytes a caption; concepts of captions are in a file.
"""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onevision.curate.balance.encoder import TextEncoder, normed
from onevision.errors import ConfigError

BATCH = 256


@dataclass(frozen=True, kw_only=True)
class EmbeddedConfig:
    """How captions are drawn."""

    num_kept: int
    top_k: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name, option in (("num_kept", "--keep"), ("top_k", "--top-k")):
            if vars(self)[name] < 1:
                raise ConfigError(f"{option} is {vars(self)[name]}; expected at least 1")


@dataclass(frozen=True, kw_only=True)
class EmbeddedSelection:
    """Which captions are kept, and how often each concept is among the nearest."""

    kept: NDArray[np.bool_]  # [captions]
    before: NDArray[np.int64]  # [concepts], over all captions
    after: NDArray[np.int64]  # [concepts], over kept ones


def select_by_embedding(
    captions: Iterable[str | None],
    concepts: list[str],
    encoder: TextEncoder,
    *,
    config: EmbeddedConfig,
    scratch: Path | None = None,
) -> EmbeddedSelection:
    """Draws captions; None stands for one that cannot be read, and is never drawn.

    Raises ConfigError for fewer concepts than a caption has, OSError.
    """
    if len(concepts) < config.top_k:
        raise ConfigError(
            f"--top-k is {config.top_k}, but there are {len(concepts)} concepts; give more with "
            "--concepts, or a smaller --top-k"
        )
    vectors = encoder.encode(concepts)
    centre = vectors.mean(axis=0)
    space = normed(vectors, centre=centre)
    with tempfile.TemporaryFile(dir=scratch) as file:
        counts = np.zeros(len(concepts), np.int64)
        readable: list[NDArray[np.bool_]] = []
        for nearest, is_text in _find_nearest(captions, space, centre, encoder, config.top_k):
            file.write(nearest.tobytes())
            readable.append(is_text)
            counts += np.bincount(nearest[is_text].ravel(), minlength=len(concepts))
        can_keep = np.concatenate(readable) if readable else np.zeros(0, np.bool_)
        file.seek(0)
        nearest = np.memmap(file, np.uint32, "r").reshape(-1, config.top_k) if readable else None
        if nearest is None:
            return EmbeddedSelection(kept=can_keep, before=counts, after=counts)
        kept = _draw(nearest, counts, can_keep, config)
        after = np.bincount(nearest[kept].ravel(), minlength=len(concepts))
        return EmbeddedSelection(kept=kept, before=counts, after=after)


def _find_nearest(
    captions: Iterable[str | None],
    space: NDArray[np.float32],
    centre: NDArray[np.float32],
    encoder: TextEncoder,
    top_k: int,
) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.bool_]]]:
    """Yields the nearest concepts [B, k] of captions, batch by batch, and which are texts [B]."""
    given = iter(captions)
    while batch := list(islice(given, BATCH)):
        near = normed(encoder.encode([one or "" for one in batch]), centre=centre) @ space.T
        found = np.argpartition(-near, top_k - 1, axis=1)[:, :top_k].astype(np.uint32)
        yield found, np.array([one is not None for one in batch])


def _draw(
    nearest: NDArray[np.uint32],
    counts: NDArray[np.int64],
    can_keep: NDArray[np.bool_],
    config: EmbeddedConfig,
) -> NDArray[np.bool_]:
    """Draws without replacement by weight (Efraimidis and Spirakis, 2006)."""
    rng = np.random.default_rng(config.seed)
    inverse = 1 / np.maximum(counts, 1)
    keys = np.empty(len(nearest))
    for begin in range(0, len(nearest), 1 << 16):
        some = nearest[begin : begin + (1 << 16)]
        keys[begin : begin + len(some)] = rng.exponential(size=len(some)) / inverse[some].mean(1)
    keys[~can_keep] = np.inf
    kept = np.zeros(len(nearest), np.bool_)
    count = min(config.num_kept, int(can_keep.sum()))
    if count:
        kept[np.argpartition(keys, count - 1)[:count]] = True
    return kept
