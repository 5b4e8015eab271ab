"""An address -> the store behind it (fsspec), and every problem of a store as one line.

    s3://bucket/a    gs://bucket/a    hf://datasets/owner/name/a    memory://a    file:///mnt/a

Credentials are those that a store's own package finds: variables, files or the machine's role.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from onevision.errors import DataError, OneVisionError

Store = fsspec.AbstractFileSystem
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://.+", re.DOTALL)
# What `Path` makes of an address: one slash in place of two.
SHORTENED = re.compile(r"([a-z][a-z0-9+.-]+):/([^/].*)", re.DOTALL)
# Packages of the protocols that people use most; fsspec's own message names those of others.
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs"}


def is_address(text: str) -> bool:
    """Whether a text is an address, not a path."""
    return ADDRESS.fullmatch(text) is not None


def restore_address(path: Path) -> str | None:
    """Returns the address that a path was made from; None if it is a path."""
    found = SHORTENED.fullmatch(str(path))
    if found is None or path.exists():
        return None
    slashes = ":///" if found[1] in ("file", "local") else "://"
    return f"{found[1]}{slashes}{found[2]}"


def open_store(
    address: str, *, what: str, expected: str, error: type[OneVisionError] = DataError
) -> tuple[Store, str]:
    """Returns the store of an address, and the path in it; opens no connection yet.

    Raises `error`, whose line begins with `what`, if a package is missing or the protocol is
    unknown.
    """
    protocol = address.partition("://")[0]
    try:
        fs, path = url_to_fs(address, use_listings_cache=False)
    except ImportError as missing:
        package = PACKAGES.get(protocol)
        advice = f"pip install {package}" if package else str(missing)
        raise error(f"{what}, which needs a package that is not installed: {advice}") from missing
    except ValueError as problem:
        raise error(f"{what}: {problem}; expected {expected}") from problem
    return fs, str(path)


@contextmanager
def explained(path: object) -> Iterator[None]:
    """Turns every problem of a store into an OSError; each has exceptions of its own."""
    try:
        yield
    except (OSError, OneVisionError):
        raise
    except Exception as error:
        raise OSError(f"{path}: {type(error).__name__}: {error}".partition("\n")[0]) from error


@contextmanager
def reading(address: str) -> Iterator[None]:
    """Turns every problem of reading an address into a DataError of one line."""
    try:
        with explained(address):
            yield
    except FileNotFoundError as error:
        raise DataError(
            f"{address}: nothing is there; check the address, and the rights to see it"
        ) from error
    except OSError as error:
        why = first_line(error).removeprefix(f"{address}: ")
        raise DataError(
            f"{address}: cannot be read ({why}); check the credentials and the network"
        ) from error


@contextmanager
def open_file(fs: Store, path: str) -> Iterator[Any]:  # Any: a file object of the store
    """Opens a file of a store to be read in a binary mode."""
    with fs.open(path, "rb") as file:
        yield file


def first_line(error: Exception) -> str:
    """Returns what an error says, in one line, or its name if it says nothing."""
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__
