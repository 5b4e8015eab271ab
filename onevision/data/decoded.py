"""Media -> whether they decode, and their fingerprints, cached by a hash of their bytes.

A file that is moved, renamed or used by another mixture is not decoded again. Broken media are not
cached, since they may be fixed.
"""

import hashlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from PIL.Image import Image as PillowImage

from onevision.conversation import Image
from onevision.data.fingerprints import hash_picture
from onevision.errors import MediaError
from onevision.inputs.media import open_image
from onevision.inputs.video import FrameChoice

# Raised when fingerprints change.
FORMAT = b"1"
MAX_WAIT_SECONDS = 60.0  # for another process that is writing


@dataclass(frozen=True, kw_only=True)
class PictureFingerprint:
    """A digest of an image's bytes and its perceptual hash, 64 bits each."""

    digest: int
    hash: int


class DecodedMedia:
    """Decodes media not decoded before; several processes may share the database."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, timeout=MAX_WAIT_SECONDS)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS decoded (digest BLOB PRIMARY KEY, hash BLOB NOT NULL)"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._database.commit()
        self._database.close()

    def picture(self, image: Image) -> PictureFingerprint:
        """Returns an image's fingerprint. Raises MediaError if it does not decode."""
        digest = _digest(image.source)
        known = self._look_up(digest)
        if known is None:
            known = hash_picture(open_image(image.source)).to_bytes(8, "big")
            self._store(digest, known)
        return PictureFingerprint(
            digest=int.from_bytes(digest[:8], "big"), hash=int.from_bytes(known, "big")
        )

    def check_frames(self, choice: FrameChoice) -> None:
        """Decodes the chosen frames of a video. Raises MediaError if one does not decode."""
        source = choice.video.source
        if not isinstance(source, str | Path | bytes):
            return  # a list of images, already decoded
        if choice.files:
            digest = _digest(b"".join(map(_digest, choice.files)), b"frames")
        else:
            digest = _digest(source, repr(choice.indices).encode())
        if self._look_up(digest) is None:
            for _ in choice.frames():
                pass
            self._store(digest, b"")

    def _look_up(self, digest: bytes) -> bytes | None:
        row = self._database.execute("SELECT hash FROM decoded WHERE digest = ?", (digest,))
        found = row.fetchone()
        return None if found is None else bytes(found[0])

    def _store(self, digest: bytes, value: bytes) -> None:
        self._database.execute("INSERT OR IGNORE INTO decoded VALUES (?, ?)", (digest, value))


def _digest(source: str | Path | bytes | PillowImage, more: bytes = b"") -> bytes:
    hasher = hashlib.blake2b(FORMAT + more, digest_size=16)
    if isinstance(source, bytes):
        hasher.update(source)
    elif isinstance(source, PillowImage):
        hasher.update(repr((source.mode, source.size)).encode() + source.tobytes())
    else:
        try:
            with Path(source).open("rb") as file:
                while block := file.read(1 << 20):
                    hasher.update(block)
        except OSError as error:
            raise MediaError(f"{source}: cannot be read ({error.strerror})") from error
    return hasher.digest()
