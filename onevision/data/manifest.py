"""Which samples a mixture is to be learned from, written down; and a mixture held to that.

    pinned/manifest.json   every data set: its rows, how many are usable, a digest of their content
    pinned/rows.npy        [N, 3] int64: data set, row, tokens, of every sample that may be used

A sample's content is its words and the names of its media, wherever the mixture lies. How long it
is depends on the stage, so lengths are told and not compared.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onevision.data.mixture import Mixture
from onevision.data.order import count_rows_per_epoch
from onevision.data.plan import DatasetPlan, Plan
from onevision.errors import DataError
from onevision.files import write_json

MANIFEST, ROWS = "manifest.json", "rows.npy"
# Raised when a manifest written before would be read otherwise.
FORMAT_VERSION = 2


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
                "sha256": hash_content(one),
            }
        )
    manifest = {
        "format_version": FORMAT_VERSION,
        "mixture": mixture.name,
        "seed": mixture.seed,
        "sources": sources,
    }
    np.save(directory / ROWS, np.concatenate(rows))
    write_json(directory / MANIFEST, manifest)


def apply_manifest(mixture: Mixture, plan: Plan, path: Path) -> Plan:
    """Return the plan with exactly the manifest's rows usable.

    `path` is the manifest or its directory. Raises DataError where the mixture has other data sets,
    chooses other rows, cannot use one of them, or says something else in them.
    """
    file = path if path.suffix == ".json" else path / MANIFEST
    manifest, rows = _read(file)
    sources: dict[str, Any] = {source["name"]: source for source in manifest["sources"]}
    names = [part.dataset.name for part in mixture.parts]
    odd = sorted(set(names) ^ sources.keys())
    if odd:
        lacks = "the mixture has no" if odd[0] in sources else "it does not know the"
        raise DataError(
            f"{file}: {lacks} data set {odd[0]!r}; give the manifest of this mixture, or write one "
            "with `onevision data check --manifest`"
        )
    numbers = {name: number for number, name in enumerate(sources)}
    return Plan(
        parts=tuple(
            _pinned_part(
                one,
                rows[rows[:, 0] == numbers[name], 1],
                sources[name],
                where=f"{file}: data set {name!r}",
                seeds=(manifest["seed"], mixture.seed),
            )
            for name, one in zip(names, plan.parts, strict=True)
        )
    )


def hash_content(plan: DatasetPlan) -> str:
    """Hash the usable rows of a data set: their numbers, words and media names."""
    told = hashlib.sha256()
    for column in (plan.rows, plan.digests):
        told.update(column[plan.usable].tobytes())
    return told.hexdigest()


def fingerprint_sources(mixture: Mixture, plan: Plan) -> Mapping[str, str]:
    """Return, for every data set, what changes when anything does that a run's steps depend on.

    That is its place, the rows an epoch shows of it, their content and their lengths. What lies in
    a media file is not looked at.
    """
    shown = count_rows_per_epoch(plan.restrict(mixture))
    found = {}
    for number, (part, one) in enumerate(zip(mixture.parts, plan.parts, strict=True)):
        lengths = one.num_tokens[one.usable].astype(np.int64).tobytes()
        told = f"{number} {shown[number]} {hash_content(one)}".encode() + lengths
        found[part.dataset.name] = hashlib.sha256(told).hexdigest()[:16]
    return found


def keep_rows(plan: DatasetPlan, kept: NDArray[np.bool_]) -> DatasetPlan:
    """Return the plan of a data set with other rows than `kept` unusable."""
    return replace(plan, num_tokens=np.where(kept, plan.num_tokens, 0))


def _read(file: Path) -> tuple[dict[str, Any], NDArray[np.int64]]:  # Any: JSON
    """Read both files of a manifest. Raises DataError."""
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        rows = np.load(file.parent / ROWS)
        version = manifest["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file}: cannot be read as a manifest ({error}); give what `onevision data check "
            "--manifest` wrote"
        ) from error
    if version != FORMAT_VERSION:
        raise DataError(
            f"{file}: it has format_version {version}, expected {FORMAT_VERSION}; write it again "
            "with `onevision data check --manifest`"
        )
    return manifest, rows


def _pinned_part(
    one: DatasetPlan,
    wanted: NDArray[np.int64],
    source: Mapping[str, Any],
    *,
    where: str,
    seeds: tuple[int, int],
) -> DatasetPlan:
    absent = wanted[~np.isin(wanted, one.rows)]
    if len(absent):
        raise DataError(
            f"{where}: {len(absent)} of its {len(wanted)} rows are not among those that the "
            f"mixture chooses (first: {absent[0]}; seed {seeds[0]} then, {seeds[1]} now); use the "
            "same sampling_strategy and seed, or write a new manifest"
        )
    kept = keep_rows(one, np.isin(one.rows, wanted))
    unusable = wanted[~np.isin(wanted, kept.rows[kept.usable])]
    if len(unusable):
        faults = {fault.row: fault.message for fault in one.faults}
        why = faults.get(int(unusable[0]), "see `onevision data check`")
        raise DataError(
            f"{where}: {len(unusable)} of its {len(wanted)} samples cannot be used now (first: row "
            f"{unusable[0]}: {why}); mend them, or write a new manifest"
        )
    if source["sha256"] != hash_content(kept):
        raise DataError(
            f"{where} has changed since; restore it, or write a new manifest with `onevision data "
            "check --manifest`"
        )
    return kept
