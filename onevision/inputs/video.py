"""A video -> the frames that the model sees, chosen from the packet list, decoded one at a time.

A packet scan (no decoding) lists the time of every frame. Frames are chosen from that list, then
decoded in one pass that seeks only if a key frame lies between the current and the next frame.
Unwanted frames that the codec marks as referred to by no other are skipped. No shortcut changes a
pixel: if a seek misses or a frame is missing or damaged, everything is decoded.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from PIL.Image import Image as PillowImage

from onevision.conversation import Video
from onevision.errors import MediaError
from onevision.inputs.frame_folder import choose_files, is_frame_folder
from onevision.inputs.frame_times import FrameTable, NumFrames
from onevision.inputs.media import (
    TRUSTED_LIMITS,
    MediaLimits,
    check_frame,
    image_size,
    open_image,
    open_video,
    translate_errors,
)
from onevision.inputs.media_source import source_name
from onevision.inputs.samplers import sample_frames
from onevision.inputs.upright import ImageSize, rotate_upright

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Codecs that mark reliably which frames no other refers to: skipping those changes no other pixel.
MARKED_CODECS = frozenset({"h264"})


@dataclass(frozen=True, kw_only=True)
class FrameChoice:
    """The frames chosen from one video: which, when they are shown, and how to decode them."""

    video: Video
    table: FrameTable | None  # None for a list or a folder of frames
    indices: Sequence[int]
    seconds: tuple[float, ...] | None = None
    limits: MediaLimits = TRUSTED_LIMITS
    files: Sequence[Path] = ()  # the chosen frames of a folder

    @property
    def duration(self) -> float | None:
        """How long the whole video lasts, in seconds; None if its frames have no times."""
        return None if self.table is None else self.table.duration

    def fact(self, *, sizes_frames: bool) -> NumFrames:
        """Returns what must be known to lay the frames out; their size needs one decoded."""
        size = self.frame_size() if sizes_frames else None
        return NumFrames(len(self.indices), self.seconds, size, tuple(self.indices), self.duration)

    def frame_size(self) -> ImageSize:
        """Returns the size of the first chosen frame, which is decoded for it. Raises MediaError.

        Only a decoded frame tells reliably how frames are rotated.
        """
        if self.table is None:
            source = self.files or self.video.source
            assert not isinstance(source, str | bytes | Path)
            return image_size(source[0], limits=self.limits)
        width, height = next(iter(self.frames())).size
        return ImageSize(width=width, height=height)

    def frames(self) -> Iterator[PillowImage]:
        """Decodes the chosen frames as RGB images, holding one at a time. Raises MediaError."""
        if self.table is None:
            source = self.files or self.video.source
            assert not isinstance(source, str | bytes | Path)
            yield from map(open_image, source)
            return
        marks = deque(self.table.marks[i] for i in self.indices)
        yield from self._decode_marks(marks, self.table, sparsely=True)
        yield from self._decode_marks(marks, self.table, sparsely=False)

    def _decode_marks(
        self, marks: deque[int], table: FrameTable, *, sparsely: bool
    ) -> Iterator[PillowImage]:
        """Decodes the frames at `marks`, removing each mark once its frame is yielded.

        `sparsely` seeks and skips frames, and stops where that might change a pixel.
        """
        if not marks:
            return
        assert isinstance(self.video.source, str | bytes | Path)
        opened = open_video(self.video.source, limits=self.limits)
        name = source_name(self.video.source)
        with opened as (container, stream), translate_errors(name):
            stream.thread_type = "AUTO"
            wanted = frozenset(marks) if sparsely else None
            reader = _FrameReader(container, stream, table, wanted)
            while marks:
                frame = reader.frame_at(marks[0])
                if frame is None and sparsely:
                    return
                if frame is None:
                    raise MediaError(f"{name}: no frame can be decoded; the video is damaged")
                check_frame(frame, name=name, limits=self.limits)
                marks.popleft()
                yield rotate_upright(frame)


def choose_frames(video: Video, *, limits: MediaLimits = TRUSTED_LIMITS) -> FrameChoice:
    """Chooses the frames of `video` that the model sees. Raises MediaError."""
    if isinstance(video.source, str | Path) and is_frame_folder(video.source):
        files = choose_files(video, Path(video.source))
        return FrameChoice(video=video, table=None, indices=range(len(files)), files=files)
    if not isinstance(video.source, str | bytes | Path):
        if not video.source:
            raise MediaError("the video has no frames; expected at least one", fault="empty")
        return FrameChoice(video=video, table=None, indices=range(len(video.source)))
    name = source_name(video.source)
    with (
        open_video(video.source, limits=limits) as (container, stream),
        translate_errors(name),
    ):
        table = _scan(container, stream, most=limits.max_video_frames)
    if not table.marks:
        raise MediaError(f"{name}: the video holds no frames", fault="no_stream")
    _check_length(table, name, limits)
    times = [table.seconds(index) for index in range(len(table.marks))]
    indices = sample_frames(times, video, name=name)
    return FrameChoice(
        video=video,
        table=table,
        indices=indices,
        seconds=tuple(map(table.seconds, indices)),
        limits=limits,
    )


def _check_length(table: FrameTable, name: str, limits: MediaLimits) -> None:
    seconds = table.seconds(len(table.marks) - 1)
    if len(table.marks) > limits.max_video_frames:
        raise MediaError(
            f"{name}: the video has more than {limits.max_video_frames:,} frames, the limit; "
            "shorten it or lower its frame rate",
            fault="too_long",
        )
    if seconds > limits.max_video_seconds:
        raise MediaError(
            f"{name}: the video lasts {seconds:,.0f} s; the limit is "
            f"{limits.max_video_seconds:,.0f} s; shorten it",
            fault="too_long",
        )


def _scan(container: "InputContainer", stream: "VideoStream", *, most: int) -> FrameTable:
    """Lists the frames without decoding; stops once there are more than `most`."""
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


class _FrameReader:
    """Walks forward through a stream and finds the frame that is on screen at a mark.

    Given the `wanted` marks, it seeks and skips frames, and returns None where that might change
    a pixel. With None it decodes everything.
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
        knows_references = table.has_times and stream.codec.canonical_name in MARKED_CODECS
        self._wanted = wanted if knows_references else None
        self._skips_frames = self._wanted is not None
        self._begin(None)

    def frame_at(self, mark: int) -> "VideoFrame | None":
        """Returns the last frame at or before `mark`, or None. Marks must not decrease."""
        keys = self._table.key_marks[: bisect_right(self._table.key_marks, mark)][-1:]
        if self._seeks and self._shown is not None and keys and (key := keys[0]) > self._shown[0]:
            self._container.seek(key, stream=self._stream)
            self._skips_frames = True
            self._begin(key)
        while self._shown is None or self._shown[0] < mark:
            following = self._ahead or next(self._frames, None)
            self._ahead = None
            if following is None:
                break
            if self._sought is not None and following[0] < self._sought:
                continue  # refers to frames before the key frame
            if self._is_doubtful(*following):
                return None
            self._sought = None
            if following[0] > mark and self._shown is not None:
                self._ahead = following
                break
            self._shown = following
        if self._shown is None or (self._skips_frames and self._shown[0] != mark):
            return None
        return self._shown[1]

    def _is_doubtful(self, mark: int, frame: "VideoFrame") -> bool:
        """Whether decoding everything might give another picture.

        Decoders conceal damage with earlier frames. A seek may miss (MPEG-TS), and a frame that the
        container calls a key frame may depend on earlier ones (intra refresh).
        """
        is_elsewhere = self._sought is not None and (mark != self._sought or not frame.key_frame)
        return is_elsewhere or (self._skips_frames and frame.is_corrupt)

    def _begin(self, sought: int | None) -> None:
        self._frames = _decode_with_marks(self._container, self._stream, self._table, self._wanted)
        self._sought: int | None = sought
        self._shown: tuple[int, VideoFrame] | None = None
        self._ahead: tuple[int, VideoFrame] | None = None


def _decode_with_marks(
    container: "InputContainer",
    stream: "VideoStream",
    table: FrameTable,
    wanted: frozenset[int] | None,
) -> Iterator[tuple[int, "VideoFrame"]]:
    """Decodes from the current position; yields each frame with its mark."""
    for number, frame in enumerate(_decode_packets(container, stream, wanted)):
        if not table.has_times:
            yield number, frame
        elif frame.pts is not None:
            yield frame.pts, frame


def _decode_packets(
    container: "InputContainer", stream: "VideoStream", wanted: frozenset[int] | None
) -> Iterator["VideoFrame"]:
    """Decodes from the current position; skips unreferenced frames that are not `wanted`."""
    for packet in container.demux(stream):
        if wanted is not None:  # decoder threads read the setting packet by packet
            is_wanted = packet.pts is None or packet.pts in wanted
            stream.codec_context.skip_frame = "DEFAULT" if is_wanted else "NONREF"
        yield from packet.decode()
