"""The inside of a sandbox: a process that gives up files, sockets and memory, then decodes.

It reads what it is asked from a pipe: JSON messages, and media as bytes; it answers in JSON and
crops. `sandbox.py` is the other end.
"""

import codecs
import io
import json
import os
import resource
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import av
import torch
from PIL import Image as Pillow
from torch import Tensor

from onevision.anyres import CropLayout, VideoLayout
from onevision.config import Triple
from onevision.conversation import Video
from onevision.errors import MediaError
from onevision.inputs.image import cut_crops, cut_frames
from onevision.inputs.media import MediaLimits, image_size, open_image
from onevision.inputs.video import FrameChoice, choose_frames

# What is opened for strangers: formats with well-tested decoders alone.
STRANGERS = MediaLimits(
    image_formats=("BMP", "GIF", "JPEG", "PNG", "WEBP"),
    video_formats=frozenset({"avi", "matroska", "mov"}),
    video_codecs=frozenset({"av1", "h264", "hevc", "mjpeg", "mpeg4", "vp8", "vp9"}),
    max_image_pixels=40_000_000,
    max_image_side=16_384,
    max_frame_pixels=4096 * 2304,
    max_video_frames=18_000,
    max_video_seconds=600.0,
    count_rows=True,
    decoder_threads=2,
)
Message = dict[str, Any]  # Any: JSON, checked where it is read


@dataclass(frozen=True)
class Frames:
    """A video as a list of encoded images, all of them seen."""

    images: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True)
class SandboxSettings:
    """How many workers there are, and what each may use."""

    num_workers: int = 2
    limits: MediaLimits = STRANGERS
    memory_bytes: int = 1536 * 2**20  # on top of what a worker has when it starts
    image_seconds: float = 10.0  # to decode the images of a request
    video_seconds: float = 20.0  # to decode each video
    max_jobs: int = 256  # of a worker, before it is replaced


def work(pipe: Connection, settings: SandboxSettings) -> None:
    """Serve sessions until nobody asks any more."""
    torch.set_num_threads(1)
    confine(settings.memory_bytes)
    tell(pipe, {})
    limits = replace(settings.limits, video_timeout_seconds=settings.video_seconds)
    with suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            _allow_cpu(2 * (settings.image_seconds + 2 * settings.video_seconds))
            _serve(pipe, limits)


def confine(memory_bytes: int) -> None:
    """Give up, for this process and for good, to open files and sockets, and memory beyond.

    What is already open stays so. Decoders are loaded first, since loading them takes files.
    """
    Pillow.init()
    for name in ("ascii", "latin-1", "utf-8", "utf-16", "utf-16-le", "utf-16-be", "unicode_escape"):
        codecs.lookup(name)
    _decode_a_clip()
    os.environ.clear()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    size = _address_space()
    if size is not None:
        resource.setrlimit(resource.RLIMIT_AS, (size + memory_bytes,) * 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def _allow_cpu(seconds: float) -> None:
    """Die after so many more seconds of all threads together; deadlines are kept from outside."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))


def _decode_a_clip() -> None:
    """Make PyAV load what it loads late."""
    clip = io.BytesIO()
    with av.open(clip, mode="w", format="avi") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuvj420p"
        container.mux(stream.encode(av.VideoFrame(16, 16, "yuvj420p")))
        container.mux(stream.encode())
    list(choose_frames(Video(clip.getvalue())).frames())


def _address_space() -> int | None:
    """Return the bytes of this process's address space; None where the system does not tell."""
    table = Path("/proc/self/statm")
    if not table.exists():
        return None
    return int(table.read_text().split()[0]) * resource.getpagesize()


def tell(pipe: Connection, message: Message) -> None:
    """Send a message."""
    pipe.send_bytes(json.dumps(message).encode())


def hear(pipe: Connection) -> Message:
    """Receive a message. Raises TypeError, ValueError for what is none."""
    message = json.loads(pipe.recv_bytes())
    if not isinstance(message, dict):
        raise TypeError("not a message")
    return message


@dataclass
class _Held:
    """A medium whose header has been read."""

    source: bytes | Frames | FrameChoice
    limits: MediaLimits = field(repr=False)

    @property
    def fact(self) -> Message:
        match self.source:
            case Frames(images=images):
                for image in images:
                    image_size(image, limits=self.limits)
                return {"frames": len(images)}
            case FrameChoice(indices=indices, seconds=seconds):
                return {"frames": len(indices), "seconds": seconds}
            case _:
                return asdict(image_size(self.source, limits=self.limits))

    def crops(self, layout: Message, mean: Triple) -> Tensor:
        match self.source:
            case Frames(images=images):
                frames = (open_image(image, limits=self.limits) for image in images)
                return cut_frames(frames, VideoLayout(**layout), image_mean=mean)
            case FrameChoice():
                return cut_frames(self.source.frames(), VideoLayout(**layout), image_mean=mean)
            case _:
                picture = open_image(self.source, limits=self.limits)
                return cut_crops(picture, CropLayout(**layout), image_mean=mean)


def _serve(pipe: Connection, limits: MediaLimits) -> None:
    """Read the headers of some media, then cut their crops; end early where either fails."""
    held = list[_Held]()
    for _ in range(hear(pipe).get("count", 0)):
        order = hear(pipe)
        blobs = tuple(pipe.recv_bytes() for _ in range(order.get("count", 1) if order else 0))
        answer = _answer(lambda o=order, b=blobs: _look(o, b, limits, held))
        tell(pipe, answer)
        if "fault" in answer:
            hear(pipe)
            return
    order = hear(pipe) if held else {}
    for medium, layout in zip(held, order.get("layouts", ()), strict=False):
        crops = list[Tensor]()
        answer = _answer(lambda m=medium, la=layout: _cut(m, la, order["mean"], crops))  # noqa: B023
        tell(pipe, answer)
        if "fault" in answer:
            break
        pipe.send_bytes(crops[0].numpy().data.cast("B"))
    if order:
        hear(pipe)


def _look(
    order: Message, blobs: tuple[bytes, ...], limits: MediaLimits, held: list[_Held]
) -> Message:
    kind = order.pop("kind")
    if kind == "video":
        held.append(_Held(choose_frames(Video(blobs[0], **order), limits=limits), limits))
    else:
        held.append(_Held(Frames(blobs) if kind == "frames" else blobs[0], limits))
    return held[-1].fact


def _cut(medium: _Held, layout: Message, mean: Triple, crops: list[Tensor]) -> Message:
    crops.append(medium.crops(layout, mean))
    return {}


def _answer(act: Callable[[], Message]) -> Message:
    """Return what an act gives, or what is wrong with a medium."""
    try:
        return act()
    except MediaError as error:
        return {"fault": error.fault, "message": str(error)}
    except MemoryError:
        return {"fault": "too_large", "message": "decoding it takes more memory than allowed"}
    except Exception:  # noqa: BLE001 decoders raise many kinds; none may end the worker
        return {"fault": "damaged", "message": "the file is damaged"}
