"""Weights that this package wrote <-> their SHA-256 in a file beside them, compared at every load.

checksums.json    {"format_version": 1, "sha256": {"model.safetensors": "..."}}
"""

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event

from onevision.checkpoint.files import StoredTensor, read_json
from onevision.errors import CheckpointError
from onevision.files import write_json

CHECKSUMS = "checksums.json"
FORMAT_VERSION = 1
# Files that are read at a time; hashing leaves Python to other threads.
NUM_THREADS = 4
# What is read at a time: it stays in the processor's cache until it is hashed.
CHUNK_BYTES = 1 << 18


def write_checksums(directory: Path) -> None:
    """Writes the checksums of all weights in `directory`. Raises OSError."""
    paths = sorted(directory.glob("*.safetensors"))
    sums = dict(zip([path.name for path in paths], _hash_files(paths), strict=True))
    write_json(directory / CHECKSUMS, {"format_version": FORMAT_VERSION, "sha256": sums})


@contextmanager
def verifying(tensors: Iterable[StoredTensor]) -> Iterator[None]:
    """Compares the files of tensors with the checksums beside them, if any, as its block runs.

    What the block makes of the weights must not be used before the block has ended: there it
    raises CheckpointError that names a file with other bytes. An error of the block itself is
    raised at once.
    """
    paths = sorted({tensor.path for tensor in tensors})
    expected = {d: _read(d / CHECKSUMS) for d in {path.parent for path in paths}}
    listed = [path for path in paths if path.name in expected[path.parent]]
    stop = Event()
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        sums = [threads.submit(_hash_file, path, stop) for path in listed]
        try:
            yield
        except BaseException:
            stop.set()
            raise
        for path, found in zip(listed, [future.result() for future in sums], strict=True):
            if found != expected[path.parent][path.name]:
                raise CheckpointError(
                    f"{path}: its bytes are not those of {CHECKSUMS}; copy it again or, if it was "
                    f"changed on purpose, remove {path.parent / CHECKSUMS} (or skip this check: "
                    "--no-verify, verify=False)"
                )


def verify_checksums(tensors: Iterable[StoredTensor]) -> None:
    """Compares files as `verifying` does, and waits. Raises CheckpointError."""
    with verifying(tensors):
        pass


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
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        return list(threads.map(partial(_hash_file, stop=Event()), paths))


def _hash_file(path: Path, stop: Event) -> str:
    """Returns the SHA-256 of a file; of the part that was read before `stop`."""
    digest, room = hashlib.sha256(), memoryview(bytearray(CHUNK_BYTES))
    with path.open("rb", buffering=0) as file:
        while (count := file.readinto(room)) and not stop.is_set():
            digest.update(room[:count])
    return digest.hexdigest()
