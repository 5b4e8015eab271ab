"""Unusual images and videos, made byte by byte; none is stored as a file."""

import io
import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from PIL import Image as PIL


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *, rows: int = 1, chunks: bytes = b"", form: int = 2) -> bytes:
    """Returns a PNG whose header and data need not agree."""
    channels = {0: 1, 2: 3, 6: 4}[form]
    data = zlib.compress((b"\0" + bytes(channels * width)) * rows)
    header = struct.pack(">IIBBBBB", width, height, 8, form, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunks + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )  # fmt: skip


def gif(frames: int) -> bytes:
    """Returns a GIF of so many frames of one pixel."""
    header = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\xff\x00\x00\x00\x00\x00"
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return header + frame * frames + b";"


def video(
    *,
    codec: str = "libx264",
    form: str = "mp4",
    size: tuple[int, int] = (64, 48),
    frames: int = 4,
    rate: float | Fraction = 4,
    marks: Sequence[int] | None = None,
    pixels: str = "yuv420p",
    **options: str,
) -> bytes:
    """Return a small video of a counted number of frames, at `marks` of 1 / rate seconds."""
    out, tick = io.BytesIO(), 1 / Fraction(rate)
    with av.open(out, mode="w", format=form) as container:
        stream = container.add_stream(codec, rate=Fraction(rate), options=options)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.codec_context.time_base = tick
        for number, mark in enumerate(marks or range(frames)):
            frame = av.VideoFrame.from_ndarray(
                np.full((size[1], size[0], 3), 20 * number % 256, np.uint8), format="rgb24"
            ).reformat(format=pixels)
            frame.pts, frame.time_base = mark, tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return out.getvalue()


def sound() -> bytes:
    """Returns an mp4 without a video stream."""
    out = io.BytesIO()
    with av.open(out, mode="w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        for number in range(4):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.rate, frame.pts = 16000, number * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return out.getvalue()


def growing() -> bytes:
    """Returns a video whose frame size changes halfway."""
    out, mark = io.BytesIO(), 0
    with av.open(out, mode="w", format="matroska") as container:
        stream = container.add_stream("mjpeg", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for width, height in ((64, 48), (320, 240)):
            encoder = av.CodecContext.create("mjpeg", "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
            encoder.time_base = Fraction(1, 4)
            for _ in range(2):
                frame = av.VideoFrame(width, height, "yuvj420p")
                frame.pts, frame.time_base, mark = mark, Fraction(1, 4), mark + 1
                for packet in encoder.encode(frame):
                    packet.stream = stream
                    container.mux(packet)
    return out.getvalue()


def turned(data: bytes) -> bytes:
    """Returns an mp4 with a rotation of 90 degrees in its metadata."""
    quarter = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    place = data.index(b"tkhd") + 4 + 40
    return data[:place] + quarter + data[place + 36 :]


def forged(data: bytes, name: bytes, offset: int, value: int) -> bytes:
    """Returns a file with a 32-bit number of a box overwritten."""
    place = data.index(name) + 4 + offset
    return data[:place] + struct.pack(">I", value) + data[place + 4 :]


def flipped(data: bytes, seed: int, *, count: int = 20) -> bytes:
    """Returns a file with some bytes changed."""
    rng, changed = np.random.default_rng(seed), bytearray(data)
    for place in rng.integers(0, len(data), count):
        changed[place] ^= int(rng.integers(1, 256))
    return bytes(changed)


def noise(width: int = 64, height: int = 64) -> PIL.Image:
    """Returns an image that does not compress."""
    rng = np.random.default_rng(0)
    return PIL.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))
