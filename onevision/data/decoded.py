"""What is known of media that were decoded once: a small database, by a hash of their bytes.

A file that is moved, renamed, or used by another mixture is not decoded again. Only what decoded
well is remembered; what is broken may be mended, and its message names the file.
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

# Changes whenever a remembered picture would be fingerprinted otherwise than before.
FORMAT = b"1"
WAIT_SECONDS = 60.0  # for another process that is writing


@dataclass(frozen=True, kw_only=True)
class PictureFingerprint:
    """An image that decodes: a digest of its bytes, and its perceptual hash; 64 bits each."""

    digest: int
    hash: int


class DecodedMedia:
    """Decodes media unless that was done before; several processes may share the file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, timeout=WAIT_SECONDS)
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
        """Return what an image looks like. Raises MediaError where it does not decode."""
        digest = _digest(image.source)
        known = self._known(digest)
        if known is None:
            known = hash_picture(open_image(image.source)).to_bytes(8, "big")
            self._remember(digest, known)
        return PictureFingerprint(
            digest=int.from_bytes(digest[:8], "big"), hash=int.from_bytes(known, "big")
        )

    def check_frames(self, choice: FrameChoice) -> None:
        """Decode the frames that are seen of a video. Raises MediaError where one does not."""
        source = choice.video.source
        if not isinstance(source, str | Path | bytes):
            return  # a list of pictures, decoded already
        digest = _digest(source, repr(choice.indices).encode())
        if self._known(digest) is None:
            for _ in choice.frames():
                pass
            self._remember(digest, b"")

    def _known(self, digest: bytes) -> bytes | None:
        row = self._database.execute("SELECT hash FROM decoded WHERE digest = ?", (digest,))
        found = row.fetchone()
        return None if found is None else bytes(found[0])

    def _remember(self, digest: bytes, value: bytes) -> None:
        self._database.execute("INSERT OR IGNORE INTO decoded VALUES (?, ?)", (digest, value))


def _digest(source: str | Path | bytes | PillowImage, more: bytes = b"") -> bytes:
    told = hashlib.blake2b(FORMAT + more, digest_size=16)
    if isinstance(source, bytes):
        told.update(source)
    elif isinstance(source, PillowImage):
        told.update(repr((source.mode, source.size)).encode() + source.tobytes())
    else:
        try:
            with Path(source).open("rb") as file:
                while block := file.read(1 << 20):
                    told.update(block)
        except OSError as error:
            raise MediaError(f"{source}: cannot be read ({error.strerror})") from error
    return told.digest()
