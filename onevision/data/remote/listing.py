"""An address, a pattern, a brace list or a folder of a store -> shards: address, size, version.

s3://bucket/caps/{0000..0099}.tar    hf://datasets/owner/name/data/*.parquet    gs://bucket/caps
"""

import re
from itertools import product

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
    found: list[Shard] = []
    addresses = expand_ranges(address)
    fs, _ = open_shard_store(addresses[0])
    with reading(address):
        fs.invalidate_cache()
        if any(mark in address for mark in MARKS):
            for one in addresses:
                found += _find_by_pattern(fs, one)
        elif len(addresses) > 1:
            found = _find_by_name(fs, addresses)
        else:
            found = _find_alone(fs, addresses[0])
    if len({shard.address for shard in found}) < len(found):
        raise DataError(f"{address}: it names a shard twice; name each once")
    return found


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
    _, path = open_shard_store(address)
    found = {str(name): _follow(fs, one) for name, one in fs.glob(path, detail=True).items()}
    shards = [
        to_shard(found[name], _address_of(name, like=address))
        for name in sorted(found)
        if found[name]["type"] == "file"
    ]
    if not shards:
        raise DataError(f"{address}: no shard fits this pattern; check it, and the folder")
    return shards


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
        listed = fs.ls(folder, detail=True)
    except FileNotFoundError:
        return {}
    return {str(one["name"]).rstrip("/").rpartition("/")[2]: one for one in listed}


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
