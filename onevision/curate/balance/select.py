"""Captions and their phrases -> which captions to keep, in memory that hardly grows with them.

From the rarest phrase up, the captions that hold it and are not kept yet are added; of more than
`max_count`, so many at random. Phrases of fewer than `min_count` captions add nothing. Source: the
filter of CC3M, 2304.08485, appendix.

Pairs of phrase and caption are written into files by a hash of the phrase, so each file is sorted
alone. Memory holds 20 bytes for a phrase that counts, and one for a caption.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NUM_FILES = 64
# Pairs held before they are written.
BUFFER = 1 << 18
PAIR = np.dtype([("phrase", "<u8"), ("caption", "<u4")])


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which captions are kept, and how often phrases occur before and after."""

    kept: NDArray[np.bool_]  # [captions]
    num_phrases: int
    num_rare: int  # phrases below the minimum
    # Of every phrase that counts, rarest first: captions that hold it, and kept ones that do.
    before: NDArray[np.int64]
    after: NDArray[np.int64]


def select(
    captions: Iterable[Iterable[str]],
    *,
    min_count: int,
    max_count: int,
    seed: int,
    scratch: Path | None = None,
) -> Selection:
    """Chooses among captions, each given by its phrases; the same for the same seed.

    `scratch` is a directory for files of 12 bytes a phrase and caption. Raises OSError.
    """
    with tempfile.TemporaryDirectory(dir=scratch, prefix="onevision-balance-") as place:
        files = [Path(place) / f"{number}.pairs" for number in range(NUM_FILES)]
        num_captions = _write_pairs(captions, files)
        groups, num_phrases = _sort_files(files, min_count=min_count)
        order = np.lexsort((groups["phrase"], groups["count"]))
        groups = groups[order]
        maps = [np.memmap(f, PAIR, "r") if f.stat().st_size else np.empty(0, PAIR) for f in files]
        kept = np.zeros(num_captions, dtype=np.bool_)
        for group in groups:
            rows = _rows(group, maps)
            new = rows[~kept[rows]]
            if len(new) > max_count:
                rng = np.random.default_rng([seed, int(group["phrase"])])
                new = rng.choice(new, max_count, replace=False)
            kept[new] = True
        after = np.array([kept[_rows(group, maps)].sum() for group in groups], dtype=np.int64)
        return Selection(
            kept=kept,
            num_phrases=num_phrases,
            num_rare=num_phrases - len(groups),
            before=groups["count"].astype(np.int64),
            after=after,
        )


GROUP = np.dtype([("phrase", "<u8"), ("count", "<u4"), ("file", "u1"), ("begin", "<u4")])


def hash_phrase(phrase: str) -> int:
    """Returns 64 bits of a phrase's hash."""
    return int.from_bytes(hashlib.blake2b(phrase.encode(), digest_size=8).digest(), "little")


def _write_pairs(captions: Iterable[Iterable[str]], files: list[Path]) -> int:
    """Writes all pairs, each into the file of its phrase; returns the number of captions."""
    number = -1
    with ExitStack() as opened:
        handles = [opened.enter_context(file.open("wb")) for file in files]
        for buffer in _buffers(captions):
            number = max(number, buffer.num_captions - 1)
            owners = (buffer.pairs["phrase"] >> np.uint64(58)).astype(np.uint8)
            by_owner = np.argsort(owners, kind="stable")
            ends = np.searchsorted(owners[by_owner], np.arange(NUM_FILES + 1))
            for owner, handle in enumerate(handles):
                handle.write(buffer.pairs[by_owner[ends[owner] : ends[owner + 1]]].tobytes())
    return number + 1


@dataclass(frozen=True)
class _Buffer:
    pairs: NDArray[np.void]
    num_captions: int  # up to here


def _buffers(captions: Iterable[Iterable[str]]) -> Iterator[_Buffer]:
    pairs: list[tuple[int, int]] = []
    number = -1
    for number, phrases in enumerate(captions):
        pairs.extend((hash_phrase(phrase), number) for phrase in phrases)
        if len(pairs) >= BUFFER:
            yield _Buffer(np.array(pairs, dtype=PAIR), number + 1)
            pairs.clear()
    yield _Buffer(np.array(pairs, dtype=PAIR), number + 1)


def _sort_files(files: list[Path], *, min_count: int) -> tuple[NDArray[np.void], int]:
    """Sorts each file by phrase; returns the phrases that count, and how many there are in all."""
    found, num_phrases = [np.empty(0, GROUP)], 0
    for number, file in enumerate(files):
        pairs = np.fromfile(file, PAIR)
        pairs = pairs[np.lexsort((pairs["caption"], pairs["phrase"]))]
        pairs.tofile(file)
        phrases, begins, counts = np.unique(pairs["phrase"], return_index=True, return_counts=True)
        num_phrases += len(phrases)
        often = counts >= min_count
        groups = np.empty(int(often.sum()), GROUP)
        groups["phrase"], groups["count"] = phrases[often], counts[often]
        groups["file"], groups["begin"] = number, begins[often]
        found.append(groups)
    return np.concatenate(found), num_phrases


def _rows(group: np.void, maps: list[NDArray[np.void]]) -> NDArray[np.uint32]:
    begin = int(group["begin"])
    return maps[int(group["file"])]["caption"][begin : begin + int(group["count"])]
