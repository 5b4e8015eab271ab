"""A mixture's entries -> the rows of each data set to learn from.

Rows chosen at random depend on the mixture's seed alone: they are the same on every rank and every
machine.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onevision.data.containers import is_mixture
from onevision.data.entries import DatasetEntry, count_chosen, read_datasets
from onevision.data.remote.store import is_address
from onevision.data.sources import RecordSource, open_source
from onevision.errors import DataError

# The mixture file of a folder that a job has made; its other files are no records.
OF_FOLDER = "mixture.yaml"


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
    # A path, an address, or None if the entry does not say.
    place: Path | str | None
    problem: str

    @property
    def is_missing(self) -> bool:
        """Whether there is nothing on this machine where the records should be."""
        return self.place is None or (isinstance(self.place, Path) and not self.place.exists())


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


def open_mixture(path: Path, *, seed: int = 0, roots: Sequence[Path] = ()) -> Mixture:
    """Opens a user's data, whatever their form: the one way in of every command.

    `path` is a mixture file, the name of a published one, a file of records, a folder of them or of
    pictures with captions, a pattern, a brace list or the address of shards. The content of files
    says what they are. `roots` are media roots: relative paths start at the first, unless the
    mixture's entry has its own `root`, and links may lead to any. Raises DataError for what is
    missing or contradictory.
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
    """Returns the path, or that of a published mixture if there is no file of this name.

    A folder with a mixture.yaml, as `onevision curate` makes them, is that mixture.
    """
    if (path / OF_FOLDER).is_file():
        return path / OF_FOLDER
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


def _locate(mixture: Path, entry: DatasetEntry) -> Path | str | None:
    """Returns the path or the address where an entry's records should be; None if it does not say.

    If they are not at a path, the folder of its configuration in a download of its source is.
    """
    if entry.json_path is None or is_address(entry.json_path):
        return entry.json_path
    if not is_mixture(mixture):
        return Path(entry.json_path)
    place = mixture.parent / entry.json_path
    if not place.exists() and entry.source is not None and entry.config is not None:
        download = mixture.parent / entry.source.rpartition("/")[2] / entry.config
        return download if download.is_dir() else place
    return place


def _check_located(place: Path | str | None, entry: DatasetEntry) -> Path | str:
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
