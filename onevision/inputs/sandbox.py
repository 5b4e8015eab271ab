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

import multiprocessing as mp
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import numpy as np
import torch
from torch import Tensor

from onevision.anyres import Layout
from onevision.config import Triple
from onevision.conversation import Image, Video
from onevision.errors import MediaError
from onevision.inputs.confined import Frames, Message, SandboxSettings, hear, tell, work
from onevision.inputs.media import ImageSize
from onevision.inputs.processor import MediaFact, NumFrames

# Images and videos whose sources are bytes.
StrangeMedia = Image | Video | Frames


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
                hear(self.pipe)
                self.is_ready = True
        return self.is_ready and self.process.is_alive()

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


class Gone:
    """Says, from any thread, that nobody waits any more: a worker at work for them is killed."""

    def __init__(self) -> None:
        self.is_said = False
        self._lock = threading.Lock()
        self._process: BaseProcess | None = None

    def say(self) -> None:
        """Nobody waits."""
        with self._lock:
            self.is_said = True
            if self._process is not None:
                self._process.kill()

    @contextmanager
    def ends(self, process: BaseProcess) -> Iterator[None]:
        """Kill `process` where it is said before this ends."""
        with self._lock:
            self._process = process
            if self.is_said:
                process.kill()
        try:
            yield
        finally:
            with self._lock:
                self._process = None


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
            tell(self._pipe, {"layouts": [asdict(la) for la in layouts], "mean": image_mean})
            begin = 0
            for place, count in enumerate(counts):
                _check(hear(self._pipe), place=place)
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
    def session(
        self, media: Sequence[StrangeMedia], *, gone: Gone | None = None
    ) -> Iterator[Session]:
        """Lend a worker that has read the headers of `media`, whose sources are bytes.

        Where it is said that those who wait are `gone`, the worker is killed and replaced.

        Raises MediaError, with the `place` of the medium that is at fault where it is known.
        """
        worker = self._take()
        videos = sum(not isinstance(medium, Image) for medium in media)
        seconds = self.settings.image_seconds + videos * self.settings.video_seconds
        try:
            with (gone or Gone()).ends(worker.process):
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
                tell(worker.pipe, {})  # whatever it waits for will not come
            self._idle.put(worker)
            return
        self.num_restarts += worker.is_lost
        worker.end()
        if not self._closed:
            self._idle.put(self._start())

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        arguments = (theirs, self.settings)
        process = self._context.Process(target=work, args=arguments, daemon=True)
        process.start()
        theirs.close()
        return _Worker(process=process, pipe=ours)


def _check(answer: Message, *, place: int) -> Message:
    """Raise what a worker found wrong."""
    if "fault" in answer:
        raise MediaError(str(answer["message"])[:400], fault=answer["fault"], place=place)
    return answer


def _ask(pipe: Connection, media: Sequence[StrangeMedia]) -> tuple[MediaFact, ...]:
    """Hand media over; return what must be known to lay them out."""
    tell(pipe, {"count": len(media)})
    facts = list[MediaFact]()
    for place, medium in enumerate(media):
        match medium:
            case Frames():
                tell(pipe, {"kind": "frames", "count": len(medium.images)})
                sources = medium.images
            case Video():
                tell(pipe, {"kind": "video", "num_frames": medium.num_frames, "fps": medium.fps,
                             "start": medium.start, "end": medium.end})  # fmt: skip
                sources = (medium.source,)
            case Image():
                tell(pipe, {"kind": "image"})
                sources = (medium.source,)
        for source in sources:
            assert isinstance(source, bytes), "what nobody trusts comes as bytes"
            pipe.send_bytes(source)
        facts.append(_fact(_check(hear(pipe), place=place)))
    return tuple(facts)


def _fact(answer: Message) -> MediaFact:
    if "frames" in answer:
        seconds = answer.get("seconds")
        count = _size(answer["frames"])
        if seconds is None:
            return NumFrames(count)
        if len(seconds) != count:
            raise ValueError("a time for every frame, or for none")
        return NumFrames(count, tuple(map(float, seconds)))
    return ImageSize(width=_size(answer["width"]), height=_size(answer["height"]))


def _size(value: object) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError("no size")
    return value
