"""An address, a pattern, a brace list or a folder of a store -> shards: address, size, version.

s3://bucket/caps/{0000..0099}.tar    hf://datasets/owner/name/data/*.parquet    gs://bucket/caps
"""

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import product

from onevision.data.remote.fetch import ask
from onevision.data.remote.shard import Info, Shard, open_shard_store, to_shard
from onevision.data.remote.store import Store, reading
from onevision.errors import DataError
from onevision.plural import counted

SUFFIXES = (".tar", ".parquet")
MARKS = "*?["
BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"([0-9]{1,9})\.\.([0-9]{1,9})")
MAX_SHARDS = 1_000_000


def find_shards(address: str) -> list[Shard]:
    """Returns the shards behind an address: in the order of braces, and by name.

    Raises DataError if there are none, if some are missing, or if the store refuses.
    """
    addresses = expand_ranges(address)
    found = ask(lambda: _find_once(address, addresses))
    if len({shard.address for shard in found}) < len(found):
        raise DataError(f"{address}: it names a shard twice; name each once")
    return found


def _find_once(address: str, addresses: list[str]) -> list[Shard]:
    fs, _ = open_shard_store(addresses[0])
    with reading(address):
        fs.invalidate_cache()
        if any(mark in address for mark in MARKS):
            return [shard for one in addresses for shard in _find_by_pattern(fs, one)]
        if len(addresses) > 1:
            return _find_by_name(fs, addresses)
        return _find_alone(fs, addresses[0])


def expand_ranges(address: str) -> list[str]:
    """Expands braces: `{0000..0099}` and `{a,b}`. Raises DataError for other ones."""
    parts = BRACES.split(address)
    choices = [_list_choices(part, address) for part in parts[1::2]]
    total = 1
    for one in choices:
        total *= len(one)
    if total > MAX_SHARDS:
        raise DataError(f"{address}: {total:,} shards; expected at most {MAX_SHARDS:,}")
    literal = parts[::2]
    return [
        literal[0] + "".join(c + after for c, after in zip(chosen, literal[1:], strict=True))
        for chosen in product(*choices)
    ]


def _list_choices(inside: str, address: str) -> list[str]:
    if found := RANGE.fullmatch(inside):
        first, last = found[1], found[2]
        if 0 <= int(last) - int(first) < MAX_SHARDS:
            width = len(first) if first.startswith("0") else 0
            return [f"{number:0{width}}" for number in range(int(first), int(last) + 1)]
    elif "," in inside:
        return [one.strip() for one in inside.split(",")]
    raise DataError(f"{address}: braces hold {inside[:40]!r}; expected {{0000..0099}} or {{a,b}}")


def _find_by_pattern(fs: Store, address: str) -> list[Shard]:
    """Returns shards whose path fits a pattern. Raises DataError, OSError.

    Folder by folder, as the stores' own patterns leave out folders that they cannot list.
    """
    first, *parts = open_shard_store(address)[1].split("/")
    while parts and not any(mark in parts[0] for mark in MARKS):
        first = f"{first}/{parts.pop(0)}"
    if not parts or any(mark in first for mark in MARKS):
        raise DataError(f"{address}: it has a pattern where a bucket is expected; name the bucket")
    found = [_follow(fs, one) for one in _find_below(fs, first, parts)]
    shards = [
        to_shard(one, _address_of(str(one["name"]), like=address))
        for one in sorted(found, key=lambda one: str(one["name"]))
        if one["type"] == "file"
    ]
    if not shards:
        raise DataError(f"{address}: no shard fits this pattern; check it, and the folder")
    return shards


def _find_below(fs: Store, folder: str, parts: Sequence[str]) -> Iterator[Info]:
    """Yields what fits the parts of a pattern below a folder; `**` is any number of folders."""
    part, *later = parts
    if part == "**" and later:
        yield from _find_below(fs, folder, later)
    for name, info in _by_name(fs, folder).items():
        is_folder = info["type"] == "directory"
        if part == "**" and is_folder:
            yield from _find_below(fs, f"{folder}/{name}", parts)
        elif fnmatchcase(name, part):
            if not later:
                yield info
            elif is_folder:
                yield from _find_below(fs, f"{folder}/{name}", later)


def _find_by_name(fs: Store, addresses: list[str]) -> list[Shard]:
    """Returns shards by their names, from one listing of each folder. Raises DataError."""
    listings: dict[str, dict[str, Info]] = {}
    found: list[Shard] = []
    missing: list[str] = []
    for address in addresses:
        path = open_shard_store(address)[1].rstrip("/")
        folder, _, name = path.rpartition("/")
        if folder not in listings:
            listings[folder] = _list_folder(fs, folder)
        if name in listings[folder]:
            found.append(to_shard(_follow(fs, listings[folder][name]), address))
        else:
            missing.append(address)
    if missing:
        raise DataError(
            f"{missing[0]}: no such shard, as {len(missing):,} of "
            f"{counted(len(addresses), 'shard')} are missing; put them there, or correct the "
            "braces"
        )
    return found


def _list_folder(fs: Store, folder: str) -> dict[str, Info]:
    try:
        return _by_name(fs, folder)
    except FileNotFoundError:
        return {}


def _by_name(fs: Store, folder: str) -> dict[str, Info]:
    """Returns what a folder holds; some stores keep an empty file of the folder's own name."""
    found = {str(one["name"]).rstrip("/"): one for one in fs.ls(folder, detail=True)}
    found.pop(folder.rstrip("/"), None)
    return {path.rpartition("/")[2]: one for path, one in found.items()}


def _find_alone(fs: Store, address: str) -> list[Shard]:
    """Returns a shard, or those of a folder. Raises DataError, OSError."""
    path = open_shard_store(address)[1]
    info = fs.info(path)
    if info["type"] == "file":
        return [to_shard(info, address)]
    listed = _list_folder(fs, path)
    names = [name for name in sorted(listed) if name.endswith(SUFFIXES) and name[0] not in "._"]
    if not names:
        held = ", ".join(sorted(listed)[:5]) or "nothing"
        raise DataError(
            f"{address}: the folder holds {held}; expected shards that end in "
            f"{' or '.join(SUFFIXES)}"
        )
    folder = address.rstrip("/")
    return [to_shard(_follow(fs, listed[name]), f"{folder}/{name}") for name in names]


def _follow(fs: Store, info: Info) -> Info:
    """Returns what a symbolic link leads to, as listings tell of the link itself."""
    return fs.info(info["name"]) if info.get("islink") else info


def _address_of(name: str, *, like: str) -> str:
    if "://" in name:
        return name
    protocol = like.partition("://")[0]
    slash = "/" if like.startswith(f"{protocol}:///") else ""
    return f"{protocol}://{slash}{name.lstrip('/')}"
