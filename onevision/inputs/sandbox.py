"""Untrusted media -> their sizes, then their crops, decoded in sandboxed worker processes.

    this process                           worker (can open neither files nor sockets)
    media, as bytes            ->          reads headers, chooses frames
    layouts                    <-  sizes
                               ->          decodes pixels, cuts crops
    crops uint8 [N, 3, H, W]   <-

Each worker has a memory limit, is killed at a deadline, and is replaced after a fixed number of
jobs. A decoder that crashes fails only the request it was working on. Workers answer with numbers
in JSON and bytes of a known length, never with pickles.
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
from onevision.errors import DecodersBusyError, MediaError
from onevision.inputs.processor import MediaFact, NumFrames
from onevision.inputs.sandbox_worker import (
    EncodedFrames,
    PipeMessage,
    SandboxSettings,
    receive_message,
    run_worker,
    send_message,
)
from onevision.inputs.upright import ImageSize

# Their sources are bytes.
UntrustedMedia = Image | Video | EncodedFrames


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    pipe: Connection
    num_jobs: int = 0
    is_ready: bool = False
    is_lost: bool = False

    def wait_until_ready(self) -> bool:
        """Waits until the worker is confined; returns whether it is alive.

        A request's deadline starts afterwards, so a slow start does not count against it.
        """
        if not self.is_ready:
            with suppress(EOFError, OSError):
                receive_message(self.pipe)
                self.is_ready = True
        return self.is_ready and self.process.is_alive()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


class Cancellation:
    """Cancels a request from any thread by killing the worker that decodes its media."""

    def __init__(self) -> None:
        self.is_cancelled = False
        self._lock = threading.Lock()
        self._process: BaseProcess | None = None

    def cancel(self) -> None:
        """Cancels the request, now and for workers it has not reached yet."""
        with self._lock:
            self.is_cancelled = True
            if self._process is not None:
                self._process.kill()

    @contextmanager
    def kill_on_cancel(self, process: BaseProcess) -> Iterator[None]:
        """Kills `process` if the request is cancelled while the context is open, or was before."""
        with self._lock:
            self._process = process
            if self.is_cancelled:
                process.kill()
        try:
            yield
        finally:
            with self._lock:
                self._process = None


class Session:
    """One request's conversation with a worker: media headers first, then crops."""

    def __init__(self, worker: _Worker, media: Sequence[UntrustedMedia], seconds: float) -> None:
        self._worker, self._pipe, self._seconds = worker, worker.pipe, seconds
        self._place = 0 if len(media) == 1 else None
        self._late = threading.Event()
        self._timer = threading.Timer(seconds, self._kill)
        self._timer.start()
        try:
            with self._translating_errors():
                self.facts = _send_media(self._pipe, media)  # in the order of the media
        except BaseException:
            self.end()
            raise

    @property
    def process_id(self) -> int | None:
        """The worker's process id."""
        return self._worker.process.pid

    def cut(self, layouts: Sequence[Layout], *, image_mean: Triple) -> Tensor:
        """Returns the crops of all media, uint8 [N, 3, H, W]. Raises MediaError."""
        size = layouts[0].crop_size
        counts = [la.num_crops for la in layouts]
        crops = np.empty((sum(counts), 3, size, size), np.uint8)
        with self._translating_errors():
            send_message(
                self._pipe, {"layouts": [asdict(la) for la in layouts], "mean": image_mean}
            )
            begin = 0
            for place, count in enumerate(counts):
                _raise_fault(receive_message(self._pipe), place=place)
                part = crops[begin : begin + count].data.cast("B")
                if self._pipe.recv_bytes_into(part) != part.nbytes:
                    raise ValueError("too few bytes")
                begin += count
        return torch.from_numpy(crops)

    def end(self) -> None:
        """Stops the deadline; the worker is no longer needed."""
        self._timer.cancel()
        self._worker.is_lost |= self._late.is_set()

    def _kill(self) -> None:
        self._late.set()
        self._worker.process.kill()

    @contextmanager
    def _translating_errors(self) -> Iterator[None]:
        """Raises a MediaError if the worker dies or its answer makes no sense."""
        try:
            yield
        except (EOFError, OSError, mp.ProcessError, ValueError, KeyError, TypeError) as error:
            self._worker.is_lost = True
            if self._late.is_set():
                raise MediaError(
                    f"decoding took more than {self._seconds:g} s; use a smaller file",
                    fault="too_slow",
                    place=self._place,
                ) from error
            raise MediaError(
                "the decoder crashed on this file; re-encode it", fault="crashed", place=self._place
            ) from error


class Sandbox:
    """A pool of sandboxed workers. All methods are safe to call from any thread."""

    def __init__(self, settings: SandboxSettings | None = None) -> None:
        self.settings = settings or SandboxSettings()
        self.num_restarts = 0  # of workers that died or were killed
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        self._context = mp.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])
        self._closed = False
        self._num_waiting = 0
        self._num_alive = self.settings.num_workers
        for _ in range(self.settings.num_workers):
            self._idle.put(self._start())

    @property
    def size(self) -> int:
        """How many workers there should be."""
        return self.settings.num_workers

    @property
    def alive(self) -> int:
        """How many workers can serve or are serving a request; below `size`, some cannot start."""
        return self._num_alive

    @property
    def waiting(self) -> int:
        """How many requests wait for a worker."""
        return self._num_waiting

    @property
    def process_ids(self) -> list[int]:
        """Process ids of the idle workers."""
        return [w.process.pid for w in list(self._idle.queue) if w.process.pid is not None]

    def close(self) -> None:
        """Kills all idle workers; busy ones are killed when their request ends."""
        self._closed = True
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().kill()

    @contextmanager
    def session(
        self, media: Sequence[UntrustedMedia], *, cancellation: Cancellation | None = None
    ) -> Iterator[Session]:
        """Yields a session with a worker that has read the headers of `media`.

        The worker is killed and replaced if the request is cancelled through `cancellation`.

        Raises MediaError, with the `place` of the medium at fault if it is known, and
        DecodersBusyError if no worker becomes free within `wait_seconds`.
        """
        worker = self._acquire()
        videos = sum(not isinstance(medium, Image) for medium in media)
        seconds = self.settings.image_seconds + videos * self.settings.video_seconds
        try:
            with (cancellation or Cancellation()).kill_on_cancel(worker.process):
                session = Session(worker, media, seconds)
                try:
                    yield session
                finally:
                    session.end()
        finally:
            self._release(worker)

    def _acquire(self) -> _Worker:
        self._num_waiting += 1
        try:
            worker = self._idle.get(timeout=self.settings.wait_seconds)
        except queue.Empty:
            raise DecodersBusyError(
                f"no media decoder became free within {self.settings.wait_seconds:g} s; retry later"
            ) from None
        finally:
            self._num_waiting -= 1
        if not worker.wait_until_ready():
            self.num_restarts += 1
            worker.kill()
            worker = self._start()
            worker.wait_until_ready()
        return worker

    def _release(self, worker: _Worker) -> None:
        worker.num_jobs += 1
        if not (worker.is_lost or self._closed or worker.num_jobs >= self.settings.max_jobs):
            with suppress(OSError):
                send_message(worker.pipe, {})  # ends the session in the worker
            self._idle.put(worker)
            return
        self.num_restarts += worker.is_lost
        worker.kill()
        if not self._closed:
            self._idle.put(self._start())

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        arguments = (theirs, self.settings)
        process = self._context.Process(target=run_worker, args=arguments, daemon=True)
        process.start()
        theirs.close()
        return _Worker(process=process, pipe=ours)


def _raise_fault(answer: PipeMessage, *, place: int) -> PipeMessage:
    """Raises a MediaError if the worker reports a fault; returns its answer otherwise."""
    if "fault" in answer:
        raise MediaError(str(answer["message"])[:400], fault=answer["fault"], place=place)
    return answer


def _send_media(pipe: Connection, media: Sequence[UntrustedMedia]) -> tuple[MediaFact, ...]:
    """Sends media to a worker; returns what must be known to lay them out."""
    send_message(pipe, {"count": len(media)})
    facts = list[MediaFact]()
    for place, medium in enumerate(media):
        match medium:
            case EncodedFrames():
                send_message(pipe, {"kind": "frames", "count": len(medium.images)})
                sources = medium.images
            case Video():
                send_message(
                    pipe,
                    {
                        "kind": "video",
                        "num_frames": medium.num_frames,
                        "fps": medium.fps,
                        "start": medium.start,
                        "end": medium.end,
                    },
                )
                sources = (medium.source,)
            case Image():
                send_message(pipe, {"kind": "image"})
                sources = (medium.source,)
        for source in sources:
            assert isinstance(source, bytes), "untrusted media arrive as bytes"
            pipe.send_bytes(source)
        facts.append(_parse_fact(_raise_fault(receive_message(pipe), place=place)))
    return tuple(facts)


def _parse_fact(answer: PipeMessage) -> MediaFact:
    if "frames" in answer:
        seconds = answer.get("seconds")
        count = _parse_size(answer["frames"])
        if seconds is None:
            return NumFrames(count)
        if len(seconds) != count:
            raise ValueError("the number of times differs from the number of frames")
        return NumFrames(count, tuple(map(float, seconds)))
    return ImageSize(width=_parse_size(answer["width"]), height=_parse_size(answer["height"]))


def _parse_size(value: object) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError("not a positive whole number")
    return value
