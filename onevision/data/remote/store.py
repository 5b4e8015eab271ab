"""An address -> the store behind it (fsspec), and every problem of a store as one line.

    s3://bucket/a    gs://bucket/a    hf://datasets/owner/name/a    memory://a    file:///mnt/a

Credentials are those that a store's own package finds: variables, files or the machine's role. It
finds endpoints too (AWS_ENDPOINT_URL, STORAGE_EMULATOR_HOST, HF_ENDPOINT). Its other options come
from fsspec's configuration: FSSPEC_S3='{"anon": true}'.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from fsspec.config import conf
from fsspec.core import url_to_fs

from onevision.errors import DataError, OneVisionError

Store = fsspec.AbstractFileSystem
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://.+", re.DOTALL)
# What `Path` makes of an address: one slash in place of two.
SHORTENED = re.compile(r"([a-z][a-z0-9+.-]+):/([^/].*)", re.DOTALL)
# What installs the protocols that people use most; fsspec's own message names those of others.
PACKAGES = {
    "s3": "'onevision[s3]'",
    "s3a": "'onevision[s3]'",
    "gs": "'onevision[gs]'",
    "gcs": "'onevision[gs]'",
    "abfs": "adlfs",
}
# These print stack traces of what they raise, unless a program has set up logging.
LOGGERS = ("gcsfs", "s3fs", "fsspec", "aiobotocore", "botocore", "google.auth")
REFUSALS = {401: PermissionError, 403: PermissionError, 404: FileNotFoundError}
# As s3fs does by itself.
SILENT_SECONDS = 15.0


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
    """Returns the store of an address, and the path in it; most open no connection yet.

    Nothing that the store listed before is remembered. Raises `error`, whose line begins with
    `what`, if a package is missing, the protocol is unknown, or the store is set up wrongly.
    """
    protocol = address.partition("://")[0]
    for name in LOGGERS:
        if not (logger := logging.getLogger(name)).handlers:
            logger.addHandler(logging.NullHandler())
    try:
        fs, path = url_to_fs(address, use_listings_cache=False, **_limits(protocol))
    except ImportError as missing:
        package = PACKAGES.get(protocol)
        advice = f"pip install {package}" if package else str(missing)
        raise error(f"{what}, which needs a package that is not installed: {advice}") from missing
    except ValueError as problem:
        raise error(f"{what}: {one_line(problem)}; expected {expected}") from problem
    except Exception as problem:
        why = f"{type(problem).__name__}: {one_line(problem)}"
        raise error(f"{what}: {why}; check the credentials and the settings of {protocol}") from (
            problem
        )
    return fs, str(path)


def _limits(protocol: str) -> dict[str, Any]:
    """Returns options that limit how long a silent server is waited for; gcsfs alone has no limit.

    Its six tries take two minutes then. What fsspec's configuration says goes first.
    """
    told = conf.get("gs", {}) | conf.get("gcs", {})
    if protocol not in ("gs", "gcs") or "requests_timeout" in told:
        return {}
    from aiohttp import ClientTimeout

    limit = ClientTimeout(sock_connect=SILENT_SECONDS, sock_read=SILENT_SECONDS)
    return {"requests_timeout": limit}


@contextmanager
def explained(path: object) -> Iterator[None]:
    """Turns every problem of a store into an OSError of one line; each has exceptions of its own.

    What is missing is a FileNotFoundError, what is refused a PermissionError.
    """
    try:
        yield
    except OneVisionError:
        raise
    except Exception as error:
        kind, said = _kind_of(error), one_line(error)
        if isinstance(error, kind) and str(error) == said:
            raise
        name = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
        raise kind(f"{path}: {name}{said}") from error


def _kind_of(error: Exception) -> type[OSError]:
    """Returns what a problem of a store is, by its type or the status that a server has answered.

    The hub's client has the status in `response`, Google's in `code`.
    """
    for kind in (FileNotFoundError, PermissionError):
        if isinstance(error, kind):
            return kind
    status = getattr(getattr(error, "response", error), "status_code", getattr(error, "code", 0))
    return REFUSALS.get(status, OSError) if isinstance(status, int) else OSError


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
        why = one_line(error).removeprefix(f"{address}: ")
        raise DataError(
            f"{address}: cannot be read ({why}); check the credentials and the network"
        ) from error


@contextmanager
def open_file(fs: Store, path: str) -> Iterator[Any]:  # Any: a file object of the store
    """Opens a file of a store to be read in a binary mode."""
    with fs.open(path, "rb") as file:
        yield file


def one_line(error: Exception) -> str:
    """Returns what an error says, in one line, or its name if it says nothing."""
    return " ".join(str(error).split())[:300] or type(error).__name__
