"""Content -> a file, whole or not at all; JSON objects <-> lines of a file whose last may be torn.

A crash leaves the old file or the new one, never a part of it, and beside it at worst a hidden file
that ends in ".partial". Written files get the permissions that the umask allows.
"""

import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from onevision.errors import DataError, OneVisionError

# Any: JSON values.
Line = dict[str, Any]


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields an empty file beside `path`, to be filled; it replaces `path` if nothing is raised.

    What fills it may replace it in turn. Makes the directory. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777  # what the umask leaves
        yield partial
        partial.chmod(mode)  # safetensors makes files that only their owner may read
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def cache_directory() -> Path:
    """Returns where this package keeps what it would otherwise find out again."""
    return Path(os.environ.get("ONEVISION_CACHE", Path.home() / ".cache" / "onevision"))


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all. Raises OSError."""
    with atomic_path(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Writes a text in UTF-8, whole or not at all. Raises OSError."""
    write_bytes(path, content.encode())


def write_json(path: Path, values: object, *, indent: int | None = 2) -> None:
    """Writes a JSON file, whole or not at all. Raises OSError."""
    write_text(path, json.dumps(values, indent=indent, ensure_ascii=False) + "\n")


def write_lines(path: Path, lines: Iterable[Mapping[str, object]]) -> None:
    """Writes JSON objects, one per line, whole or not at all. Raises OSError."""
    write_bytes(path, b"".join(map(encode_line, lines)))


def append_lines(path: Path, lines: Iterable[Mapping[str, object]], *, sync: bool = True) -> None:
    """Appends JSON objects, one per line; a torn last line is cut off first.

    With `sync` they are on the disk when this returns. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        _cut(file)
        file.write(b"".join(map(encode_line, lines)))
        file.flush()
        if sync:
            os.fsync(file.fileno())


def cut_torn_line(path: Path) -> None:
    """Cuts off a last line that does not end. Raises OSError."""
    with path.open("rb+") as file:
        _cut(file)


def read_lines(path: Path, *, key: str, error: type[OneVisionError] = DataError) -> list[Line]:
    """Returns the JSON objects of a file, one per line, without a torn last line.

    Every one has a whole number under `key`. Raises `error` if the file cannot be read or a line is
    something else.
    """
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror}); check the path") from problem
    lines: list[Line] = []
    for number, raw in enumerate(whole_lines(content), start=1):
        line = parse_line(raw, key=key)
        if line is None:
            raise error(f"{path}: line {number} is not a JSON object with a {key}; remove it")
        lines.append(line)
    return lines


def whole_lines(content: bytes) -> list[bytes]:
    """Returns the lines that end, without their ends."""
    return content[: content.rfind(b"\n") + 1].split(b"\n")[:-1]


def parse_line(raw: bytes, *, key: str) -> Line | None:
    """Returns a JSON object with a whole number under `key`; None for anything else."""
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get(key), int) else None


def encode_line(line: Mapping[str, object]) -> bytes:
    """Returns a JSON object as one line, with its end."""
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"


def _cut(file: BinaryIO) -> None:
    if file.seek(0, os.SEEK_END) == 0:
        return
    file.seek(-1, os.SEEK_END)
    if file.read() != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
