"""What a sample shows -> the split it belongs to, so that no content is in both.

`rng_for` gives each split random numbers of its own, but two samples may still show the same. Where
that must not happen, a world draws again until its content, in words, is of the split.
"""

import hashlib
import random
from collections.abc import Callable
from typing import TypeVar

from onevision.synth.sample import Sample, Split

# One content in so many is held out.
HELDOUT_EVERY = 4
Content = TypeVar("Content")


def split_of(content: str) -> Split:
    """Returns the only split in which a sample of this content may be."""
    digest = hashlib.blake2b(content.encode(), digest_size=8).digest()
    return "train" if int.from_bytes(digest, "big") % HELDOUT_EVERY else "heldout"


def content_of(sample: Sample) -> str:
    """Returns what a sample shows: its fullest description, without the caption it begins with."""
    return sample.description.removeprefix(sample.caption).strip()


def is_leaked(split: Split, content: str) -> bool:
    """Whether training must not see this.

    Worlds whose held-out questions were fixed before contents had splits draw their training
    samples again, and leave the held-out ones as they are: only some of those are of `split_of`.
    """
    return split == "train" and split_of(content) == "heldout"


def draw_apart(
    split: Split,
    rng: random.Random,
    make: Callable[[random.Random], Content],
    describe: Callable[[Content], str],
) -> Content:
    """Makes content until it is of the split, by its description."""
    while True:
        content = make(rng)
        if split_of(describe(content)) == split:
            return content
