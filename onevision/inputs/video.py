"""Which frames of a video are seen, and decoding exactly those, one at a time.

A packet scan (no decoding) lists every frame's time; frames are chosen from the list, then decoded
in one pass that seeks only where a key frame lies between here and there. Frames on the way that
no other refers to are not decoded, where the codec marks them. No shortcut changes a pixel of a
whole stream: where a seek lands elsewhere or a frame is missing or damaged, all is decoded.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from PIL.Image import Image as PillowImage

from onevision.conversation import Video
from onevision.errors import MediaError
from onevision.inputs.media import (
    OWN_FILES,
    MediaLimits,
    check_frame,
    decoding,
    name_of,
    open_image,
    open_video,
)

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Codecs whose frames say for certain whether another refers to them, so that leaving those out
# changes no pixel of the rest.
MARKED_CODECS = frozenset({"h264"})
# Two frame times are the same if they differ by less than this.
EPSILON_SECONDS = 1e-6


@dataclass(frozen=True, kw_only=True)
class FrameTable:
    """The frames of a video in the order shown.

    A mark says where a frame stands in its stream: its time stamp, or its number where the
    container (AVI) stores no time stamps.
    """

    marks: Sequence[int]
    key_marks: Sequence[int]
    seconds_per_mark: float
    has_times: bool

    def seconds(self, index: int) -> float:
        """Return when frame `index` is shown, counted from the first."""
        return (self.marks[index] - self.marks[0]) * self.seconds_per_mark


@dataclass(frozen=True, kw_only=True)
class FrameChoice:
    """The frames chosen of one video: how many, when, and the way to decode them."""

    video: Video
    table: FrameTable | None  # None for a list of frames
    indices: tuple[int, ...]
    seconds: tuple[float, ...] | None
    limits: MediaLimits = OWN_FILES

    def frames(self) -> Iterator[PillowImage]:
        """Decode the chosen frames as RGB images, holding one at a time. Raises MediaError."""
        if self.table is None:
            assert not isinstance(self.video.source, str | bytes | Path)
            yield from map(open_image, self.video.source)
            return
        marks = deque(self.table.marks[i] for i in self.indices)
        yield from self._decoded(marks, self.table, sparsely=True)
        yield from self._decoded(marks, self.table, sparsely=False)

    def _decoded(
        self, marks: deque[int], table: FrameTable, *, sparsely: bool
    ) -> Iterator[PillowImage]:
        """Decode the frames at `marks` and take them off.

        `sparsely` takes shortcuts, and stops at the first doubt.
        """
        if not marks:
            return
        assert isinstance(self.video.source, str | bytes | Path)
        name = name_of(self.video.source)
        opened = open_video(self.video.source, limits=self.limits)
        with opened as (container, stream), decoding(name):
            stream.thread_type = "AUTO"
            wanted = frozenset(marks) if sparsely else None
            reader = _Reader(container, stream, table, wanted)
            while marks:
                frame = reader.frame_at(marks[0])
                if frame is None and sparsely:
                    return
                if frame is None:
                    raise MediaError(f"{name}: no frame can be decoded; the video is damaged")
                check_frame(frame, name=name, limits=self.limits)
                marks.popleft()
                yield _upright(frame)


def choose_frames(video: Video, *, limits: MediaLimits = OWN_FILES) -> FrameChoice:
    """Decide which frames of `video` are seen. Raises MediaError."""
    if not isinstance(video.source, str | bytes | Path):
        if not video.source:
            raise MediaError(
                "the video is an empty list of frames; expected at least one frame", fault="empty"
            )
        indices = tuple(range(len(video.source)))
        return FrameChoice(video=video, table=None, indices=indices, seconds=None)
    name = name_of(video.source)
    with open_video(video.source, limits=limits) as (container, stream), decoding(name):
        table = _scan(container, stream, most=limits.max_video_frames)
    if not table.marks:
        raise MediaError(f"{name}: the video holds no frames", fault="no_stream")
    _check_length(table, name, limits)
    indices = _choose(table, video, name)
    return FrameChoice(
        video=video,
        table=table,
        indices=indices,
        seconds=tuple(map(table.seconds, indices)),
        limits=limits,
    )


def evenly(first: int, last: int, count: int) -> tuple[int, ...]:
    """Return `count` whole numbers from `first` to `last`, truncated, as the reference does."""
    return tuple(int(i) for i in np.linspace(first, last, count, dtype=int))


def _check_length(table: FrameTable, name: str, limits: MediaLimits) -> None:
    seconds = table.seconds(len(table.marks) - 1)
    if len(table.marks) > limits.max_video_frames:
        raise MediaError(
            f"{name}: the video has more than the {limits.max_video_frames:,} frames allowed; "
            "cut it or lower its frame rate",
            fault="too_long",
        )
    if seconds > limits.max_video_seconds:
        raise MediaError(
            f"{name}: the video lasts {seconds:,.0f} s, more than the "
            f"{limits.max_video_seconds:,.0f} s allowed; cut it",
            fault="too_long",
        )


def _choose(table: FrameTable, video: Video, name: str) -> tuple[int, ...]:
    times = [table.seconds(i) + EPSILON_SECONDS for i in range(len(table.marks))]
    first = 0 if video.start is None else max(0, bisect_right(times, video.start))
    last = len(times) - 1
    if video.end is not None:
        last = bisect_right(times, video.end + 2 * EPSILON_SECONDS) - 1
    if first > last:
        raise MediaError(
            f"{name}: no frame between {video.start or 0} s and {video.end or times[-1]:.2f} s; "
            f"the video runs from 0 to {times[-1]:.2f} s"
        )
    if video.fps is not None:
        start, end = times[first], times[last]
        count = int((end - start) * video.fps + EPSILON_SECONDS) + 1
        if count <= video.num_frames:
            return tuple(_nearest(times, start + k / video.fps) for k in range(count))
    return evenly(first, last, min(video.num_frames, last - first + 1))


def _nearest(times: Sequence[float], seconds: float) -> int:
    after = min(bisect_right(times, seconds), len(times) - 1)
    before = max(after - 1, 0)
    return before if seconds - times[before] <= times[after] - seconds else after


def _scan(container: "InputContainer", stream: "VideoStream", *, most: int) -> FrameTable:
    """List the frames, and stop once there are more than `most`."""
    whole = (
        (packet.pts, packet.is_keyframe)
        for packet in container.demux(stream)
        if packet.size and not packet.is_discard
    )
    packets = list(islice(whole, most + 1))
    has_times = container.format.name != "avi" and all(pts is not None for pts, _ in packets)
    if not has_times or stream.time_base is None:
        rate = float(stream.average_rate or 25)
        numbers = range(len(packets))
        return FrameTable(
            marks=numbers, key_marks=numbers[:1], seconds_per_mark=1 / rate, has_times=False
        )
    return FrameTable(
        marks=sorted({pts for pts, _ in packets if pts is not None}),
        key_marks=sorted(pts for pts, is_key in packets if is_key and pts is not None),
        seconds_per_mark=float(stream.time_base),
        has_times=True,
    )


class _Reader:
    """Walks forward through a stream; knows the frame that is on screen at a mark.

    Told what is `wanted`, it leaves out what it can, and gives None where that may show.
    """

    def __init__(
        self,
        container: "InputContainer",
        stream: "VideoStream",
        table: FrameTable,
        wanted: frozenset[int] | None,
    ) -> None:
        self._container, self._stream, self._table = container, stream, table
        self._seeks = wanted is not None
        is_marked = table.has_times and stream.codec.canonical_name in MARKED_CODECS
        self._wanted = wanted if is_marked else None
        self._leaves_out = self._wanted is not None
        self._begin(None)

    def frame_at(self, mark: int) -> "VideoFrame | None":
        """Return the last frame at or before `mark`; marks may only grow. None if all failed."""
        keys = self._table.key_marks[: bisect_right(self._table.key_marks, mark)][-1:]
        if self._seeks and self._shown is not None and keys and (key := keys[0]) > self._shown[0]:
            self._container.seek(key, stream=self._stream)
            self._leaves_out = True
            self._begin(key)
        while self._shown is None or self._shown[0] < mark:
            following = self._ahead or next(self._frames, None)
            self._ahead = None
            if following is None:
                break
            if self._sought is not None and following[0] < self._sought:
                continue  # it refers to what lies before the key frame
            if self._is_doubtful(*following):
                return None
            self._sought = None
            if following[0] > mark and self._shown is not None:
                self._ahead = following
                break
            self._shown = following
        if self._shown is None or (self._leaves_out and self._shown[0] != mark):
            return None
        return self._shown[1]

    def _is_doubtful(self, mark: int, frame: "VideoFrame") -> bool:
        """Whether decoding everything might show something else.

        Damage is mended with what was decoded before. A seek may land elsewhere (MPEG-TS), and what
        the container calls a key frame may lean on others (intra refresh).
        """
        is_elsewhere = self._sought is not None and (mark != self._sought or not frame.key_frame)
        return is_elsewhere or (self._leaves_out and frame.is_corrupt)

    def _begin(self, sought: int | None) -> None:
        self._frames = _marked(self._container, self._stream, self._table, self._wanted)
        self._sought: int | None = sought
        self._shown: tuple[int, VideoFrame] | None = None
        self._ahead: tuple[int, VideoFrame] | None = None


def _marked(
    container: "InputContainer",
    stream: "VideoStream",
    table: FrameTable,
    wanted: frozenset[int] | None,
) -> Iterator[tuple[int, "VideoFrame"]]:
    """Decode from here on; give every frame with its mark."""
    for number, frame in enumerate(_frames(container, stream, wanted)):
        if not table.has_times:
            yield number, frame
        elif frame.pts is not None:
            yield frame.pts, frame


def _frames(
    container: "InputContainer", stream: "VideoStream", wanted: frozenset[int] | None
) -> Iterator["VideoFrame"]:
    """Decode from here on; frames that no other refers to only if `wanted`, or if that is None."""
    for packet in container.demux(stream):
        if wanted is not None:  # the decoder's threads note it packet by packet
            is_wanted = packet.pts is None or packet.pts in wanted
            stream.codec_context.skip_frame = "DEFAULT" if is_wanted else "NONREF"
        yield from packet.decode()


def _upright(frame: "VideoFrame") -> PillowImage:
    """Convert to RGB and undo the rotation that the file asks players to undo."""
    image = frame.to_image()
    turns = {
        90: Image.Transpose.ROTATE_90,
        180: Image.Transpose.ROTATE_180,
        270: Image.Transpose.ROTATE_270,
    }
    turn = turns.get(round(frame.rotation) % 360)
    return image if turn is None else image.transpose(turn)
