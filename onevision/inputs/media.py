"""Paths, bytes and Pillow images -> RGB images and open video containers.

The only file that opens media. Formats are recognised by content, never by file name, and must be
on a list; sizes are checked in the header, before any pixel is decoded.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image, UnidentifiedImageError
from PIL.Image import Image as PillowImage

from onevision.errors import MediaError
from onevision.inputs.image_work import WorkLimits, check_image_work
from onevision.inputs.media_source import check_is_path, source_name
from onevision.inputs.png import has_all_rows
from onevision.inputs.upright import ImageSize, convert_to_rgb, upright_size
from onevision.inputs.video_work import VideoWorkLimits, check_video_work

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from onevision.conversation import ImageSource, VideoSource

IMAGE_FORMATS = (
    "AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP",
)  # fmt: skip
VIDEO_CODECS = frozenset(
    {"av1", "gif", "h263", "h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "theora",
     "vp8", "vp9", "wmv2"}
)  # fmt: skip
# Container format by (offset, magic bytes).
VIDEO_FORMATS = (
    (4, b"ftyp", "mov"),
    (4, b"moov", "mov"),
    (4, b"mdat", "mov"),
    (4, b"wide", "mov"),
    (4, b"free", "mov"),
    (0, b"\x1a\x45\xdf\xa3", "matroska"),
    (8, b"AVI ", "avi"),
    (0, b"GIF8", "gif"),
    (0, b"\x00\x00\x01\xba", "mpeg"),
    (188, b"\x47", "mpegts"),
    (0, b"OggS", "ogg"),
    (0, b"FLV", "flv"),
)


@dataclass(frozen=True, kw_only=True)
class MediaLimits:
    """Which formats are opened, and how large media may be. The defaults are for trusted files."""

    image_formats: tuple[str, ...] = IMAGE_FORMATS
    video_formats: frozenset[str] = frozenset(form for _, _, form in VIDEO_FORMATS)
    video_codecs: frozenset[str] = VIDEO_CODECS
    max_image_pixels: int = 120_000_000
    max_image_side: int = 1_000_000
    max_frame_pixels: int = 36_000_000
    max_video_frames: int = 10_000_000  # in the file, sampled or not
    max_video_seconds: float = inf
    video_timeout_seconds: float = 20.0
    # Whether to refuse a PNG that lacks rows: Pillow fills them with black.
    count_rows: bool = False
    # What the structure of encoded bytes may demand; None: whatever it does.
    image_work: WorkLimits | None = None
    video_work: VideoWorkLimits | None = None
    decoder_threads: int = 0  # 0: one per core


TRUSTED_LIMITS = MediaLimits()


def open_image(source: "ImageSource", *, limits: MediaLimits = TRUSTED_LIMITS) -> PillowImage:
    """Returns a picture as 8-bit RGB, upright by its EXIF orientation, with transparency on white.

    Of an animation, returns the first frame. Raises MediaError.
    """
    if isinstance(source, PillowImage):
        return convert_to_rgb(source, source_name(source))
    name = source_name(source)
    with _open_header(source, name, limits) as image:
        is_png = limits.count_rows and isinstance(source, bytes) and image.format == "PNG"
        if is_png and not has_all_rows(source):
            raise MediaError(f"{name}: the image ends before its last row; replace the file")
        try:
            image.load()
        except Exception as error:  # Pillow's decoders raise many kinds
            raise MediaError(
                f"{name}: the image is damaged or cut off ({_first_line(error)}); replace the file"
            ) from error
        return convert_to_rgb(image, name)


def image_size(source: "ImageSource", *, limits: MediaLimits = TRUSTED_LIMITS) -> ImageSize:
    """Returns the size that `open_image` would return, from the header alone. Raises MediaError."""
    if isinstance(source, PillowImage):
        return upright_size(source)
    with _open_header(source, source_name(source), limits) as image:
        return upright_size(image)


@contextmanager
def _open_header(
    source: "str | Path | bytes", name: str, limits: MediaLimits
) -> Iterator[PillowImage]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # we check pixels ourselves; broken EXIF is ignored
        if isinstance(source, bytes) and limits.image_work is not None:
            check_image_work(source, name=name, limits=limits.image_work)
        with _open(source, name, kind="image") as file:
            try:
                image = Image.open(file, formats=limits.image_formats)
            except (UnidentifiedImageError, Image.DecompressionBombError, OSError) as error:
                raise _open_error(file, error, name, limits) from error
            _check_pixels(image.width, image.height, limits.max_image_pixels, name)
            if max(image.size) > limits.max_image_side:
                raise MediaError(
                    f"{name}: {image.width} x {image.height} pixels; a side may have at most "
                    f"{limits.max_image_side:,}; scale it down",
                    fault="too_large",
                )
            yield image


@contextmanager
def open_video(
    source: "VideoSource", *, limits: MediaLimits = TRUSTED_LIMITS
) -> Iterator[tuple["InputContainer", "VideoStream"]]:
    """Opens a video file; yields the container and its first video stream that is no cover art.

    Raises MediaError if the bytes are not a video of a listed format and codec.
    """
    import av.logging  # imported late: images do not need it

    name = source_name(source)
    av.logging.set_level(None)
    with _open(source, name, kind="video") as file:
        form = _video_format(file, name, limits)
        if isinstance(source, bytes) and limits.video_work is not None:
            check_video_work(source, form=form, name=name, limits=limits.video_work)
        try:
            container = av.open(
                file,
                mode="r",
                format=form,
                options={
                    "format_whitelist": form,
                    "protocol_whitelist": "",
                    # For decoders that FFmpeg starts to probe streams; we check what PyAV decodes.
                    "codec_whitelist": ",".join(map(_decoder_names, sorted(limits.video_codecs))),
                },
                timeout=limits.video_timeout_seconds,
            )
        except (av.FFmpegError, OSError) as error:
            raise MediaError(
                f"{name}: the video cannot be read ({_first_line(error)}); "
                "it may be cut off or damaged"
            ) from error
        with container:
            yield container, _video_stream(container, name, limits)


@contextmanager
def translate_errors(name: str) -> Iterator[None]:
    """Raises a MediaError about `name` if FFmpeg fails to decode."""
    import av  # imported late: images do not need it

    try:
        yield
    except av.FFmpegError as error:
        raise MediaError(
            f"{name}: the video is damaged and cannot be decoded ({_first_line(error)}); "
            "replace the file, or set `end` to use the part before the damage"
        ) from error


@contextmanager
def _open(source: "ImageSource | VideoSource", name: str, *, kind: str) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        if not source:
            raise MediaError(f"the {kind} holds 0 bytes; expected an encoded {kind}", fault="empty")
        yield io.BytesIO(source)
        return
    if not isinstance(source, str | Path):
        raise MediaError(
            f"the {kind} source is {type(source).__name__}; expected a path, bytes, "
            + ("or a Pillow image" if kind == "image" else "or a list of Pillow images")
            + "; make an array an image with PIL.Image.fromarray",
            fault="source",
        )
    path = Path(source)
    check_is_path(str(source), name=name, kind=kind)
    try:
        if path.stat().st_size == 0:
            raise MediaError(
                f"{name}: the file is empty (0 bytes); expected an encoded {kind}", fault="empty"
            )
        file = path.open("rb")
    except FileNotFoundError as error:
        raise MediaError(
            f"{name}: no such file; check the path of the {kind}", fault="source"
        ) from error
    except (OSError, ValueError) as error:
        raise MediaError(
            f"{name}: the {kind} cannot be opened ({_first_line(error)})", fault="source"
        ) from error
    with file:
        yield file


def _open_error(file: BinaryIO, error: Exception, name: str, limits: MediaLimits) -> MediaError:
    if isinstance(error, Image.DecompressionBombError):
        return MediaError(
            f"{name}: the image is larger than {limits.max_image_pixels:,} pixels; scale it down",
            fault="too_large",
        )
    file.seek(0)
    head = file.read(16)
    if any((accepts := Image.OPEN[form][1]) and accepts(head) for form in limits.image_formats):
        return MediaError(f"{name}: the image's header is damaged or cut off; replace the file")
    return MediaError(
        f"{name}: not an image; expected one of {', '.join(limits.image_formats)}",
        fault="format",
    )


def check_frame(frame: "VideoFrame", *, name: str, limits: MediaLimits) -> None:
    """Refuses a frame that is larger than its container declared. Raises MediaError."""
    _check_pixels(frame.width, frame.height, limits.max_frame_pixels, name)


def _check_pixels(width: int, height: int, most: int, name: str) -> None:
    if width * height > most:
        raise MediaError(
            f"{name}: {width} x {height} pixels exceed the limit of {most:,}; scale it down",
            fault="too_large",
        )


def _video_format(file: BinaryIO, name: str, limits: MediaLimits) -> str:
    head = file.read(192)
    file.seek(0)
    for offset, magic, form in VIDEO_FORMATS:
        if form in limits.video_formats and head[offset : offset + len(magic)] == magic:
            return form
    raise MediaError(
        f"{name}: not a video; expected a file of {', '.join(sorted(limits.video_formats))}",
        fault="format",
    )


def _decoder_names(codec: str) -> str:
    """Returns the decoders of a codec, in the form of FFmpeg's `codec_whitelist`."""
    return "libdav1d,av1" if codec == "av1" else codec


def _video_stream(container: "InputContainer", name: str, limits: MediaLimits) -> "VideoStream":
    streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
    if not streams:
        raise MediaError(
            f"{name}: no video stream (audio only?); expected a video", fault="no_stream"
        )
    stream = streams[0]
    codec = stream.codec.canonical_name
    if codec not in limits.video_codecs:
        raise MediaError(
            f"{name}: the codec {codec!r} is not supported; convert the video to H.264 or VP9",
            fault="codec",
        )
    context = stream.codec_context
    context.thread_count = limits.decoder_threads
    _check_pixels(context.width, context.height, limits.max_frame_pixels, name)
    return stream


def _first_line(error: Exception) -> str:
    """Returns the first line of a library's message, without object addresses."""
    text = str(getattr(error, "strerror", None) or error).splitlines()
    return (text[0] if text else type(error).__name__).split(" <")[0][:100]
