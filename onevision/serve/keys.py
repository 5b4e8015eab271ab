"""Files and variables of API keys -> KeyRing: who may ask, and who may read the metrics.

A key file has a key a line. SIGHUP reads it again; requests in progress continue.
"""

import base64
import binascii
import hashlib
import hmac
import logging
import stat
from collections.abc import Iterable
from pathlib import Path

from onevision.errors import InputError
from onevision.serve.settings import ServerSettings, check_keys

logger = logging.getLogger("onevision.serve")

MAX_FILE_BYTES = 1 << 20


class KeyRing:
    """The valid keys. Without any, everyone who can reach the port is answered."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._users, self._admins = list[bytes](), list[bytes]()
        self.reload()

    def reload(self) -> None:
        """Reads the key files again. Raises InputError, and keeps the keys that it has."""
        settings = self._settings
        files = [settings.key_file, settings.admin_key_file]
        users, admins = (read_key_file(path) if path else () for path in files)
        self._users, self._admins = _hash_all((*settings.keys, *users)), _hash_all(admins)

    @property
    def are_required(self) -> bool:
        """Whether a request needs a key."""
        return bool(self._users or self._admins)

    @property
    def are_several(self) -> bool:
        """Whether keys share the server, so that each has its part."""
        return len({*self._users, *self._admins}) > 1

    def check(self, authorization: str) -> str | None:
        """Returns the hash of a header's key, or None if it is not valid.

        All keys are compared, in constant time.
        """
        if not self.are_required:
            return ""
        given = hashlib.sha256(_key_of(authorization)).digest()
        matches = [hmac.compare_digest(given, key) for key in (*self._users, *self._admins)]
        return _name(given) if any(matches) else None

    def may_read_metrics(self, name: str) -> bool:
        """Whether the key of this name may read what all keys do together."""
        admins = self._admins or ([] if self.are_several else self._users)
        return not self.are_required or name in map(_name, admins)


def read_key_file(path: Path) -> tuple[str, ...]:
    """Returns the keys of a file; warns if others can read or write it. Raises InputError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
            mode = stat.S_IMODE(path.stat().st_mode)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: the key file cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file; expected one key per line") from error
    if len(data) > MAX_FILE_BYTES:
        raise InputError(f"{path}: more than 1 MiB; expected one key per line")
    if mode & 0o077:
        verb = "change" if mode & 0o022 else "read"
        logger.warning(
            "%s: other users of this machine can %s the keys (mode %04o); chmod 600 it",
            path, verb, mode,
        )  # fmt: skip
    keys = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not keys:
        raise InputError(f"{path}: no key in the file; expected one per line")
    check_keys(keys, where=f"{path}: a key")
    return keys


def _hash_all(keys: Iterable[str]) -> list[bytes]:
    return [hashlib.sha256(key.encode()).digest() for key in keys]


def _name(digest: bytes) -> str:
    return digest.hex()[:32]


def _key_of(authorization: str) -> bytes:
    """Returns the key of a Bearer header, or the password of a Basic one, which browsers send."""
    kind, _, value = authorization.partition(" ")
    if kind.lower() == "bearer":
        return value.strip().encode()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""
