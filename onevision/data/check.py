"""A mixture and its plan -> what must be mended before training, and its figures."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from onevision.data.fingerprints import find_near_pairs
from onevision.data.manifest import keep_rows
from onevision.data.mixture import Mixture
from onevision.data.plan import MODALITIES, REDUCTIONS, DatasetPlan, Plan

FindingKind = Literal[
    "record", "media", "too long", "duplicate record", "near-duplicate image", "evaluation leak"
]
# What makes a check fail: the rest is reported, and may be meant.
MUST_MEND: tuple[FindingKind, ...] = ("record", "media", "too long", "evaluation leak")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing a person should know about one sample."""

    source: str
    row: int
    kind: FindingKind
    message: str

    @property
    def must_mend(self) -> bool:
        """Whether training should not start before this is mended."""
        return self.kind in MUST_MEND


@dataclass(frozen=True, kw_only=True)
class SourceSummary:
    """The figures of one data set. Lengths are in tokens, visual ones included."""

    name: str
    num_rows: int
    num_usable: int
    num_tokens: int
    median_length: int
    longest: int
    modalities: dict[str, int]
    reductions: dict[str, int]


def find_problems(
    mixture: Mixture, plan: Plan, *, held_out: Plan | None = None
) -> Iterator[Finding]:
    """Give everything that was found; `held_out` is the plan of what will be evaluated on."""
    names = [part.dataset.name for part in mixture.parts]
    for name, part in zip(names, plan.parts, strict=True):
        for fault in part.faults:
            yield Finding(source=name, row=fault.row, kind=fault.kind, message=fault.message)
    yield from _duplicates(names, plan)
    yield from _near_duplicates(names, plan)
    if held_out is not None:
        yield from _leaks(names, plan, held_out)


def summarize(mixture: Mixture, plan: Plan) -> list[SourceSummary]:
    """Return one summary for each data set."""
    return [
        _summary(part.dataset.name, one)
        for part, one in zip(mixture.parts, plan.parts, strict=True)
    ]


def drop_leaks(mixture: Mixture, plan: Plan, found: Sequence[Finding]) -> Plan:
    """Return the plan without the samples that evaluation would see again."""
    leaks = {(f.source, f.row) for f in found if f.kind == "evaluation leak"}
    parts = []
    for part, one in zip(mixture.parts, plan.parts, strict=True):
        rows = [row for source, row in leaks if source == part.dataset.name]
        parts.append(keep_rows(one, ~np.isin(one.rows, rows)))
    return Plan(parts=tuple(parts))


def _summary(name: str, plan: DatasetPlan) -> SourceSummary:
    lengths = plan.num_tokens[plan.usable]
    kinds = Counter(MODALITIES[kind] for kind in plan.modality[plan.usable])
    return SourceSummary(
        name=name,
        num_rows=len(plan.rows),
        num_usable=len(lengths),
        num_tokens=int(lengths.sum()),
        median_length=int(np.median(lengths)) if len(lengths) else 0,
        longest=int(lengths.max(initial=0)),
        modalities=dict(kinds),
        reductions={
            name: count
            for bit, name in enumerate(REDUCTIONS)
            if (count := int((plan.reductions >> bit & 1).sum()))
        },
    )


def _duplicates(names: list[str], plan: Plan) -> Iterator[Finding]:
    """Name every record that says what an earlier one said."""
    parts = np.concatenate([np.full(len(p.rows), n) for n, p in enumerate(plan.parts)])
    rows = np.concatenate([p.rows for p in plan.parts])
    digests = np.concatenate([p.digests for p in plan.parts])
    usable = np.concatenate([p.usable for p in plan.parts])
    order = np.argsort(digests, kind="stable")
    order = order[usable[order]]
    same = digests[order[1:]] == digests[order[:-1]]
    for earlier, later in zip(order[:-1][same].tolist(), order[1:][same].tolist(), strict=True):
        yield Finding(
            source=names[parts[later]],
            row=int(rows[later]),
            kind="duplicate record",
            message=f"says the same as {names[parts[earlier]]}, row {int(rows[earlier])}",
        )


def _near_duplicates(names: list[str], plan: Plan) -> Iterator[Finding]:
    """Name different pictures that look alike; one picture in many records is nothing to report."""
    places = [(n, row) for n, p in enumerate(plan.parts) for row in p.picture_rows.tolist()]
    digests = np.concatenate([p.picture_digests for p in plan.parts])
    pictures = np.sort(np.unique(digests, return_index=True)[1])  # the first place of each
    words = np.concatenate([p.picture_hashes for p in plan.parts])[pictures]
    looks, firsts, which = np.unique(words, return_index=True, return_inverse=True)
    likes = {i: int(firsts[look]) for i, look in enumerate(which.tolist()) if words[i]}
    for a, b in find_near_pairs(looks):
        first, second = sorted((int(firsts[a]), int(firsts[b])))
        likes[second] = min(likes[second], first)
    for later, earlier in sorted(likes.items()):
        (part, row), (other, other_row) = places[pictures[later]], places[pictures[earlier]]
        if (part, row) != (other, other_row):
            yield Finding(
                source=names[part],
                row=row,
                kind="near-duplicate image",
                message=f"looks like the image of {names[other]}, row {other_row}",
            )


def _leaks(names: list[str], plan: Plan, held_out: Plan) -> Iterator[Finding]:
    """Name every sample whose picture looks like one of the evaluation's."""
    evaluated, first = np.unique(
        np.concatenate([p.picture_hashes for p in held_out.parts]), return_index=True
    )
    rows = np.concatenate([p.picture_rows for p in held_out.parts])[first]
    for name, part in zip(names, plan.parts, strict=True):
        looks, which = np.unique(part.picture_hashes, return_inverse=True)
        seen = {mine: int(rows[theirs]) for mine, theirs in find_near_pairs(looks, evaluated)}
        leaked = {
            row: seen[look]
            for row, look in zip(part.picture_rows.tolist(), which.tolist(), strict=True)
            if look in seen
        }
        for row, theirs in leaked.items():
            yield Finding(
                source=name,
                row=row,
                kind="evaluation leak",
                message=f"its image is seen in evaluation (row {theirs}); leave it out",
            )
