"""A planned mixture -> its samples to learn from and those that are held out.

Samples that repeat one another, or show the same file, are on the same side. Which side depends on
their content alone: not on their order, their names or the seed. Copies of a file count as the same
file; a picture that was saved again does not (`onevision data check` finds those).
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PIL

from onevision.conversation import Conversation, Image, Text, Video
from onevision.data.plan import Plan
from onevision.data.samples import SampleReader
from onevision.errors import ConfigError, DataError
from onevision.plural import counted

# A share is at least so many samples, on which a figure is known to about a quarter, or a fifth of
# what there is.
LEAST_HELD_OUT, LARGEST_SHARE = 16, 1 / 5
# Fewer usable samples are not divided.
MIN_SAMPLES = 4
# Bytes of a file that tell it from others, at either end.
END_BYTES = 64 * 2**10

Mask = NDArray[np.bool_]  # of the rows of one data set


@dataclass(frozen=True, kw_only=True)
class Held:
    """Which rows of each data set are held out and which may be learned from."""

    held_out: tuple[Mask, ...]
    learned: tuple[Mask, ...]
    # Whether samples that share pictures had to be divided, since all of them share some.
    divided: bool = False

    def to_bytes(self) -> bytes:
        """Returns it for other processes."""
        file = io.BytesIO()
        named = {"h": self.held_out, "l": self.learned}
        masks = {f"{k}{n}": mask for k, own in named.items() for n, mask in enumerate(own)}
        np.savez(file, allow_pickle=False, divided=np.array(self.divided), **masks)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Held":
        """Reads what `to_bytes` wrote."""
        with np.load(io.BytesIO(content)) as arrays:
            held, learned = (
                tuple(arrays[f"{k}{n}"] for n in range(sum(name[0] == k for name in arrays)))
                for k in ("h", "l")
            )
            return cls(held_out=held, learned=learned, divided=bool(arrays["divided"]))


def parse_share(text: str) -> float | None:
    """Returns the share that `held_out` gives, or None if it names a file. Raises ConfigError."""
    try:
        share = float(text)
    except ValueError:
        return None
    if not 0 < share < 1:
        raise ConfigError(
            f"held_out is {text}; expected a share above 0 and below 1, such as 0.05, or a file "
            "of records"
        )
    return share


def count_held_out(num_samples: int, *, share: float) -> int:
    """Returns how many samples a share holds out: more than the share, if those would be few."""
    least = min(LEAST_HELD_OUT, max(1, int(LARGEST_SHARE * num_samples)))
    return max(round(share * num_samples), least)


def hold_out_share(reader: SampleReader, plan: Plan, *, share: float) -> Held:
    """Holds out about `share` of the usable samples. Raises DataError if there are too few."""
    samples = _usable(plan)
    if len(samples) < MIN_SAMPLES:
        raise DataError(
            f"mixture {reader.mixture.name!r}: {counted(len(samples), 'usable sample')}, too few "
            f"to hold some out; give {MIN_SAMPLES} at least, a file of other samples, or hold none "
            "out"
        )
    wanted = count_held_out(len(samples), share=share)
    keys = [_keys(reader, plan, *sample) for sample in samples]
    chosen = _choose(_group(keys), wanted=wanted)
    divided = not chosen
    if divided:  # every sample shows what another shows
        chosen = _choose(_group([own[:1] for own in keys]), wanted=wanted)
    if not chosen:
        raise DataError(
            f"mixture {reader.mixture.name!r}: its samples are too much alike to hold some out; "
            "give a file of other samples, or hold none out"
        )
    held = _masks(plan, [samples[number] for number in chosen])
    learned = tuple(~mask for mask in held)
    return Held(held_out=held, learned=learned, divided=divided)


def hold_out_others(reader: SampleReader, plan: Plan, *, other: SampleReader, others: Plan) -> Held:
    """Holds out the samples of another mixture, and drops samples that show the same as those."""
    seen = {key for sample in _usable(others) for key in _keys(other, others, *sample)}
    shared = [s for s in _usable(plan) if not seen.isdisjoint(_keys(reader, plan, *s))]
    return Held(
        held_out=tuple(one.usable for one in others.datasets),
        learned=tuple(~mask for mask in _masks(plan, shared)),
    )


def restrict_to(
    reader: SampleReader, plan: Plan, masks: Sequence[Mask]
) -> tuple[SampleReader, Plan]:
    """Returns a reader and a plan of certain samples, each of which an epoch shows once."""
    kept = Plan(
        datasets=tuple(
            replace(one.keep(mask), faults=())
            for one, mask in zip(plan.datasets, masks, strict=True)
        )
    )
    mixture = kept.restrict(reader.mixture)
    whole = tuple(
        replace(one, entry=replace(one.entry, share=None, rows=None)) for one in mixture.datasets
    )
    return replace(reader, mixture=replace(mixture, datasets=whole)), kept


def _usable(plan: Plan) -> list[tuple[int, int]]:
    """Returns (data set, place among its rows) of every usable sample."""
    return [(n, int(i)) for n, one in enumerate(plan.datasets) for i in np.flatnonzero(one.usable)]


def _masks(plan: Plan, samples: Sequence[tuple[int, int]]) -> tuple[Mask, ...]:
    masks = tuple(np.zeros(len(one.rows), dtype=bool) for one in plan.datasets)
    for dataset, place in samples:
        masks[dataset][place] = True
    return masks


def _keys(reader: SampleReader, plan: Plan, dataset: int, place: int) -> list[str]:
    """Returns keys of a sample: its record, and each file that it shows."""
    one = plan.datasets[dataset]
    conversation = reader.conversation(dataset, int(one.rows[place]))
    return [f"record {_digest_words(conversation)}", *map(_medium_key, conversation.media)]


def _digest_words(conversation: Conversation) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for message in conversation.messages:
        words = "".join(part.text for part in message.parts if isinstance(part, Text))
        digest.update(f"\0{message.role}\1{words}".encode())
    for medium in conversation.media:
        digest.update(_medium_key(medium).encode())
    return digest.hexdigest()


def _medium_key(medium: Image | Video) -> str:
    """Returns a key of an image's or a video's content; of a list of frames, that of the list."""
    source = medium.source
    if isinstance(source, str | Path | bytes) or not isinstance(source, Sequence):
        return _source_key(source)
    return " ".join(map(_source_key, source))


def _source_key(source: object) -> str:
    if isinstance(source, str | Path):
        path = Path(source)
        return _file_key(path) if path.is_file() else f"path {path}"
    assert isinstance(source, bytes | PIL.Image), "media of records are files, bytes or pictures"
    content = source if isinstance(source, bytes) else source.tobytes()
    return f"bytes {hashlib.blake2b(content, digest_size=12).hexdigest()}"


def _file_key(path: Path) -> str:
    size = path.stat().st_size
    with path.open("rb") as file:
        content = file.read(END_BYTES)
        if size > 2 * END_BYTES:
            file.seek(-END_BYTES, io.SEEK_END)
        content += file.read(END_BYTES)
    return f"file {size} {hashlib.blake2b(content, digest_size=12).hexdigest()}"


@dataclass(kw_only=True)
class _Groups:
    """Samples joined by the keys that they share."""

    parents: list[int]
    first: dict[str, int] = field(default_factory=dict)

    def root(self, number: int) -> int:
        while self.parents[number] != number:
            self.parents[number] = self.parents[self.parents[number]]
            number = self.parents[number]
        return number

    def add(self, number: int, key: str) -> None:
        other = self.first.setdefault(key, number)
        self.parents[self.root(number)] = self.root(other)


def _group(keys: Sequence[Sequence[str]]) -> list[list[int]]:
    """Returns the numbers of samples by group, groups in an order that only keys decide."""
    groups = _Groups(parents=list(range(len(keys))))
    for number, own in enumerate(keys):
        for key in own:
            groups.add(number, key)
    members: dict[int, list[int]] = {}
    for number in range(len(keys)):
        members.setdefault(groups.root(number), []).append(number)

    def rank(group: list[int]) -> str:
        smallest = min(key for number in group for key in keys[number])
        return hashlib.blake2b(smallest.encode(), digest_size=12).hexdigest()

    return sorted(members.values(), key=rank)


def _choose(groups: Sequence[Sequence[int]], *, wanted: int) -> list[int]:
    """Returns the samples of whole groups: about `wanted`, at most twice as many; [] if none fit.

    Something always remains to learn from.
    """
    chosen: list[int] = []
    total = sum(map(len, groups))
    for group in groups:
        if len(chosen) >= wanted:
            break
        if len(chosen) + len(group) <= min(2 * wanted, total - 1):
            chosen += group
    return chosen
