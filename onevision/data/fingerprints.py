"""Images -> 64-bit perceptual hashes, which scaling and re-encoding hardly change."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Image as PillowImage

# Hashes that differ in at most this many bits count as the same image.
MAX_BITS = 3


def hash_picture(image: PillowImage) -> int:
    """Returns the difference hash: whether each cell of an 8 x 8 grid is darker than the next."""
    small = image.convert("L").resize((9, 8), Image.Resampling.BOX)
    cells = np.asarray(small).astype(np.int16)
    bits = np.packbits((cells[:, 1:] > cells[:, :-1]).flatten())
    return int.from_bytes(bits.tobytes(), "big")


def find_near_pairs(
    left: NDArray[np.uint64], right: NDArray[np.uint64] | None = None
) -> Iterator[tuple[int, int]]:
    """Yields index pairs of nearly equal hashes: within `left` (i < j), or from `left` to `right`.

    Two 64-bit words that differ in at most 3 bits agree in one of their four 16-bit quarters, so
    only words that share a quarter are compared. Flat images (no bit set) are left out: they all
    look alike. Pass each hash once: equal ones make many pairs.
    """
    other = left if right is None else right
    for quarter in range(4):
        by_key = np.argsort(_quarter(other, quarter), kind="stable")
        keys = _quarter(other, quarter)[by_key]
        firsts = np.searchsorted(keys, _quarter(left, quarter))
        lasts = np.searchsorted(keys, _quarter(left, quarter), side="right")
        for i in np.flatnonzero((lasts > firsts) & (left != 0)).tolist():
            candidates = by_key[firsts[i] : lasts[i]]
            if right is None:
                candidates = candidates[candidates > i]
            differing = left[i] ^ other[candidates]
            near = (np.bitwise_count(differing) <= MAX_BITS) & (other[candidates] != 0)
            for earlier in range(quarter):  # where the pair was already found
                near &= _quarter(differing, earlier) != 0
            for j in candidates[near].tolist():
                yield i, j


def _quarter(words: NDArray[np.uint64], number: int) -> NDArray[np.uint64]:
    return (words >> np.uint64(16 * number)) & np.uint64(0xFFFF)
