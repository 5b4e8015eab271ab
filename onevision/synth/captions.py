"""Samples of one picture -> what is known of each, for a writer that cannot see it."""

import re
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from onevision.conversation import Image
from onevision.errors import InputError
from onevision.synth.sample import CANNOT_TELL, Sample, Split

CAPTIONS = "captions.jsonl"
# The first sentence about a scene; those about its things follow it.
SCENE = re.compile(r"A \w+ picture with \d+ objects?\.")
# Descriptions of scenes of fewer things come out too short.
MIN_THINGS = 3


def captioned(
    make: Callable[[Split, int], Sample], split: Split, *, begin: int = 0
) -> Iterator[Sample]:
    """Yields the samples of a split that there is something to write about, from number `begin`.

    Left out are pictures of nothing in their world, and scenes of fewer than MIN_THINGS things.
    """
    return (sample for number in count(begin) if _says_enough(sample := make(split, number)))


def check_captioned(sample: Sample, family: str) -> None:
    """Raises InputError if the samples of a family are not a single picture each."""
    if len(sample.media) != 1 or not isinstance(sample.media[0], Image):
        raise InputError(
            f"--captions goes with families of one picture a sample, which {family} is not; "
            "choose another, such as scenes"
        )


def caption_record(sample: Sample, image: str) -> dict[str, Any]:
    """Returns the record of a picture with the path `image`: its caption, and its aspects."""
    return {"image": image, "captions": [sample.caption, *sample.aspects]}


def _says_enough(sample: Sample) -> bool:
    if SCENE.match(sample.caption):
        return sample.caption.count(" at the ") >= MIN_THINGS
    return CANNOT_TELL not in sample.caption
