"""Weights that this package wrote <-> their SHA-256 in a file beside them, compared at every load.

checksums.json    {"format_version": 1, "sha256": {"model.safetensors": "..."}}
"""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from onevision.checkpoint.files import StoredTensor, read_json
from onevision.errors import CheckpointError
from onevision.files import write_json

CHECKSUMS = "checksums.json"
FORMAT_VERSION = 1
# Files that are read at a time; hashing leaves Python to other threads.
NUM_THREADS = 4


def write_checksums(directory: Path) -> None:
    """Writes the checksums of all weights in `directory`. Raises OSError."""
    paths = sorted(directory.glob("*.safetensors"))
    sums = dict(zip([path.name for path in paths], _hash_files(paths), strict=True))
    write_json(directory / CHECKSUMS, {"format_version": FORMAT_VERSION, "sha256": sums})


def verify_checksums(tensors: Iterable[StoredTensor]) -> None:
    """Compares the files of tensors with the checksums beside them, if there are any.

    Raises CheckpointError that names a file with other bytes.
    """
    paths = sorted({tensor.path for tensor in tensors})
    expected = {d: _read(d / CHECKSUMS) for d in {path.parent for path in paths}}
    listed = [path for path in paths if path.name in expected[path.parent]]
    for path, found in zip(listed, _hash_files(listed), strict=True):
        if found != expected[path.parent][path.name]:
            raise CheckpointError(
                f"{path}: its bytes are not those of {CHECKSUMS}; copy it again or, if it was "
                f"changed on purpose, remove {path.parent / CHECKSUMS} (or skip this check: "
                "--no-verify, verify=False)"
            )


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    values = read_json(path)
    sums = values.get("sha256")
    if values.get("format_version") != FORMAT_VERSION or not isinstance(sums, dict):
        raise CheckpointError(
            f"{path}: not checksums of format_version {FORMAT_VERSION}; copy it again, or remove it"
        )
    return sums


def _hash_files(paths: list[Path]) -> list[str]:
    def digest(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    with ThreadPoolExecutor(NUM_THREADS) as threads:
        return list(threads.map(digest, paths))
