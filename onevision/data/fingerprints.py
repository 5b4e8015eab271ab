"""Pictures -> 64-bit fingerprints that stay near each other when a picture is scaled or recoded."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Image as PillowImage

# Fingerprints that differ in at most this many bits are taken for the same picture.
MAX_BITS = 3


def hash_picture(image: PillowImage) -> int:
    """Return the difference hash: is each cell of an 8 x 8 grid darker than its right neighbour."""
    small = image.convert("L").resize((9, 8), Image.Resampling.BOX)
    cells = np.asarray(small).astype(np.int16)
    bits = np.packbits((cells[:, 1:] > cells[:, :-1]).flatten())
    return int.from_bytes(bits.tobytes(), "big")


def find_near_pairs(
    left: NDArray[np.uint64], right: NDArray[np.uint64] | None = None
) -> Iterator[tuple[int, int]]:
    """Give index pairs of nearly equal fingerprints: within `left` (i < j), or across to `right`.

    Two 64-bit words that differ in at most 3 bits agree in one of their four 16-bit quarters, so
    only words that share a quarter are compared. Flat pictures (no bit set) are left out: they
    all look alike. Give each fingerprint once: many equal ones make many pairs.
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
            for earlier in range(quarter):  # where they were found already
                near &= _quarter(differing, earlier) != 0
            for j in candidates[near].tolist():
                yield i, j


def _quarter(words: NDArray[np.uint64], number: int) -> NDArray[np.uint64]:
    return (words >> np.uint64(16 * number)) & np.uint64(0xFFFF)
