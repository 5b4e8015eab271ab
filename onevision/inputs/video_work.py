"""A video file -> how much work its structure demands, counted without opening the container.

An MP4 of 1,700 bytes can declare 40 million samples, for which FFmpeg builds an index of gigabytes;
empty boxes cost it 8 microseconds each. Boxes and what they declare are counted in milliseconds and
held against limits first. Matroska needs no count: its work follows from its bytes.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from onevision.errors import MediaError

# Boxes whose contents FFmpeg reads as boxes, wherever they stand.
CONTAINERS = frozenset({
    b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf", b"mvex", b"dinf",
    b"udta", b"sinf", b"schi", b"wave", b"ilst", b"tapt", b"iprp", b"ipco", b"cmov",
})  # fmt: skip
MAX_DEPTH = 12  # FFmpeg refuses boxes that are nested deeper than 10
COUNTED = frozenset({b"trak", b"hdlr", b"stsz", b"stz2", b"stts", b"trun", b"elst", b"cmov"})


@dataclass(frozen=True, kw_only=True)
class VideoWorkLimits:
    """How much a container's structure may demand."""

    max_boxes: int = 200_000  # of MP4, chunks of AVI
    max_samples: int = 1_000_000  # that an MP4 declares, over all tracks
    max_edits: int = 100  # of an MP4's edit lists; each may repeat all samples


@dataclass
class _Track:
    """What a track of an MP4 declares."""

    sizes: int = 0
    times: int = 0
    is_sound: bool = False
    is_pcm: bool = False  # one time per sample of sound, which FFmpeg reads by chunks


@dataclass
class _Count:
    """What is found so far."""

    boxes: int = 0
    fragment_samples: int = 0
    edits: int = 0
    is_compressed: bool = False
    tracks: list[_Track] = field(default_factory=lambda: [_Track()])

    @property
    def samples(self) -> int:
        """Samples for which an index is built."""
        indexed = (t for t in self.tracks if not (t.is_sound and t.is_pcm))
        return self.fragment_samples + sum(max(t.sizes, t.times) for t in indexed)


def check_video_work(data: bytes, *, form: str, name: str, limits: VideoWorkLimits) -> None:
    """Refuses a container whose structure demands too much work. Raises MediaError.

    `form` is FFmpeg's name of the container. Damage is left to FFmpeg.
    """
    if form not in ("mov", "avi"):
        return
    count = _Count()
    walk = _walk_boxes if form == "mov" else _walk_chunks
    for kind, begin, end in walk(data, 0, len(data)):
        count.boxes += 1
        if count.boxes > limits.max_boxes:
            raise _refuse(name, f"more than {limits.max_boxes:,} boxes", limits.max_boxes)
        if kind in COUNTED:
            _count_box(kind, data[begin:end], count)
    if count.is_compressed:
        raise MediaError(
            f"{name}: the video's header is compressed ('cmov'), which is not read; "
            "write the file again with FFmpeg or another tool",
            fault="codec",
        )
    if count.samples > limits.max_samples:
        raise _refuse(name, f"{count.samples:,} samples", limits.max_samples)
    if count.edits > limits.max_edits:
        raise _refuse(name, f"{count.edits:,} edits", limits.max_edits)


def _refuse(name: str, found: str, most: int) -> MediaError:
    return MediaError(
        f"{name}: the video declares {found}; the limit is {most:,}; encode it again",
        fault="too_long",
    )


def _walk_boxes(
    data: bytes, begin: int, end: int, depth: int = 0
) -> Iterator[tuple[bytes, int, int]]:
    """Yields each box of an MP4 (ISO/IEC 14496-12, 4.2): kind, begin and end of its contents."""
    while begin + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, begin)
        inside = begin + 8
        if size == 1 and begin + 16 <= end:
            size, inside = struct.unpack_from(">Q", data, inside)[0], begin + 16
        elif size == 0:
            size = end - begin
        if size < inside - begin:
            return
        after = min(begin + size, end)
        yield kind, inside, after
        if kind == b"meta":
            inside += 4
        hides_movie = kind in (b"free", b"hoov") and data[inside + 4 : inside + 8] == b"moov"
        is_container = kind in CONTAINERS or kind == b"meta" or hides_movie
        if is_container and depth < MAX_DEPTH:
            yield from _walk_boxes(data, inside, after, depth + 1)
        begin = after


def _walk_chunks(data: bytes, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yields each chunk of an AVI but those in its list of frames.

    As FFmpeg does, enters every list, whatever size it claims.
    """
    while begin + 8 <= end:
        kind, size = struct.unpack_from("<4sI", data, begin)
        yield b"AVI", begin + 8, end  # no kind of a box
        is_list = kind in (b"RIFF", b"LIST") and data[begin + 8 : begin + 12] != b"movi"
        begin += 12 if is_list else 8 + size + size % 2


def _count_box(kind: bytes, contents: bytes, count: _Count) -> None:
    track = count.tracks[-1]
    match kind:
        case b"trak":
            count.tracks.append(_Track())
        case b"hdlr":
            track.is_sound = contents[8:12] == b"soun"
        case b"stsz" | b"stz2":
            track.sizes = max(track.sizes, _read_number(contents, 8))
        case b"stts":
            _count_times(contents, track)
        case b"trun":
            count.fragment_samples += _read_number(contents, 4)
        case b"elst":
            count.edits += _read_number(contents, 4)
        case b"cmov":
            count.is_compressed = True


def _count_times(contents: bytes, track: _Track) -> None:
    """Adds up the samples of a table of runs: how many samples last how long."""
    runs = min(_read_number(contents, 4), max(0, len(contents) - 8) // 8)
    numbers = struct.unpack_from(f">{2 * runs}I", contents, 8) if runs else ()
    track.times += sum(numbers[::2])
    track.is_pcm = runs == 1 and numbers[1] == 1


def _read_number(contents: bytes, place: int) -> int:
    return int.from_bytes(contents[place : place + 4], "big")
