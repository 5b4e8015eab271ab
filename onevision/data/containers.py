"""A path -> the files of records behind it, and what each of them is by its content.

    json       a JSON array, JSON lines, or JSON objects one after the other
    csv        CSV or TSV with a header
    parquet    Parquet
    tar        tar, as WebDataset shards

Any of them may be gzipped: it is unpacked once, into the cache. Names do not matter, apart from
these: in a folder, files of records end in SUFFIXES, and one named in CAPTION_FILES is taken alone.
"""

import gzip
import hashlib
import re
import shutil
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from onevision.data.index import file_identity
from onevision.errors import DataError
from onevision.files import atomic_path, cache_directory
from onevision.plural import counted

Container = Literal["json", "csv", "parquet", "tar"]

SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".tar", ".gz", ".tgz")
# What describes the pictures beside it, as in Hugging Face's imagefolder.
CAPTION_FILES = tuple(
    f"{stem}.{suffix}"
    for stem in ("metadata", "captions")
    for suffix in ("jsonl", "csv", "json", "parquet")
)
# What other programs write beside records.
NOT_RECORDS = ("state.json", "dataset_infos.json", "dataset_dict.json")
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
SPLIT = re.compile(r"(train|validation|valid|val|dev|test)(?=[-_.])")
# Formats that are recognised in order to be refused by name: first bytes, name, what to do.
REFUSED = (
    (b"PK\x03\x04", "a zip archive", "unpack it"),
    (b"BZh", "compressed with bzip2", "unpack it"),
    (b"\xfd7zXZ", "compressed with xz", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it"),
    (b"ARROW1", "an Arrow file, as save_to_disk writes", "write Parquet: dataset.to_parquet(...)"),
    (b"\xff\xff\xff\xff", "an Arrow stream, as save_to_disk writes",
     "write Parquet: dataset.to_parquet(...)"),
    (b"\xff\xfe", "text in UTF-16", "save it as UTF-8"),
    (b"\xfe\xff", "text in UTF-16", "save it as UTF-8"),
    (b"\xff\xd8\xff", "a picture", "give the folder, with a captions.csv (file_name,text) in it"),
    (b"\x89PNG", "a picture", "give the folder, with a captions.csv (file_name,text) in it"),
)  # fmt: skip
# How a mixture file begins that is not named .yaml: a comment or other keys, or as JSON.
MIXTURE = re.compile(rb'\s*\{\s*"datasets"\s*:|(?![\s]*[\[{])(.*\n)*datasets\s*:')
EXPECTED = "expected JSON, JSON lines, CSV with a header, Parquet or tar, gzipped or not"
HEAD_BYTES = 1 << 16


def find_files(path: Path) -> list[Path]:
    """Returns the files of records behind a path: itself, those of a folder, or of a pattern.

    Raises DataError if there are none, or if it is unclear which are meant.
    """
    if path.is_dir():
        return _find_in_folder(path)
    if path.exists():
        return [path]
    pattern = path.name
    if any(mark in pattern for mark in "*?["):
        files = sorted(file for file in path.parent.glob(pattern) if file.is_file())
        if files:
            return files
    raise DataError(f"{path}: no such file; check the path")


def recognise(file: Path) -> Container:
    """Returns what a file is by its content. Raises DataError if it is none of these."""
    return recognise_head(read_head(file), str(file))


def recognise_head(head: bytes, file: str) -> Container:
    """Returns what a file is by its first bytes. Raises DataError if it is none of these."""
    if not head:
        raise DataError(f"{file}: the file is empty; {EXPECTED}")
    if head.startswith(b"PAR1"):
        return "parquet"
    if _is_tar(head):
        return "tar"
    for magic, name, advice in REFUSED:
        if head.startswith(magic):
            raise DataError(f"{file}: it is {name}, which is not read; {advice}")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] in (b"[", b"{"):
        return "json"
    first_line = text.split(b"\n", 1)[0]
    if b"\0" not in text and (b"," in first_line or b"\t" in first_line):
        return "csv"
    raise DataError(
        f"{file}: it begins with {head[:20]!r}, which is no format of records; {EXPECTED}"
    )


def is_mixture(path: Path) -> bool:
    """Whether a file is a mixture, by its suffix or its content."""
    if path.suffix in (".yaml", ".yml"):
        return True
    return (
        path.is_file() and MIXTURE.match(read_head(path).removeprefix(b"\xef\xbb\xbf")) is not None
    )


def read_head(file: Path) -> bytes:
    """Returns the first bytes of a file. Raises DataError if it cannot be read."""
    try:
        if not file.is_file():
            raise DataError(f"{file}: not a plain file; {EXPECTED}")
        with file.open("rb") as handle:
            return handle.read(HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); check the path") from error


def unpack(file: Path) -> Path:
    """Returns a gzipped file's content as a file in the cache, and any other file as it is.

    Raises DataError if it is damaged, or needs more than half of the free disk.
    """
    if not read_head(file).startswith(b"\x1f\x8b"):
        return file
    key = hashlib.sha256(file_identity(file).encode()).hexdigest()[:32]
    unpacked = cache_directory() / "unpacked" / key / file.name.removesuffix(".gz")
    if unpacked.exists():
        return unpacked
    try:
        unpacked.parent.mkdir(parents=True, exist_ok=True)
        most = shutil.disk_usage(unpacked.parent).free // 2
        with (
            gzip.open(file) as packed,
            atomic_path(unpacked) as partial,
            partial.open("wb") as target,
        ):
            while block := packed.read(1 << 20):
                if target.tell() + len(block) > most:
                    raise DataError(
                        f"{file}: unpacked, it needs more than half of the free disk "
                        f"({most / 2**30:,.1f} GiB); make room, or set $ONEVISION_CACHE"
                    )
                target.write(block)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{file}: the gzip is damaged ({error}); fetch it again") from error
    except OSError as error:
        raise DataError(
            f"{file}: cannot be unpacked to {unpacked} ({error.strerror or error}); "
            "make room there, or set $ONEVISION_CACHE"
        ) from error
    return unpacked


def _find_in_folder(folder: Path) -> list[Path]:
    """Returns the files of records of a folder, or of its only subfolder that has any."""
    files = _list_records(folder)
    if files:
        return files
    inner = [(sub, found) for sub in sorted(_subfolders(folder)) if (found := _list_records(sub))]
    if len(inner) == 1:
        return inner[0][1]
    if inner:
        names = ", ".join(sub.name for sub, _ in inner[:5])
        raise DataError(f"{folder}: there are records in {names}; give one of these folders")
    if any(folder.glob("*.arrow")):
        raise DataError(
            f"{folder}: it holds Arrow files, as save_to_disk writes; write Parquet instead: "
            "dataset.to_parquet(...)"
        )
    pictures = sum(file.suffix.lower() in PICTURES for file in folder.iterdir())
    if pictures:
        raise DataError(
            f"{folder}: it holds {counted(pictures, 'picture')} and nothing that describes them; "
            "add a captions.csv with the columns file_name,text"
        )
    raise DataError(f"{folder}: found nothing to learn from; {EXPECTED}")


def _list_records(folder: Path) -> list[Path]:
    names = [name for name in CAPTION_FILES if (folder / name).is_file()]
    if len(names) > 1:
        raise DataError(f"{folder}: it holds {' and '.join(names)}; keep one of them")
    if names:
        return [folder / names[0]]
    files = sorted(
        file
        for file in folder.iterdir()
        if file.suffix in SUFFIXES
        and file.is_file()
        and not file.name.startswith(".")
        and file.name not in NOT_RECORDS
    )
    _check_splits(folder, files)
    return files


def _check_splits(folder: Path, files: Sequence[Path]) -> None:
    """Refuses a folder of training and test files: both would be learned."""
    splits = sorted({found[1] for file in files if (found := SPLIT.match(file.name))})
    if len(splits) > 1:
        raise DataError(
            f"{folder}: it holds files of {' and '.join(splits)}; give those to learn from, such "
            f"as '{folder / splits[-1]}*'"
        )


def _subfolders(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."]


def _is_tar(head: bytes) -> bool:
    """Whether the first block is a tar header whose checksum is right, or the end of an archive."""
    block = head[:512]
    if len(block) == 512 and not block.strip(b"\0"):
        return True
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return False
    return True
