"""A mixture and its plan -> what must be fixed before training, and statistics."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from onevision.data.fingerprints import find_near_pairs
from onevision.data.mixture import Mixture
from onevision.data.plan import MODALITIES, REDUCTIONS, DatasetPlan, Plan

FindingKind = Literal[
    "record", "media", "too long", "duplicate record", "near-duplicate image", "evaluation leak"
]
# What makes a check fail; the rest is reported, and may be intended.
MUST_FIX: tuple[FindingKind, ...] = ("record", "media", "too long", "evaluation leak")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A problem, or an oddity, of one sample."""

    source: str
    row: int
    kind: FindingKind
    message: str

    @property
    def must_fix(self) -> bool:
        """Whether this should be fixed before training starts."""
        return self.kind in MUST_FIX


@dataclass(frozen=True, kw_only=True)
class SourceSummary:
    """Statistics of one data set. Lengths are in tokens, visual ones included."""

    name: str
    num_rows: int
    num_usable: int
    num_tokens: int
    median_length: int
    longest: int
    modalities: dict[str, int]
    reductions: dict[str, int]
    # Tokens that the reductions lose, and fields that are not read, with their numbers of records.
    num_cut: int
    unused: dict[str, int]


def find_problems(
    mixture: Mixture, plan: Plan, *, held_out: Plan | None = None
) -> Iterator[Finding]:
    """Yields every finding; `held_out` is the plan of the evaluation data."""
    names = [dataset.entry.name for dataset in mixture.datasets]
    for name, one in zip(names, plan.datasets, strict=True):
        for fault in one.faults:
            yield Finding(source=name, row=fault.row, kind=fault.kind, message=fault.message)
    yield from _find_duplicates(names, plan)
    yield from _find_near_duplicates(names, plan)
    if held_out is not None:
        yield from _find_leaks(names, plan, held_out)


def summarize(mixture: Mixture, plan: Plan) -> list[SourceSummary]:
    """Returns a summary of each data set."""
    pairs = zip(mixture.datasets, plan.datasets, strict=True)
    return [_summarize_one(dataset.entry.name, one) for dataset, one in pairs]


def drop_leaks(mixture: Mixture, plan: Plan, found: Sequence[Finding]) -> Plan:
    """Returns the plan without the samples whose images are also in the evaluation data."""
    leaks = {(f.source, f.row) for f in found if f.kind == "evaluation leak"}
    datasets = []
    for dataset, one in zip(mixture.datasets, plan.datasets, strict=True):
        rows = [row for source, row in leaks if source == dataset.entry.name]
        datasets.append(one.keep(~np.isin(one.rows, rows)))
    return Plan(datasets=tuple(datasets))


def _summarize_one(name: str, plan: DatasetPlan) -> SourceSummary:
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
        num_cut=int(plan.num_cut[plan.usable].sum()),
        unused=dict(plan.unused),
    )


def _find_duplicates(names: list[str], plan: Plan) -> Iterator[Finding]:
    """Yields every record that repeats an earlier one."""
    datasets = np.concatenate([np.full(len(p.rows), n) for n, p in enumerate(plan.datasets)])
    rows = np.concatenate([p.rows for p in plan.datasets])
    digests = np.concatenate([p.digests for p in plan.datasets])
    usable = np.concatenate([p.usable for p in plan.datasets])
    order = np.argsort(digests, kind="stable")
    order = order[usable[order]]
    same = digests[order[1:]] == digests[order[:-1]]
    for earlier, later in zip(order[:-1][same].tolist(), order[1:][same].tolist(), strict=True):
        yield Finding(
            source=names[datasets[later]],
            row=int(rows[later]),
            kind="duplicate record",
            message=f"repeats {names[datasets[earlier]]}, row {int(rows[earlier])}",
        )


def _find_near_duplicates(names: list[str], plan: Plan) -> Iterator[Finding]:
    """Yields different images that look alike; the same image in many records is not reported."""
    places = [(n, row) for n, p in enumerate(plan.datasets) for row in p.picture_rows.tolist()]
    digests = np.concatenate([p.picture_digests for p in plan.datasets])
    pictures = np.sort(np.unique(digests, return_index=True)[1])  # the first place of each
    hashes = np.concatenate([p.picture_hashes for p in plan.datasets])[pictures]
    looks, firsts, which = np.unique(hashes, return_index=True, return_inverse=True)
    likes = {i: int(firsts[look]) for i, look in enumerate(which.tolist()) if hashes[i]}
    for a, b in find_near_pairs(looks):
        first, second = sorted((int(firsts[a]), int(firsts[b])))
        likes[second] = min(likes[second], first)
    for later, earlier in sorted(likes.items()):
        (dataset, row), (other, other_row) = places[pictures[later]], places[pictures[earlier]]
        if (dataset, row) != (other, other_row):
            yield Finding(
                source=names[dataset],
                row=row,
                kind="near-duplicate image",
                message=f"looks like the image of {names[other]}, row {other_row}",
            )


def _find_leaks(names: list[str], plan: Plan, held_out: Plan) -> Iterator[Finding]:
    """Yields every sample whose image looks like one of the evaluation data."""
    evaluated, first = np.unique(
        np.concatenate([p.picture_hashes for p in held_out.datasets]), return_index=True
    )
    rows = np.concatenate([p.picture_rows for p in held_out.datasets])[first]
    for name, one in zip(names, plan.datasets, strict=True):
        looks, which = np.unique(one.picture_hashes, return_inverse=True)
        seen = {mine: int(rows[theirs]) for mine, theirs in find_near_pairs(looks, evaluated)}
        leaked = {
            row: seen[look]
            for row, look in zip(one.picture_rows.tolist(), which.tolist(), strict=True)
            if look in seen
        }
        for row, theirs in leaked.items():
            yield Finding(
                source=name,
                row=row,
                kind="evaluation leak",
                message=f"its image is in the evaluation data (row {theirs}); leave it out",
            )
