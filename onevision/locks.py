"""A directory -> held by this process alone, however it ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from onevision.errors import ConfigError

LOCK = "lock"


@contextlib.contextmanager
def lock_directory(directory: Path, *, holder: str) -> Iterator[None]:
    """Locks a directory for this process. Raises ConfigError if another one holds the lock.

    `holder` is what runs in it, for the message: "trainer". The lock belongs to the process, so it
    is released however the process ends.
    """
    path = directory / LOCK
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{directory}: cannot be written to ({error.strerror}); give another --output"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            found = file.read().strip() or "unknown"
            raise ConfigError(
                f"{directory}: another {holder} runs here ({found}); wait for it, stop it, or "
                "give another --output"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}")
        file.flush()
        yield
