"""A mixture file -> the rows of each data set to learn from.

Reads the reference's YAML unchanged (`datasets:` with `json_path` and `sampling_strategy`), and our
own keys beside those. Rows chosen at random depend on the mixture's seed alone: they are the same
on every rank and every machine.
"""

import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onevision.data.containers import is_mixture
from onevision.data.sources import RecordSource, open_source
from onevision.errors import DataError
from onevision.values import check_key, from_plain, read_yaml

# What a sample shows.
Modality = Literal["text", "single_image", "multi_image", "video"]
STRATEGY = re.compile(r"(first|end|random):([0-9]{1,12})(%?)")
# Of one entry in an epoch, so that the order of an epoch fits into memory.
MAX_ROWS = 1_000_000_000
MAX_SHARE = 1e9
BRACES = re.compile(r"(.*)\{(.*)\}(.*)")


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """One entry of a mixture file, with the file's keys."""

    name: str
    # A JSON, JSONL, Parquet or tar file, or a directory of them.
    json_path: str | None = None
    # all, first:N, first:N%, end:N, end:N%, random:N, random:N%
    sampling_strategy: str = "all"
    # A data set on the hub, its configuration and revision; downloaded by hand.
    source: str | None = None
    config: str | None = None
    revision: str | None = None
    # Root of the media paths, relative to the mixture file; by default the records' directory.
    root: str | None = None
    # Weight among the entries with one, or rows per epoch; by default, every chosen row once.
    share: float | None = None
    rows: int | None = None
    sha256: str | None = None
    licence: str | None = None
    scenario: Modality | None = None
    prompt_style: str | None = None
    # Share of the rows that show their media in front of the words of each turn.
    media_in_front: float = 0.0
    # Facts of the published data set: its rows, whether their number is rounded, or they released.
    published_rows: int | None = None
    rows_rounded: bool = False
    released: bool = True
    category: str | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        if self.share is not None and self.rows is not None:
            raise DataError(f"data set {self.name!r} has both `share` and `rows`; give one of them")
        if self.share is not None and not 0 < self.share <= MAX_SHARE:
            raise DataError(
                f"data set {self.name!r}: share is {self.share}; expected above 0, at most "
                f"{MAX_SHARE:,.0f}"
            )
        for name, most in (("rows", MAX_ROWS), ("media_in_front", 1)):
            value = vars(self)[name]
            if value is not None and not 0 <= value <= most:
                told = f"{name} is {value}; expected 0 to {most:,}"
                raise DataError(f"data set {self.name!r}: {told}")
        count_chosen(self.sampling_strategy, 100, name=self.name)


@dataclass(frozen=True, kw_only=True)
class OpenDataset:
    """An entry, its open source, and the rows chosen from it."""

    entry: DatasetEntry
    source: RecordSource
    rows: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class UnopenedDataset:
    """An entry whose records are missing or cannot be opened, where they should be, and why."""

    entry: DatasetEntry
    place: Path | None
    problem: str

    @property
    def is_missing(self) -> bool:
        """Whether there is nothing where the records should be."""
        return self.place is None or not self.place.exists()


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """The data sets to learn from, in the order of the file."""

    name: str
    datasets: tuple[OpenDataset, ...]
    seed: int
    # The directory of the mixture file.
    directory: Path = Path()

    def __len__(self) -> int:
        return sum(len(dataset.rows) for dataset in self.datasets)


def read_datasets(path: Path) -> list[DatasetEntry]:
    """Reads a mixture file, or makes one entry for each JSON file that `path` names.

    A path may hold one brace list, `data/{a,b}.json`, as in the reference. Raises DataError.
    """
    if not is_mixture(path):
        files = map(Path, expand_braces(str(path)))
        return [DatasetEntry(name=file.resolve().name, json_path=str(file)) for file in files]
    content = read_yaml(path, error=DataError)
    entries = content.get("datasets") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{path}: no list `datasets:`; expected one entry for each data set")
    return [
        entry
        for number, values in enumerate(entries)
        for entry in _read_entries(values, where=f"{path}, datasets[{number}]")
    ]


def open_mixture(path: Path, *, seed: int = 0, roots: Sequence[Path] = ()) -> Mixture:
    """Opens a user's data, whatever their form: the one way in of every command.

    `path` is a mixture file, the name of a published one, a file of records, a folder of them or of
    pictures with captions, a pattern or a brace list. The content of files says what they are.
    `roots` are media roots: relative paths start at the first, unless the mixture's entry has its
    own `root`, and links may lead to any. Raises DataError for what is missing or contradictory.
    """
    mixture, unopened = survey_mixture(path, seed=seed, roots=roots)
    if not unopened:
        return mixture
    first = unopened[0]
    if len(unopened) == 1:
        raise DataError(first.problem)
    total = len(unopened) + len(mixture.datasets)
    raise DataError(
        f"{path}: {len(unopened)} of {total} data sets cannot be opened (the first: "
        f"{first.problem}); `onevision data check {path}` lists them and where to get them"
    )


def survey_mixture(
    path: Path, *, seed: int = 0, roots: Sequence[Path] = ()
) -> tuple[Mixture, tuple[UnopenedDataset, ...]]:
    """Opens what can be opened of a mixture; returns it, and what cannot.

    The arguments are those of `open_mixture`. Raises DataError for the mixture file itself, and for
    data that are not in a mixture.
    """
    path = find_mixture(path)
    names: set[str] = set()
    datasets: list[OpenDataset] = []
    unopened: list[UnopenedDataset] = []
    for entry in read_datasets(path):
        if entry.name in names:
            raise DataError(f"{path}: two data sets are named {entry.name!r}; rename one")
        names.add(entry.name)
        place = _locate(path, entry)
        try:
            source = open_source(
                _check_located(place, entry),
                name=entry.name,
                root=_media_root(path, entry, roots),
                links=roots,
            )
        except DataError as error:
            if not is_mixture(path):
                raise
            unopened.append(UnopenedDataset(entry=entry, place=place, problem=str(error)))
            continue
        rows = choose_rows(entry, len(source), seed=seed)
        datasets.append(OpenDataset(entry=entry, source=source, rows=rows))
    opened = Mixture(
        name=path.stem, datasets=tuple(datasets), seed=seed, directory=_directory(path)
    )
    return opened, tuple(unopened)


def find_mixture(path: Path) -> Path:
    """Returns the path, or that of a published mixture if there is no file of this name."""
    published = published_mixtures() / path.with_suffix(".yaml").name
    if path.parent == Path() and path.name and not path.exists() and published.is_file():
        return published
    return path


def published_mixtures() -> Path:
    """Returns the directory of the published mixtures and their prompt styles."""
    return Path(__file__).parents[1] / "mixtures"


def choose_rows(entry: DatasetEntry, available: int, *, seed: int) -> NDArray[np.int64]:
    """Returns the rows an entry takes out of `available`; ascending, unless they are random."""
    count = count_chosen(entry.sampling_strategy, available, name=entry.name)
    rows = np.arange(available)
    if entry.sampling_strategy.startswith("end"):
        # FIDELITY: the reference's end:0 takes everything; here it takes nothing.
        return rows[available - count :]
    if entry.sampling_strategy.startswith("random"):
        rng = random.Random(f"onevision/strategy/{seed}/{entry.name}")
        return np.array(rng.sample(range(available), count), dtype=np.int64)
    return rows[:count]


def count_chosen(strategy: str, available: int, *, name: str) -> int:
    """Returns how many of `available` rows a strategy takes; P% rounds up, as in the reference.

    Raises DataError for an unknown strategy, which the reference treats as "all".
    """
    if strategy == "all":
        return available
    match = STRATEGY.fullmatch(strategy)
    if match is None:
        raise DataError(
            f"data set {name!r}: sampling_strategy is {strategy!r:.60}; "
            "expected all, first:N, end:N or random:N, where N may be a percentage such as 10%"
        )
    number = int(match[2])
    return min(math.ceil(number * available / 100) if match[3] else number, available)


def expand_braces(path: str) -> list[str]:
    """Expands one brace list: `x{a,b}.json` -> `xa.json`, `xb.json`."""
    match = BRACES.fullmatch(path)
    if match is None:
        return [path]
    return [f"{match[1]}{middle.strip()}{match[3]}" for middle in match[2].split(",")]


def _read_entries(values: object, *, where: str) -> Iterator[DatasetEntry]:
    """Yields the entry of a mixture's list, or one for each path of its brace list."""
    if not isinstance(values, Mapping):
        raise DataError(f"{where}: it is {type(values).__name__}; expected a mapping")
    given: dict[str, Any] = dict(values)  # Any: YAML
    for key in ("json_path", "root"):
        value = given.get(key)
        if isinstance(value, str) and "\0" in value:
            raise DataError(f"{where}: {key} is {value!r:.60}, with a zero byte; correct it")
    for key in given:
        check_key(key, [f.name for f in fields(DatasetEntry)], where=where, error=DataError)
    if not {"json_path", "source", "name"} & given.keys():
        raise DataError(f"{where}: neither json_path nor source nor name; say where the data lies")
    path = given.get("json_path")
    files: Sequence[str | None] = expand_braces(path) if isinstance(path, str) else [path]
    for file in files:
        fallback = Path(file).name if isinstance(file, str) else given.get("source", "")
        name = given.get("name", fallback) if len(files) == 1 else fallback
        one = given | {"name": name, "json_path": file}
        yield from_plain(DatasetEntry, one, where=where, complete=False, error=DataError)


def _locate(mixture: Path, entry: DatasetEntry) -> Path | None:
    """Returns where an entry's records should be; None if it does not say.

    If they are not there, the folder of its configuration in a download of its source is.
    """
    if entry.json_path is None:
        return None
    if not is_mixture(mixture):
        return Path(entry.json_path)
    place = mixture.parent / entry.json_path
    if not place.exists() and entry.source is not None and entry.config is not None:
        download = mixture.parent / entry.source.rpartition("/")[2] / entry.config
        return download if download.is_dir() else place
    return place


def _check_located(place: Path | None, entry: DatasetEntry) -> Path:
    if place is None:
        raise DataError(
            f"data set {entry.name!r} comes from {entry.source or 'an unpublished source'} and has "
            "no json_path; download it and set json_path to its place"
        )
    return place


def _media_root(mixture: Path, entry: DatasetEntry, roots: Sequence[Path]) -> Path | None:
    if entry.root is not None:
        return mixture.parent / entry.root
    return roots[0] if roots else None


def _directory(path: Path) -> Path:
    return path if path.is_dir() else path.parent
