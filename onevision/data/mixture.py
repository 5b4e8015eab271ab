"""A mixture file -> which rows of which sources are learned from, and how.

Reads the reference's YAML as it is (`datasets:` with `json_path` and `sampling_strategy`) and our
own keys beside them. What is drawn at random is drawn from the mixture's seed: the same rows on
every rank and every machine.
"""

import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from onevision.data.sources import RecordSource, open_source
from onevision.errors import DataError
from onevision.values import check_key, from_plain

Modality = Literal["single_image", "multi_image", "video", "text"]
STRATEGY = re.compile(r"(first|end|random):(\d+)(%?)")
BRACES = re.compile(r"(.*)\{(.*)\}(.*)")


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """One entry of a mixture file."""

    name: str
    # A JSON, JSONL, Parquet or tar file, or a directory of them.
    json_path: str | None = None
    # all, first:N, first:N%, end:N, end:N%, random:N, random:N%
    sampling_strategy: str = "all"
    # A data set of the hub, and its configuration; to be downloaded by hand.
    source: str | None = None
    config: str | None = None
    revision: str | None = None
    # Where the media lie, relative to the mixture file; by default beside the records.
    root: str | None = None
    # Weight against the other entries that have one, or rows an epoch; by default all chosen rows.
    share: float | None = None
    rows: int | None = None
    sha256: str | None = None
    licence: str | None = None
    scenario: Modality | None = None
    prompt_style: str | None = None
    # What was published, for the tables: a count, whether it is rounded, whether it can be had.
    published_rows: int | None = None
    rows_rounded: bool = False
    released: bool = True
    category: str | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        if self.share is not None and self.rows is not None:
            raise DataError(f"data set {self.name!r} has both `share` and `rows`; give one of them")
        if self.share is not None and self.share <= 0:
            raise DataError(f"data set {self.name!r}: share is {self.share}; expected above 0")
        count_chosen(self.sampling_strategy, 100, name=self.name)


@dataclass(frozen=True, kw_only=True)
class Part:
    """An entry that is open: its source, and the rows chosen of it."""

    dataset: DatasetEntry
    source: RecordSource
    rows: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """All there is to learn from, in the order of the file."""

    name: str
    parts: tuple[Part, ...]
    seed: int
    # Where the mixture's file lies.
    directory: Path = Path()

    def __len__(self) -> int:
        return sum(len(part.rows) for part in self.parts)


def read_datasets(path: Path) -> list[DatasetEntry]:
    """Read a mixture file, or make one entry of every JSON file that `path` names.

    A path may hold one brace list, `data/{a,b}.json`, as the reference's does. Raises DataError.
    """
    if path.suffix not in (".yaml", ".yml"):
        return [
            DatasetEntry(name=p.name, json_path=str(p)) for p in map(Path, expand_braces(str(path)))
        ]
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not YAML ({str(error).splitlines()[0]}); mend it") from error
    entries = content.get("datasets") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{path}: no list `datasets:`; expected one entry for each data set")
    return [
        dataset for number, entry in enumerate(entries) for dataset in _read(path, number, entry)
    ]


def open_mixture(path: Path, *, seed: int = 0) -> Mixture:
    """Open every data set of a mixture. Raises DataError for what is missing or contradictory."""
    names: set[str] = set()
    parts = []
    for dataset in read_datasets(path):
        if dataset.name in names:
            raise DataError(f"{path}: two data sets are named {dataset.name!r}; rename one")
        names.add(dataset.name)
        source = open_source(
            _location(path, dataset),
            name=dataset.name,
            root=path.parent / dataset.root if dataset.root is not None else None,
        )
        rows = choose_rows(dataset, len(source), seed=seed)
        parts.append(Part(dataset=dataset, source=source, rows=rows))
    return Mixture(name=path.stem, parts=tuple(parts), seed=seed, directory=path.parent)


def published_mixtures() -> Path:
    """Return the directory of the published mixtures and their prompt styles."""
    return Path(__file__).parents[1] / "mixtures"


def choose_rows(dataset: DatasetEntry, available: int, *, seed: int) -> NDArray[np.int64]:
    """Return the rows a strategy takes of `available`, ascending but for random ones."""
    count = count_chosen(dataset.sampling_strategy, available, name=dataset.name)
    rows = np.arange(available)
    if dataset.sampling_strategy.startswith("end"):
        # FIDELITY: the reference's end:0 takes everything; here it takes nothing.
        return rows[available - count :]
    if dataset.sampling_strategy.startswith("random"):
        rng = random.Random(f"onevision/strategy/{seed}/{dataset.name}")
        return np.array(rng.sample(range(available), count), dtype=np.int64)
    return rows[:count]


def count_chosen(strategy: str, available: int, *, name: str) -> int:
    """Return how many of `available` rows a strategy takes; P% rounds up, as in the reference.

    Raises DataError for an unknown strategy, which the reference reads as "all".
    """
    if strategy == "all":
        return available
    match = STRATEGY.fullmatch(strategy)
    if match is None:
        raise DataError(
            f"data set {name!r}: sampling_strategy is {strategy!r}; "
            "expected all, first:N, end:N or random:N, where N may be a percentage such as 10%"
        )
    number = int(match[2])
    wanted = math.ceil(number * available / 100) if match[3] else number
    return min(wanted, available)


def expand_braces(path: str) -> list[str]:
    """Expand one brace list: `x{a,b}.json` -> `xa.json`, `xb.json`."""
    match = BRACES.fullmatch(path)
    if match is None:
        return [path]
    return [f"{match[1]}{middle.strip()}{match[3]}" for middle in match[2].split(",")]


def _read(path: Path, number: int, entry: object) -> Iterator[DatasetEntry]:
    where = f"{path}, datasets[{number}]"
    if not isinstance(entry, Mapping):
        raise DataError(f"{where}: it is {type(entry).__name__}; expected a mapping")
    values: dict[str, Any] = dict(entry)  # Any: YAML
    for key in values:
        check_key(key, [field.name for field in fields(DatasetEntry)], where=where, error=DataError)
    if "json_path" not in values and "source" not in values and "name" not in values:
        raise DataError(f"{where}: neither json_path nor source nor name; say where the data lies")
    paths: Sequence[str | None] = (
        expand_braces(values["json_path"]) if values.get("json_path") else [None]
    )
    for file in paths:
        fallback = Path(file).name if file else values.get("source", "")
        name = values.get("name", fallback) if len(paths) == 1 else fallback
        given = values | {"name": name, "json_path": file}
        yield from_plain(DatasetEntry, given, where=where, complete=False, error=DataError)


def _location(path: Path, dataset: DatasetEntry) -> Path:
    if dataset.json_path is not None:
        return (
            path.parent / dataset.json_path
            if path.suffix in (".yaml", ".yml")
            else Path(dataset.json_path)
        )
    origin = dataset.source or "an unpublished source"
    raise DataError(
        f"data set {dataset.name!r} comes from {origin} and has no json_path; "
        "download it and say with json_path where it lies"
    )
