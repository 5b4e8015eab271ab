"""An encoded picture -> how much work its structure demands, counted without decoding.

A file of a megabyte can keep a decoder busy for a minute: thousands of scans over the same pixels,
comments, colour profiles. Each is counted by walking over lengths, in milliseconds, and held
against a limit before a decoder sees the file. WebP is decoded in C, and needs no count: of the
files below 2 MiB that were tried, one of 164 KB with 65,536 groups of prefix codes took 0.8 s; all
others, such as one of 30,000 frames, what their pixels take (40 million with transparency: 1.4 s).
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from onevision.errors import MediaError
from onevision.inputs.png import SIGNATURE

Kind = Literal["scans", "blocks", "pieces", "profiles", "run-length bytes"]
# A marker in JPEG's entropy-coded data: not a stuffed zero, a restart or a fill byte.
MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
START_OF_SCAN, END_OF_IMAGE, TEMPORARY = 0xDA, 0xD9, 0x01  # the last two have no length
# What may follow a block of a GIF: an extension, a picture, the end.
GIF_BLOCK = re.compile(b"[!,;]")


@dataclass(frozen=True, kw_only=True)
class WorkLimits:
    """How much a picture's structure may demand."""

    max_scans: int = 50  # of a progressive JPEG; encoders make about 10
    max_blocks: int = 2_000  # of metadata
    max_pieces: int = 100_000  # that pixels or one block of metadata are cut into
    max_profiles: int = 1  # of colour, in a PNG; each is inflated
    max_run_length_bytes: int = 2_000_000  # of a run-length coded BMP, which Python decodes


class _Part(NamedTuple):
    """A part of a file, and how many of them there are."""

    kind: Kind
    count: int = 1


def check_image_work(data: bytes, *, name: str, limits: WorkLimits) -> None:
    """Refuses a picture whose structure demands too much work. Raises MediaError.

    Damage is left to the decoder, which says what is wrong.
    """
    most: dict[Kind, int] = {
        "scans": limits.max_scans,
        "blocks": limits.max_blocks,
        "pieces": limits.max_pieces,
        "profiles": limits.max_profiles,
        "run-length bytes": limits.max_run_length_bytes,
    }
    found: dict[Kind, int] = dict.fromkeys(most, 0)
    for magic, form, walk in WALKS:
        if data.startswith(magic):
            for kind, count in walk(data):
                found[kind] += count
                if kind != "scans" and found[kind] > most[kind]:
                    raise _refuse(name, form, kind, f"more than {most[kind]:,}", most[kind])
            if found["scans"] > limits.max_scans:
                raise _refuse(name, form, "scans", f"{found['scans']:,}", limits.max_scans)


def _refuse(name: str, form: str, kind: Kind, found: str, most: int) -> MediaError:
    return MediaError(
        f"{name}: the {form} holds {found} {NAMES[kind]}; the limit is {most:,}; encode it again",
        fault="too_large",
    )


NAMES: dict[Kind, str] = {
    "scans": "scans",
    "blocks": "blocks of metadata",
    "pieces": "pieces of data",
    "profiles": "colour profiles",
    "run-length bytes": "bytes of run-length code",
}


def _walk_jpeg(data: bytes) -> Iterator[_Part]:
    """Walks over marker segments (ITU-T T.81, B.1) and skips entropy-coded data."""
    place, has_scan = 2, False
    while (found := MARKER.search(data, place)) is not None:
        if not has_scan:  # Pillow skips stray bytes before the first scan one by one
            yield _Part("pieces", found.start() - place)
        marker, place = data[found.start() + 1], found.end()
        if marker == END_OF_IMAGE:
            return
        yield _Part("scans" if marker == START_OF_SCAN else "blocks")
        has_scan |= marker == START_OF_SCAN
        if marker != TEMPORARY and place + 2 <= len(data):
            place += int.from_bytes(data[place : place + 2], "big")
    if not has_scan:
        yield _Part("pieces", max(0, len(data) - place))


def _walk_png(data: bytes) -> Iterator[_Part]:
    place = len(SIGNATURE)
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if kind == b"iCCP":
            yield _Part("profiles")
        yield _Part("pieces" if kind in (b"IDAT", b"fdAT") else "blocks")
        place += 12 + length


def _walk_gif(data: bytes) -> Iterator[_Part]:
    """Walks over the extensions before the first picture; later ones are not read."""
    if len(data) < 13:
        return
    flags, place = data[10], 13
    if flags & 0x80:
        place += 3 * 2 ** ((flags & 7) + 1)
    while (found := GIF_BLOCK.search(data, place)) is not None:
        yield _Part("pieces", found.start() - place)  # Pillow skips stray bytes one by one
        if found[0] != b"!":
            return
        yield _Part("blocks")
        place = found.start() + 2
        while place < len(data) and (length := data[place]):
            yield _Part("pieces")
            place += 1 + length
        place += 1
    yield _Part("pieces", max(0, len(data) - place))


def _walk_bmp(data: bytes) -> Iterator[_Part]:
    if len(data) >= 34:
        begin, compression = *struct.unpack_from("<I", data, 10), data[30]
        if compression in (1, 2):  # RLE8, RLE4
            yield _Part("run-length bytes", max(0, len(data) - begin))


WALKS: tuple[tuple[bytes, str, Callable[[bytes], Iterator[_Part]]], ...] = (
    (b"\xff\xd8", "JPEG", _walk_jpeg),
    (SIGNATURE, "PNG", _walk_png),
    (b"GIF8", "GIF", _walk_gif),
    (b"BM", "BMP", _walk_bmp),
)
