"""Pinned packages -> one folder: what the next `tiny` learns from and is tested on.

    python runs/tiny_fetch.py SOURCES            fetches what is missing, and compares every hash
    python runs/tiny_fetch.py SOURCES --check    compares alone, and names what is missing

tiny_sources.json says what: npm packages, Debian packages (bookworm), GitHub commits; with version,
SHA-256, licence, authors, and whether training may see it or tests alone. npm, apt-get, dpkg-deb
and git fetch and unpack.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

LIST = Path(__file__).with_name("tiny_sources.json")
AT_ONCE = 4


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """One source: where it is from, exactly which, on what terms, and for what."""

    kind: Literal["npm", "deb", "git"]
    name: str
    version: str
    # A file below the folder, or the folder of a checkout.
    file: str
    # Of the file; a commit needs none.
    sha256: str
    licence: str
    by: str
    use: Literal["train", "test"]
    what: str


def read_list() -> list[Pinned]:
    """Returns every source."""
    return [Pinned(**one) for one in json.loads(LIST.read_text(encoding="utf-8"))]


def fetch(one: Pinned, folder: Path) -> None:
    """Downloads a source that is not there, and unpacks a Debian package beside it."""
    path = folder / one.file
    if not path.exists():
        if one.kind == "npm":
            _run(["npm", "pack", "--silent", f"{one.name}@{one.version}"], folder)
        elif one.kind == "deb":
            _run(["apt-get", "download", f"{one.name}={one.version}"], folder)
            escaped = one.file.replace("_" + one.version.replace(":", "_"),
                                       "_" + one.version.replace(":", "%3a"))  # fmt: skip
            (folder / escaped).rename(path)
        else:
            _run(["git", "clone", "--quiet", f"https://github.com/{one.name}", one.file], folder)
            _run(["git", "-C", one.file, "checkout", "--quiet", one.version], folder)
    if one.kind == "deb" and not (folder / one.name).is_dir():
        _run(["dpkg-deb", "-x", one.file, one.name], folder)


def fault_of(one: Pinned, folder: Path) -> str | None:
    """Returns what is wrong with a source in a folder, or None."""
    path = folder / one.file
    if not path.exists():
        return f"{one.file}: missing; run tiny_fetch.py without --check"
    if one.kind == "git":
        head = ["git", "-C", str(path), "rev-parse", "HEAD"]
        found = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
        expected = one.version
    else:
        found, expected = hashlib.sha256(path.read_bytes()).hexdigest(), one.sha256
    return None if found == expected else f"{one.file}: it is {found}, expected {expected}"


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise OSError(f"{' '.join(command)}: {last}")


def main() -> int:
    """Fetches and compares; returns 1 if a source is missing or is another one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true", help="compare only")
    told = parser.parse_args()
    told.folder.mkdir(parents=True, exist_ok=True)
    sources, faults = read_list(), []
    if not told.check:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for future in [pool.submit(fetch, one, told.folder) for one in sources]:
                try:
                    future.result()
                except OSError as error:
                    faults.append(str(error))
    faults += [fault for one in sources if (fault := fault_of(one, told.folder)) is not None]
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{len(sources) - len(faults)} of {len(sources)} sources are as pinned")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
