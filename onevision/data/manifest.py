"""A plan -> a manifest of the samples to train on; a manifest -> a plan restricted to them.

    pinned/manifest.json   every data set: its rows, how many are usable, a hash of their content
    pinned/rows.npy        [N, 3] int64: data set, row, tokens, of every usable sample

Shards in stores are listed with size and version. A sample's content is its words and the names of
its media (in shards: their bytes), wherever the mixture lies. Its length depends on the stage, so
lengths are recorded but not compared.
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
from onevision.data.remote.traffic import list_shards
from onevision.errors import DataError
from onevision.files import write_json
from onevision.plural import counted

MANIFEST, ROWS = "manifest.json", "rows.npy"
# Raised when manifests written before would be misread.
FORMAT_VERSION = 2


def write_manifest(mixture: Mixture, plan: Plan, directory: Path) -> None:
    """Writes the rows to train on, their lengths and a hash of their content."""
    directory.mkdir(parents=True, exist_ok=True)
    sources = []
    rows = []
    for number, (dataset, one) in enumerate(zip(mixture.datasets, plan.datasets, strict=True)):
        usable = one.rows[one.usable]
        rows.append(np.stack([np.full(len(usable), number), usable, one.num_tokens[one.usable]], 1))
        sources.append(
            {
                "name": dataset.entry.name,
                "sampling_strategy": dataset.entry.sampling_strategy,
                "num_rows": len(one.rows),
                "num_usable": int(one.usable.sum()),
                "num_tokens": int(one.num_tokens.sum()),
                "sha256": hash_content(one),
                "shards": {shard.address: shard.state for shard in dataset.source.shards},
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
    """Returns the plan in which exactly the manifest's rows are usable.

    `path` is the manifest or its directory. Raises DataError if the mixture has other data sets,
    chooses other rows, cannot use one of them, or if their content has changed.
    """
    file = path if path.suffix == ".json" else path / MANIFEST
    manifest, rows = _read(file)
    sources: dict[str, Any] = {source["name"]: source for source in manifest["sources"]}
    names = [dataset.entry.name for dataset in mixture.datasets]
    odd = sorted(set(names) ^ sources.keys())
    if odd:
        lacks = "the mixture has no" if odd[0] in sources else "it does not know the"
        raise DataError(
            f"{file}: {lacks} data set {odd[0]!r}; give the manifest of this mixture, or write one "
            "with `onevision data check --manifest`"
        )
    numbers = {name: number for number, name in enumerate(sources)}
    return Plan(
        datasets=tuple(
            _restrict(
                one,
                rows[rows[:, 0] == numbers[name], 1],
                sources[name],
                where=f"{file}: data set {name!r}",
                seeds=(manifest["seed"], mixture.seed),
                shards={shard.address: shard.state for shard in dataset.source.shards},
            )
            for name, dataset, one in zip(names, mixture.datasets, plan.datasets, strict=True)
        )
    )


def hash_content(plan: DatasetPlan) -> str:
    """Returns a hash of a data set's usable rows: their numbers, words and media names."""
    digest = hashlib.sha256()
    for column in (plan.rows, plan.digests):
        digest.update(column[plan.usable].tobytes())
    return digest.hexdigest()


def fingerprint_sources(mixture: Mixture, plan: Plan) -> Mapping[str, str]:
    """Returns, for every data set, a text that changes when anything does that training sees of it.

    That is its place, the rows an epoch shows of it, their content and their lengths. The bytes of
    media files are not read. Shards in stores follow, each with its size and version.
    """
    shown = count_rows_per_epoch(plan.restrict(mixture))
    found = {}
    for number, (dataset, one) in enumerate(zip(mixture.datasets, plan.datasets, strict=True)):
        lengths = one.num_tokens[one.usable].astype(np.int64).tobytes()
        content = f"{number} {shown[number]} {hash_content(one)}".encode() + lengths
        found[dataset.entry.name] = hashlib.sha256(content).hexdigest()[:16]
    return {**found, **list_shards(mixture)}


def _read(file: Path) -> tuple[dict[str, Any], NDArray[np.int64]]:  # Any: JSON
    """Reads both files of a manifest. Raises DataError."""
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


def _restrict(
    one: DatasetPlan,
    wanted: NDArray[np.int64],
    source: Mapping[str, Any],
    *,
    where: str,
    seeds: tuple[int, int],
    shards: Mapping[str, str],
) -> DatasetPlan:
    absent = wanted[~np.isin(wanted, one.rows)]
    if len(absent):
        raise DataError(
            f"{where}: {len(absent)} of its {len(wanted)} rows are not among those the "
            f"mixture chooses (first: {absent[0]}; seed {seeds[0]} then, {seeds[1]} now); use the "
            "same sampling_strategy and seed, or write a new manifest"
        )
    kept = one.keep(np.isin(one.rows, wanted))
    unusable = wanted[~np.isin(wanted, kept.rows[kept.usable])]
    if len(unusable):
        faults = {fault.row: fault.message for fault in one.faults}
        why = faults.get(int(unusable[0]), "see `onevision data check`")
        raise DataError(
            f"{where}: {len(unusable)} of its {len(wanted)} samples cannot be used now (first: row "
            f"{unusable[0]}: {why}); fix them, or write a new manifest"
        )
    if source["sha256"] != hash_content(kept):
        before = source.get("shards", {})
        odd = [name for name in {**before, **shards} if before.get(name) != shards.get(name)]
        which = f" ({odd[0]} first, of {counted(len(odd), 'shard')})" if odd else ""
        raise DataError(
            f"{where} has changed since{which}; restore it, or write a new manifest with "
            "`onevision data check --manifest`"
        )
    return replace(kept, faults=())  # of rows that are not wanted
