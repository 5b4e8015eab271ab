"""A mixture file, or a path -> its entries: where data lie, and how much of them is learned.

Reads the reference's YAML unchanged (`datasets:` with `json_path` and `sampling_strategy`), and our
own keys beside those.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from onevision.data.containers import is_mixture
from onevision.data.remote.store import is_address, restore_address
from onevision.errors import DataError
from onevision.values import check_key, from_plain, read_yaml

# What a sample shows.
Modality = Literal["text", "single_image", "multi_image", "video"]
# Whether a question sees those before it.
Turns = Literal["joined", "apart"]
STRATEGY = re.compile(r"(first|end|random):([0-9]{1,12})(%?)")
# Of one entry in an epoch, so that the order of an epoch fits into memory.
MAX_ROWS = 1_000_000_000
MAX_SHARE = 1e9
BRACES = re.compile(r"(.*)\{(.*)\}(.*)")


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """One entry of a mixture file, with the file's keys."""

    name: str
    # A JSON, JSONL, Parquet or tar file, a directory of them, or the address of tar or Parquet
    # shards: s3://bucket/caps/{0000..0099}.tar.
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
    # "apart": the questions of a row share its media and do not see each other's answers.
    turns: Turns = "joined"
    # Facts of the published data set: its rows, whether their number is rounded, or they released.
    published_rows: int | None = None
    rows_rounded: bool = False
    released: bool = True
    category: str | None = None
    note: str | None = None
    # The command that makes such records, for who lacks them; capitals stand for the user's own.
    make: str | None = None

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


def read_datasets(path: Path) -> list[DatasetEntry]:
    """Reads a mixture file, or makes one entry for each JSON file that `path` names.

    A path may hold one brace list, `data/{a,b}.json`, as in the reference. Raises DataError.
    """
    if (address := restore_address(path)) is not None:
        return [DatasetEntry(name=path.name, json_path=address)]
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
    is_list = isinstance(path, str) and not is_address(path)  # an address is one data set
    files: Sequence[str | None] = expand_braces(path) if is_list else [path]
    for file in files:
        fallback = Path(file).name if isinstance(file, str) else given.get("source", "")
        name = given.get("name", fallback) if len(files) == 1 else fallback
        one = given | {"name": name, "json_path": file}
        yield from_plain(DatasetEntry, one, where=where, complete=False, error=DataError)
