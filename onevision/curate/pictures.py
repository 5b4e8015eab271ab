"""A record's picture -> what a task needs of it: its source, and the hash of its bytes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from onevision.curate.task import Refusal, SourceItem
from onevision.data.forms.raw import RawRecord, describe
from onevision.data.records import read_medium
from onevision.errors import DataError, MediaError
from onevision.inputs.media import image_size


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture that can be opened: where it comes from, and its path or bytes."""

    source: SourceItem
    medium: str | bytes


class PictureReader:
    """Finds pictures and hashes them, each file once.

    With `embedded`, pictures may lie inside the records (Parquet, tar), and are named by their
    hash; without it they are refused, since a record of JSON can only name a file.
    """

    def __init__(self, *, embedded: bool = False) -> None:
        self._hashes: dict[str, str] = {}
        self._embedded = embedded

    def read(self, record: RawRecord, entry: object, *, kind: str) -> Picture | Refusal:
        """Returns a record's picture, or why it cannot be used."""
        if not isinstance(entry, str) and not self._embedded:
            return Refusal(
                kind=kind,
                source=SourceItem(where=record.where),
                reason="picture without a file",
                detail=f"{record.where}: image is {describe(entry)}; expected the path of a file, "
                "which the new record can name; `recaption --ray` reads pictures inside records",
            )
        name = entry if isinstance(entry, str) else None
        source = SourceItem(where=record.where, image=name)
        try:
            medium = read_medium(record, "image", entry)
            image_size(medium)
            digest = self._hash(medium)
        except MediaError as error:
            reason = "picture missing" if error.fault == "source" else "damaged picture"
            return Refusal(kind=kind, source=source, reason=reason, detail=str(error))
        except (DataError, OSError) as error:
            return Refusal(kind=kind, source=source, reason="picture missing", detail=str(error))
        source = SourceItem(where=record.where, image=name or digest[:32], sha256=digest)
        return Picture(source=source, medium=medium)

    def _hash(self, medium: str | bytes) -> str:
        if isinstance(medium, bytes):
            return hashlib.sha256(medium).hexdigest()
        if medium not in self._hashes:
            with Path(medium).open("rb") as file:
                self._hashes[medium] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._hashes[medium]
