"""A mixture -> what must be mended before training, what it costs, and a manifest to train from."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from onevision.data.fingerprints import near_pairs
from onevision.data.mixture import Mixture
from onevision.data.plan import MODALITIES, REDUCTIONS, PartPlan, Plan
from onevision.errors import DataError

FindingKind = Literal[
    "record", "media", "too long", "duplicate record", "near-duplicate image", "evaluation leak"
]
# What makes a check fail: the rest is reported, and may be meant.
MUST_MEND: tuple[FindingKind, ...] = ("record", "media", "too long", "evaluation leak")
MANIFEST, ROWS = "manifest.json", "rows.npy"
FORMAT_VERSION = 1


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


def findings(mixture: Mixture, plan: Plan, *, held_out: Plan | None = None) -> Iterator[Finding]:
    """Give everything that was found; `held_out` is the plan of what will be evaluated on."""
    names = [part.dataset.name for part in mixture.parts]
    for name, part in zip(names, plan.parts, strict=True):
        for fault in part.faults:
            yield Finding(source=name, row=fault.row, kind=fault.kind, message=fault.message)
    yield from _duplicates(names, plan)
    yield from _near_duplicates(names, plan)
    if held_out is not None:
        yield from _leaks(names, plan, held_out)


def summaries(mixture: Mixture, plan: Plan) -> list[SourceSummary]:
    """Return one summary for each data set."""
    return [
        _summary(part.dataset.name, one)
        for part, one in zip(mixture.parts, plan.parts, strict=True)
    ]


def write_manifest(mixture: Mixture, plan: Plan, directory: Path) -> None:
    """Write which rows may be trained on, their lengths and a digest of their content."""
    directory.mkdir(parents=True, exist_ok=True)
    sources = []
    rows = []
    for number, (part, one) in enumerate(zip(mixture.parts, plan.parts, strict=True)):
        usable = one.rows[one.usable]
        rows.append(np.stack([np.full(len(usable), number), usable, one.num_tokens[one.usable]], 1))
        sources.append(
            {
                "name": part.dataset.name,
                "sampling_strategy": part.dataset.sampling_strategy,
                "num_rows": len(one.rows),
                "num_usable": int(one.usable.sum()),
                "num_tokens": int(one.num_tokens.sum()),
                "sha256": content_hash(one),
            }
        )
    manifest = {
        "format_version": FORMAT_VERSION,
        "mixture": mixture.name,
        "seed": mixture.seed,
        "sources": sources,
    }
    np.save(directory / ROWS, np.concatenate(rows))  # [N, 3]: data set, row, tokens
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def pinned(mixture: Mixture, plan: Plan, directory: Path) -> Plan:
    """Return the plan with exactly the manifest's rows usable. Raises DataError if they changed."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        rows = np.load(directory / ROWS)
    except (OSError, ValueError) as error:
        raise DataError(f"{directory / MANIFEST}: cannot be read ({error})") from error
    recorded = {source["name"]: number for number, source in enumerate(manifest["sources"])}
    parts = []
    for part, one in zip(mixture.parts, plan.parts, strict=True):
        name = part.dataset.name
        if name not in recorded:
            raise DataError(f"{directory / MANIFEST}: it does not know the data set {name!r}")
        source = manifest["sources"][recorded[name]]
        kept = _only(one, np.isin(one.rows, rows[rows[:, 0] == recorded[name], 1]))
        if source["sha256"] != content_hash(kept):
            raise DataError(
                f"{directory / MANIFEST}: data set {name!r} has changed since "
                f"({source['num_usable']} usable rows then, {int(kept.usable.sum())} of them now); "
                "restore it, or write a new manifest with `onevision data check`"
            )
        parts.append(kept)
    return Plan(parts=tuple(parts))


def without_leaks(mixture: Mixture, plan: Plan, found: Sequence[Finding]) -> Plan:
    """Return the plan without the samples that evaluation would see again."""
    leaks = {(f.source, f.row) for f in found if f.kind == "evaluation leak"}
    parts = []
    for part, one in zip(mixture.parts, plan.parts, strict=True):
        rows = [row for source, row in leaks if source == part.dataset.name]
        parts.append(_only(one, ~np.isin(one.rows, rows)))
    return Plan(parts=tuple(parts))


def _only(plan: PartPlan, kept: NDArray[np.bool_]) -> PartPlan:
    return replace(plan, num_tokens=np.where(kept, plan.num_tokens, 0))


def content_hash(plan: PartPlan) -> str:
    """Hash the usable rows of a data set: their numbers, words, media names and lengths."""
    told = hashlib.sha256()
    for column in (plan.rows, plan.num_tokens, plan.digests):
        told.update(column[plan.usable].tobytes())
    return told.hexdigest()


def _summary(name: str, plan: PartPlan) -> SourceSummary:
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
    for a, b in near_pairs(looks):
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
        seen = {mine: int(rows[theirs]) for mine, theirs in near_pairs(looks, evaluated)}
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
