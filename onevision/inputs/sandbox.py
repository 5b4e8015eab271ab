"""Media that nobody trusts -> their sizes, then their crops, from workers that may be killed.

    ours                                   a worker, which can open no file and no socket
    media, as bytes            ->          headers read, frames chosen
    how they are laid out      <-  sizes
                               ->          pixels decoded, crops cut
    crops uint8 [N, 3, H, W]   <-

A worker holds bytes, decodes and answers; it has a memory limit, and is killed when its time is up
and replaced after a number of jobs. A decoder that crashes costs the one request it worked for.
What a worker says is numbers in JSON and bytes of a known length, never pickles.
"""

import codecs
import io
import json
import multiprocessing as mp
import os
import queue
import resource
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from onevision.anyres import CropLayout, Layout, VideoLayout
from onevision.config import Triple
from onevision.conversation import Image, Video
from onevision.errors import MediaError
from onevision.inputs.image import cut_crops, squash_frames
from onevision.inputs.media import ImageSize, MediaLimits, image_size, open_image
from onevision.inputs.processor import MediaFact, NumFrames
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


# Images and videos whose sources are bytes.
StrangeMedia = Image | Video | Frames


@dataclass(frozen=True, kw_only=True)
class SandboxSettings:
    """How many workers there are, and what each may use."""

    num_workers: int = 2
    limits: MediaLimits = STRANGERS
    memory_bytes: int = 1536 * 2**20  # on top of what a worker has when it starts
    image_seconds: float = 10.0  # to decode the images of a request
    video_seconds: float = 20.0  # to decode each video
    max_jobs: int = 256  # of a worker, before it is replaced


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    pipe: Connection
    num_jobs: int = 0
    is_ready: bool = False
    is_lost: bool = False

    def wait(self) -> bool:
        """Wait until it is confined; return whether it lives. Its start takes nobody's time."""
        if not self.is_ready:
            with suppress(EOFError, OSError):
                _hear(self.pipe)
                self.is_ready = True
        return self.is_ready and self.process.is_alive()

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


class Session:
    """A worker that reads the headers of some media, and then waits for their layouts."""

    def __init__(self, worker: _Worker, media: Sequence[StrangeMedia], seconds: float) -> None:
        self._worker, self._pipe, self._seconds = worker, worker.pipe, seconds
        self._place = 0 if len(media) == 1 else None
        self._late = threading.Event()
        self._timer = threading.Timer(seconds, self._kill)
        self._timer.start()
        try:
            with self._talking():
                self.facts = _ask(self._pipe, media)  # in the order of the media
        except BaseException:
            self.end()
            raise

    @property
    def process_id(self) -> int | None:
        """The worker's."""
        return self._worker.process.pid

    def cut(self, layouts: Sequence[Layout], *, image_mean: Triple) -> Tensor:
        """Return the crops of all media, uint8 [N, 3, H, W]. Raises MediaError."""
        size = layouts[0].crop_size
        counts = [la.num_crops for la in layouts]
        crops = np.empty((sum(counts), 3, size, size), np.uint8)
        with self._talking():
            _tell(self._pipe, {"layouts": [asdict(la) for la in layouts], "mean": image_mean})
            begin = 0
            for place, count in enumerate(counts):
                _check(_hear(self._pipe), place=place)
                part = crops[begin : begin + count].data.cast("B")
                if self._pipe.recv_bytes_into(part) != part.nbytes:
                    raise ValueError("too few bytes")
                begin += count
        return torch.from_numpy(crops)

    def end(self) -> None:
        """Need the worker no longer."""
        self._timer.cancel()
        self._worker.is_lost |= self._late.is_set()

    def _kill(self) -> None:
        self._late.set()
        self._worker.process.kill()

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """Turn the silence of a worker that has died, and nonsense, into a MediaError."""
        try:
            yield
        except (EOFError, OSError, mp.ProcessError, ValueError, KeyError, TypeError) as error:
            self._worker.is_lost = True
            if self._late.is_set():
                raise MediaError(
                    f"decoding took more than {self._seconds:g} s; give a smaller file",
                    fault="too_slow",
                    place=self._place,
                ) from error
            raise MediaError(
                "a decoder gave up on it; encode it anew", fault="crashed", place=self._place
            ) from error


class Sandbox:
    """A pool of workers. All methods may be called from any thread."""

    def __init__(self, settings: SandboxSettings | None = None) -> None:
        self.settings = settings or SandboxSettings()
        self.num_restarts = 0  # of workers that died or were killed
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        self._context = mp.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])
        self._closed = False
        for _ in range(self.settings.num_workers):
            self._idle.put(self._start())

    @property
    def process_ids(self) -> list[int]:
        """The workers that have nothing to do."""
        return [w.process.pid for w in list(self._idle.queue) if w.process.pid is not None]

    def close(self) -> None:
        """Kill the workers."""
        self._closed = True
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().end()

    @contextmanager
    def session(self, media: Sequence[StrangeMedia]) -> Iterator[Session]:
        """Lend a worker that has read the headers of `media`, whose sources are bytes.

        Raises MediaError, with the `place` of the medium that is at fault where it is known.
        """
        worker = self._take()
        videos = sum(not isinstance(medium, Image) for medium in media)
        seconds = self.settings.image_seconds + videos * self.settings.video_seconds
        try:
            session = Session(worker, media, seconds)
            try:
                yield session
            finally:
                session.end()
        finally:
            self._give_back(worker)

    def _take(self) -> _Worker:
        worker = self._idle.get()
        if not worker.wait():
            self.num_restarts += 1
            worker.end()
            worker = self._start()
            worker.wait()
        return worker

    def _give_back(self, worker: _Worker) -> None:
        worker.num_jobs += 1
        if not (worker.is_lost or self._closed or worker.num_jobs >= self.settings.max_jobs):
            with suppress(OSError):
                _tell(worker.pipe, {})  # whatever it waits for will not come
            self._idle.put(worker)
            return
        self.num_restarts += worker.is_lost
        worker.end()
        if not self._closed:
            self._idle.put(self._start())

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        arguments = (theirs, self.settings)
        process = self._context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        theirs.close()
        return _Worker(process=process, pipe=ours)


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


def _tell(pipe: Connection, message: Message) -> None:
    pipe.send_bytes(json.dumps(message).encode())


def _hear(pipe: Connection) -> Message:
    message = json.loads(pipe.recv_bytes())
    if not isinstance(message, dict):
        raise TypeError("not a message")
    return message


def _check(answer: Message, *, place: int) -> Message:
    """Raise what a worker found wrong."""
    if "fault" in answer:
        raise MediaError(str(answer["message"])[:400], fault=answer["fault"], place=place)
    return answer


def _ask(pipe: Connection, media: Sequence[StrangeMedia]) -> tuple[MediaFact, ...]:
    """Hand media over; return what must be known to lay them out."""
    _tell(pipe, {"count": len(media)})
    facts = list[MediaFact]()
    for place, medium in enumerate(media):
        match medium:
            case Frames():
                _tell(pipe, {"kind": "frames", "count": len(medium.images)})
                sources = medium.images
            case Video():
                _tell(pipe, {"kind": "video", "num_frames": medium.num_frames, "fps": medium.fps,
                             "start": medium.start, "end": medium.end})  # fmt: skip
                sources = (medium.source,)
            case Image():
                _tell(pipe, {"kind": "image"})
                sources = (medium.source,)
        for source in sources:
            assert isinstance(source, bytes), "what nobody trusts comes as bytes"
            pipe.send_bytes(source)
        facts.append(_fact(_check(_hear(pipe), place=place)))
    return tuple(facts)


def _fact(answer: Message) -> MediaFact:
    numbers = [int(value) for value in answer.values()]
    if min(numbers) < 1:
        raise ValueError("a size below 1")
    if "frames" in answer:
        return NumFrames(int(answer["frames"]))
    return ImageSize(width=int(answer["width"]), height=int(answer["height"]))


# What follows runs in a worker.


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
            case FrameChoice(indices=indices):
                return {"frames": len(indices)}
            case _:
                return asdict(image_size(self.source, limits=self.limits))

    def crops(self, layout: Message, mean: Triple) -> Tensor:
        match self.source:
            case Frames(images=images):
                frames = (open_image(image, limits=self.limits) for image in images)
                return squash_frames(frames, VideoLayout(**layout))
            case FrameChoice():
                return squash_frames(self.source.frames(), VideoLayout(**layout))
            case _:
                picture = open_image(self.source, limits=self.limits)
                return cut_crops(picture, CropLayout(**layout), image_mean=mean)


def _work(pipe: Connection, settings: SandboxSettings) -> None:
    """Serve sessions until nobody asks any more."""
    torch.set_num_threads(1)
    confine(settings.memory_bytes)
    _tell(pipe, {})
    limits = replace(settings.limits, video_timeout_seconds=settings.video_seconds)
    with suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            _serve(pipe, limits)


def _serve(pipe: Connection, limits: MediaLimits) -> None:
    """Read the headers of some media, then cut their crops; end early where either fails."""
    held = list[_Held]()
    for _ in range(_hear(pipe).get("count", 0)):
        order = _hear(pipe)
        blobs = tuple(pipe.recv_bytes() for _ in range(order.get("count", 1) if order else 0))
        answer = _answer(lambda o=order, b=blobs: _look(o, b, limits, held))
        _tell(pipe, answer)
        if "fault" in answer:
            _hear(pipe)
            return
    order = _hear(pipe) if held else {}
    for medium, layout in zip(held, order.get("layouts", ()), strict=False):
        crops = list[Tensor]()
        answer = _answer(lambda m=medium, la=layout: _cut(m, la, order["mean"], crops))  # noqa: B023
        _tell(pipe, answer)
        if "fault" in answer:
            break
        pipe.send_bytes(crops[0].numpy().data.cast("B"))
    if order:
        _hear(pipe)


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
