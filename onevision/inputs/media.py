"""Opens images and videos: paths, bytes, Pillow images -> RGB images and video containers.

The only file that opens media. Formats are recognised by content, never by file name, and only
listed ones are opened; sizes are checked in the header, before any pixel exists.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError
from PIL.Image import Image as PillowImage

from onevision.errors import MediaError
from onevision.inputs.png import has_all_rows

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
    """What is opened at all, and how large it may be. The default is for files of one's own."""

    image_formats: tuple[str, ...] = IMAGE_FORMATS
    video_formats: frozenset[str] = frozenset(form for _, _, form in VIDEO_FORMATS)
    video_codecs: frozenset[str] = VIDEO_CODECS
    max_image_pixels: int = 120_000_000
    max_image_side: int = 1_000_000
    max_frame_pixels: int = 36_000_000
    max_video_frames: int = 10_000_000  # that the file holds, seen or not
    max_video_seconds: float = inf
    video_timeout_seconds: float = 20.0
    # Count the rows of a PNG before it is decoded: Pillow paints missing ones black.
    count_rows: bool = False
    decoder_threads: int = 0  # 0: as many as there are cores


OWN_FILES = MediaLimits()


def name_of(source: "ImageSource | VideoSource") -> str:
    """Return how messages call a source: its path, or what it is."""
    if isinstance(source, bytes):
        return f"{len(source)} bytes"
    if isinstance(source, str | Path):
        return str(source)
    return "image" if isinstance(source, PillowImage) else "list of frames"


def open_image(source: "ImageSource", *, limits: MediaLimits = OWN_FILES) -> PillowImage:
    """Return a picture as 8-bit RGB, upright, with transparency on white.

    The first frame of an animation is taken. Raises MediaError.
    """
    if isinstance(source, PillowImage):
        return _to_rgb(source, name_of(source))
    name = name_of(source)
    with _open_header(source, name, limits) as image:
        if limits.count_rows and isinstance(source, bytes) and image.format == "PNG":
            _check_rows(source, name)
        try:
            image.load()
        except Exception as error:  # Pillow's decoders raise many kinds
            raise MediaError(
                f"{name}: the image is damaged or cut off ({_short(error)}); replace the file"
            ) from error
        return _to_rgb(image, name)


@dataclass(frozen=True, kw_only=True)
class ImageSize:
    """How large a picture is, upright, in pixels."""

    width: int
    height: int


def image_size(source: "ImageSource", *, limits: MediaLimits = OWN_FILES) -> ImageSize:
    """Return the size that `open_image` would give, from the header alone. Raises MediaError."""
    if isinstance(source, PillowImage):
        return _upright_size(source)
    with _open_header(source, name_of(source), limits) as image:
        return _upright_size(image)


@contextmanager
def _open_header(
    source: "str | Path | bytes", name: str, limits: MediaLimits
) -> Iterator[PillowImage]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # our own pixel limit stands; broken EXIF is ignored
        with _open(source, name, kind="image") as file:
            try:
                image = Image.open(file, formats=limits.image_formats)
            except (UnidentifiedImageError, Image.DecompressionBombError, OSError) as error:
                raise _not_an_image(file, error, name, limits) from error
            _check_pixels(image.width, image.height, limits.max_image_pixels, name)
            _check_side(image.width, image.height, limits.max_image_side, name)
            yield image


def _upright_size(image: PillowImage) -> ImageSize:
    """Swap the sides where EXIF says the picture lies on its side, as `exif_transpose` does."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 a broken EXIF block must not cost the picture
        orientation = 1
    width, height = image.size
    if orientation in (5, 6, 7, 8):
        width, height = height, width
    return ImageSize(width=width, height=height)


@contextmanager
def open_video(
    source: "VideoSource", *, limits: MediaLimits = OWN_FILES
) -> Iterator[tuple["InputContainer", "VideoStream"]]:
    """Open a video file; gives the container and its first real video stream.

    Raises MediaError where the bytes are no video of a listed format and codec.
    """
    import av.logging  # here, since pictures do not need it

    name = name_of(source)
    av.logging.set_level(None)
    with _open(source, name, kind="video") as file:
        form = _video_format(file, name, limits)
        try:
            container = av.open(
                file,
                mode="r",
                format=form,
                options={
                    "format_whitelist": form,
                    "protocol_whitelist": "",
                    # What FFmpeg may start to look into streams. What PyAV decodes, we check.
                    "codec_whitelist": ",".join(map(_decoder, sorted(limits.video_codecs))),
                },
                timeout=limits.video_timeout_seconds,
            )
        except (av.FFmpegError, OSError) as error:
            raise MediaError(
                f"{name}: the video cannot be read ({_short(error)}); it may be cut off or damaged"
            ) from error
        with container:
            yield container, _video_stream(container, name, limits)


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turn a decoder's failure into a MediaError about `name`."""
    import av  # here, since pictures do not need it

    try:
        yield
    except av.FFmpegError as error:
        raise MediaError(
            f"{name}: the video is damaged and cannot be decoded ({_short(error)}); "
            "replace the file, or give `end` to use the part before the damage"
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
            + ("or a Pillow image" if kind == "image" else "or a list of Pillow images"),
            fault="source",
        )
    path = Path(source)
    if "://" in str(source):
        raise MediaError(
            f"{name}: addresses are not fetched; download the {kind} and give its path",
            fault="source",
        )
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
            f"{name}: the {kind} cannot be opened ({_short(error)})", fault="source"
        ) from error
    with file:
        yield file


def _not_an_image(file: BinaryIO, error: Exception, name: str, limits: MediaLimits) -> MediaError:
    if isinstance(error, Image.DecompressionBombError):
        return MediaError(
            f"{name}: the image is larger than {limits.max_image_pixels:,} pixels; scale it",
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
    """Refuse a frame that is larger than its container said. Raises MediaError."""
    _check_pixels(frame.width, frame.height, limits.max_frame_pixels, name)


def _check_pixels(width: int, height: int, most: int, name: str) -> None:
    if width * height > most:
        raise MediaError(
            f"{name}: {width} x {height} pixels are more than the {most:,} allowed; scale it down",
            fault="too_large",
        )


def _check_side(width: int, height: int, most: int, name: str) -> None:
    if max(width, height) > most:
        raise MediaError(
            f"{name}: {width} x {height} pixels; a side has at most {most:,}; scale it down",
            fault="too_large",
        )


def _check_rows(source: bytes, name: str) -> None:
    if not has_all_rows(source):
        raise MediaError(f"{name}: the image ends before its last row; replace the file")


def _to_rgb(image: PillowImage, name: str) -> PillowImage:
    with suppress(Exception):  # a broken EXIF block must not cost the picture
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _to_8_bit(image, name)
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None, "None is for conversions in place"
        image = converted
    if "transparency" in image.info or "A" in image.getbands() or "a" in image.getbands():
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bit(image: PillowImage, name: str) -> PillowImage:
    """Scale 16-bit grey to 8 bits; Pillow's own conversion would clip it."""
    if image.mode == "F":
        raise MediaError(
            f"{name}: floating-point pixels have no fixed range; save 8 or 16 bits", fault="mode"
        )
    low, high = image.convert("I").getextrema()
    assert isinstance(low, int | float) and isinstance(high, int | float)
    if low < 0 or high > 65535:
        raise MediaError(
            f"{name}: 32-bit pixels have no fixed range; save 8 or 16 bits", fault="mode"
        )
    if image.mode == "I" and high <= 255:
        return image.convert("L")
    return image.convert("I").point(lambda value: value * (1 / 257)).convert("L")


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


def _decoder(codec: str) -> str:
    """Return the names of the decoders of a codec, as FFmpeg lists them."""
    return "libdav1d,av1" if codec == "av1" else codec


def _video_stream(container: "InputContainer", name: str, limits: MediaLimits) -> "VideoStream":
    streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
    if not streams:
        raise MediaError(
            f"{name}: no video stream (sound only?); expected a video", fault="no_stream"
        )
    stream = streams[0]
    codec = stream.codec.canonical_name
    if codec not in limits.video_codecs:
        raise MediaError(
            f"{name}: videos of codec {codec!r} are not opened; convert it to H.264 or VP9",
            fault="codec",
        )
    context = stream.codec_context
    context.thread_count = limits.decoder_threads
    _check_pixels(context.width, context.height, limits.max_frame_pixels, name)
    return stream


def _short(error: Exception) -> str:
    """Return the first line of a library's message, without object addresses."""
    text = str(getattr(error, "strerror", None) or error).splitlines()
    return (text[0] if text else type(error).__name__).split(" <")[0][:100]
