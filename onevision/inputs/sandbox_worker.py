"""Media bytes from a pipe -> sizes and crops: the worker process of the sandbox.

The worker first gives up all rights but computing (`confinement.py`), then decodes. It reads JSON
messages and media bytes, and answers with JSON and crops; `sandbox.py` is the other end of the
pipe.
"""

import codecs
import io
import json
import resource
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import av
import torch
from PIL import Image as Pillow
from torch import Tensor

from onevision.anyres import CropLayout, Layout, VideoLayout
from onevision.config import Triple
from onevision.conversation import Video
from onevision.errors import MediaError
from onevision.inputs.confinement import confine
from onevision.inputs.image import cut_crops, cut_frames
from onevision.inputs.image_work import WorkLimits
from onevision.inputs.media import MediaLimits, image_size, open_image
from onevision.inputs.sandbox_probe import try_forbidden_acts
from onevision.inputs.video import FrameChoice, choose_frames
from onevision.inputs.video_work import VideoWorkLimits
from onevision.native import NativeLayout

# Untrusted media: only formats and codecs with well-tested decoders.
UNTRUSTED_LIMITS = MediaLimits(
    image_formats=("BMP", "GIF", "JPEG", "PNG", "WEBP"),
    video_formats=frozenset({"avi", "matroska", "mov"}),
    video_codecs=frozenset({"av1", "h264", "hevc", "mjpeg", "mpeg4", "vp8", "vp9"}),
    max_image_pixels=40_000_000,
    max_image_side=16_384,
    max_frame_pixels=4096 * 2304,
    max_video_frames=18_000,
    max_video_seconds=600.0,
    count_rows=True,
    image_work=WorkLimits(),
    video_work=VideoWorkLimits(),
    decoder_threads=2,
)
PipeMessage = dict[str, Any]  # Any: JSON, checked where it is read


@dataclass(frozen=True)
class EncodedFrames:
    """A video given as a list of encoded images; every one is a frame that the model sees."""

    images: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True)
class SandboxSettings:
    """How many workers the sandbox has, and what each may use."""

    num_workers: int = 2
    limits: MediaLimits = UNTRUSTED_LIMITS
    memory_bytes: int = 1536 * 2**20  # on top of what a worker has when it starts
    image_seconds: float = 10.0  # for all images of a request
    video_seconds: float = 20.0  # per video
    max_jobs: int = 256  # per worker, before it is replaced
    num_spare: int = 1  # more workers that are ready, for when one is killed
    wait_seconds: float = 60.0  # for a worker to become free; then DecodersBusyError
    start_seconds: float = 120.0  # for the first worker to load its decoders
    # Refuse to start unless a worker's self-test finds that every forbidden act fails.
    require_sandbox: bool = False


def load_decoders() -> None:
    """Loads what decoding loads lazily, since a confined process cannot."""
    torch.set_num_threads(1)
    Pillow.init()
    for name in ("ascii", "latin-1", "utf-8", "utf-16", "utf-16-le", "utf-16-be", "unicode_escape"):
        codecs.lookup(name)
    _decode_a_clip()


def run_worker(pipe: Connection, settings: SandboxSettings) -> None:
    """Confines this process, then serves sessions until the pipe is closed."""
    send_message(pipe, asdict(confine(settings.memory_bytes)))
    limits = replace(settings.limits, video_timeout_seconds=settings.video_seconds)
    with suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            _limit_cpu(2 * (settings.image_seconds + 2 * settings.video_seconds))
            _serve_session(pipe, limits)


def _limit_cpu(seconds: float) -> None:
    """Lets the kernel kill this process after `seconds` more of CPU time, over all threads.

    A second line of defence: the parent enforces the deadline by the clock.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))


def _decode_a_clip() -> None:
    """Makes PyAV load everything that it loads lazily."""
    clip = io.BytesIO()
    with av.open(clip, mode="w", format="avi") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuvj420p"
        container.mux(stream.encode(av.VideoFrame(16, 16, "yuvj420p")))
        container.mux(stream.encode())
    list(choose_frames(Video(clip.getvalue())).frames())


def send_message(pipe: Connection, message: PipeMessage) -> None:
    """Sends a JSON message."""
    pipe.send_bytes(json.dumps(message).encode())


def receive_message(pipe: Connection) -> PipeMessage:
    """Receives a JSON message. Raises TypeError or ValueError if it is not a JSON object."""
    message = json.loads(pipe.recv_bytes())
    if not isinstance(message, dict):
        raise TypeError("the message is not a JSON object")
    return message


@dataclass
class _OpenedMedia:
    """An image or video whose header has been read."""

    source: bytes | EncodedFrames | FrameChoice
    limits: MediaLimits = field(repr=False)

    def fact(self, *, sizes_frames: bool) -> PipeMessage:
        """Returns what the parent must know to lay it out: a size, or a number of frames.

        With `sizes_frames`, the size of frames too, for which one is decoded.
        """
        match self.source:
            case EncodedFrames(images=images):
                sizes = [asdict(image_size(image, limits=self.limits)) for image in images]
                return {"frames": len(images), "size": sizes[0] if sizes_frames else None}
            case FrameChoice():
                told = asdict(self.source.fact(sizes_frames=sizes_frames))
                return {"frames": told.pop("count")} | told
            case _:
                return asdict(image_size(self.source, limits=self.limits))

    def cut(self, message: PipeMessage, mean: Triple) -> Tensor:
        """Decodes the pixels and cuts them: uint8 [N, 3, H, W]."""
        layout = _read_layout(message)
        if isinstance(self.source, bytes):
            assert not isinstance(layout, VideoLayout), "a picture has no frames"
            picture = open_image(self.source, limits=self.limits)
            return cut_crops(picture, layout, image_mean=mean)
        assert not isinstance(layout, CropLayout), "a video has frames"
        match self.source:
            case EncodedFrames(images=images):
                frames = (open_image(image, limits=self.limits) for image in images)
                return cut_frames(frames, layout, image_mean=mean)
            case FrameChoice():
                return cut_frames(self.source.frames(), layout, image_mean=mean)


LAYOUTS = {cls.__name__: cls for cls in (CropLayout, VideoLayout, NativeLayout)}


def to_message(layout: Layout) -> PipeMessage:
    """Returns a layout as a JSON object, its kind included."""
    return {"kind": type(layout).__name__} | asdict(layout)


def _read_layout(message: PipeMessage) -> Layout:
    fields = dict(message)
    return LAYOUTS[fields.pop("kind")](**fields)


def _serve_session(pipe: Connection, limits: MediaLimits) -> None:
    """Reads the headers of a request's media, then cuts their crops; stops at the first fault."""
    opened = list[_OpenedMedia]()
    request = receive_message(pipe)
    if "forbidden" in request:
        send_message(pipe, {"outcomes": try_forbidden_acts(request["forbidden"])})
        return
    for _ in range(request.get("count", 0)):
        order = receive_message(pipe)
        blobs = tuple(pipe.recv_bytes() for _ in range(order.get("count", 1) if order else 0))
        act = partial(_open, order, blobs, limits, opened, sizes_frames=request["sizes_frames"])
        answer = _report_faults(act)
        send_message(pipe, answer)
        if "fault" in answer:
            receive_message(pipe)
            return
    order = receive_message(pipe) if opened else {}
    for medium, layout in zip(opened, order.get("layouts", ()), strict=False):
        crops = list[Tensor]()

        def cut(medium: _OpenedMedia = medium, layout: PipeMessage = layout) -> PipeMessage:
            crops.append(medium.cut(layout, order["mean"]))  # noqa: B023 called at once
            return {}

        answer = _report_faults(cut)
        send_message(pipe, answer)
        if "fault" in answer:
            break
        pipe.send_bytes(crops[0].numpy().data.cast("B"))
    if order:
        receive_message(pipe)


def _open(
    order: PipeMessage,
    blobs: tuple[bytes, ...],
    limits: MediaLimits,
    opened: list[_OpenedMedia],
    *,
    sizes_frames: bool,
) -> PipeMessage:
    kind = order.pop("kind")
    if kind == "video":
        source = choose_frames(Video(blobs[0], **order), limits=limits)
    else:
        source = EncodedFrames(blobs) if kind == "frames" else blobs[0]
    opened.append(_OpenedMedia(source, limits))
    return opened[-1].fact(sizes_frames=sizes_frames)


def _report_faults(act: Callable[[], PipeMessage]) -> PipeMessage:
    """Returns the result of `act`, or a message that says what is wrong with the medium."""
    try:
        return act()
    except MediaError as error:
        return {"fault": error.fault, "message": str(error)}
    except MemoryError:
        return {"fault": "too_large", "message": "decoding it takes more memory than allowed"}
    except Exception:  # noqa: BLE001 decoders raise many kinds; none may end the worker
        return {"fault": "damaged", "message": "the file is damaged"}
