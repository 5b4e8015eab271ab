"""One request's media -> their facts and crops, by messages to a worker.

    this process                           worker (can only compute: `confinement.py`)
    media, as bytes            ->          reads headers, chooses frames
    layouts                    <-  sizes
                               ->          decodes pixels, cuts crops
    crops uint8 [N, 3, H, W]   <-

A decoder that crashes fails the request. A worker that something else killed (an operator, or the
kernel when memory runs out) costs its request a second try. Answers are numbers in JSON and bytes
of a known length, never pickles.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import ProcessError
from multiprocessing.connection import Connection
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from onevision.anyres import Layout
from onevision.config import Triple
from onevision.conversation import Image, Video
from onevision.errors import DecodersBusyError, MediaError
from onevision.inputs.frame_times import NumFrames
from onevision.inputs.processor import MediaFact
from onevision.inputs.sandbox_pool import Worker, WorkerPool
from onevision.inputs.sandbox_worker import (
    EncodedFrames,
    PipeMessage,
    receive_message,
    send_message,
    to_message,
)
from onevision.inputs.upright import ImageSize

# Their sources are bytes.
UntrustedMedia = Image | Video | EncodedFrames
Value = TypeVar("Value")
SETTLE_SECONDS = 0.1  # until the end of others that were killed at the same time can be noticed


class Cancellation:
    """Cancels a request from any thread by killing the worker that decodes its media."""

    def __init__(self) -> None:
        self.is_cancelled = False
        self._lock = threading.Lock()
        self._worker: Worker | None = None

    def cancel(self) -> None:
        """Cancels the request, now and for workers it has not reached yet."""
        with self._lock:
            self.is_cancelled = True
            if self._worker is not None:
                self._worker.kill()

    def watch(self, worker: Worker | None) -> None:
        """Kills `worker` if the request is cancelled until another is watched, or was before."""
        with self._lock:
            self._worker = worker
            if self.is_cancelled and worker is not None:
                worker.kill()


class _WorkerKilledError(Exception):
    """A worker that was killed, neither by us nor by the medium."""


class Session:
    """One request's conversation with a worker: media headers first, then crops."""

    def __init__(
        self,
        pool: WorkerPool,
        media: Sequence[UntrustedMedia],
        *,
        seconds: float,
        cancellation: Cancellation,
        sizes_frames: bool = False,
    ) -> None:
        self._pool, self._media, self._seconds = pool, media, seconds
        self._sizes_frames = sizes_frames
        self._cancellation = cancellation
        self._place = 0 if len(media) == 1 else None
        self._worker: Worker | None = None
        self._may_retry = True
        try:
            self.facts = self._retry(self._open)  # in the order of the media
        except BaseException:
            self.end()
            raise

    @property
    def process_id(self) -> int | None:
        """The worker's process id."""
        return None if self._worker is None else self._worker.process_id

    def cut(self, layouts: Sequence[Layout], *, image_mean: Triple) -> Tensor:
        """Returns the crops of all media, uint8 [N, 3, H, W]. Raises MediaError."""
        return self._retry(lambda: self._cut(layouts, image_mean))

    def end(self) -> None:
        """Gives the worker back; it is replaced if it was killed."""
        if self._worker is not None:
            with suppress(OSError):
                send_message(self._worker.pipe, {})  # ends the session in the worker
            self._give_back(self._worker)

    def _retry(self, act: Callable[[], Value]) -> Value:
        """Does `act`, a second time if something else killed the worker."""
        try:
            return act()
        except _WorkerKilledError:
            self._may_retry = False
            time.sleep(SETTLE_SECONDS)
            return act()

    def _open(self) -> tuple[MediaFact, ...]:
        """Takes a worker and lets it read the headers."""
        worker = self._pool.acquire(lambda: self._cancellation.is_cancelled)
        if worker is None:
            raise MediaError("the request was cancelled", fault="crashed")
        self._worker, self._late = worker, threading.Event()
        self._timer = threading.Timer(self._seconds, self._kill_late, [worker, self._late])
        self._cancellation.watch(worker)
        try:
            self._timer.start()
        except RuntimeError as error:  # no thread can be started
            raise DecodersBusyError(
                f"no media can be decoded now ({error}); retry later"
            ) from error
        with self._translating_errors(worker):
            return _send_media(worker.pipe, self._media, sizes_frames=self._sizes_frames)

    def _cut(self, layouts: Sequence[Layout], image_mean: Triple) -> Tensor:
        if self._worker is None:
            self._open()
        worker = self._worker
        assert worker is not None, "_open sets it, or raises"
        size = layouts[0].crop_size
        counts = [la.num_crops for la in layouts]
        crops = np.empty((sum(counts), 3, size, size), np.uint8)
        with self._translating_errors(worker):
            send_message(
                worker.pipe, {"layouts": [to_message(la) for la in layouts], "mean": image_mean}
            )
            begin = 0
            for place, count in enumerate(counts):
                _raise_fault(receive_message(worker.pipe), place=place)
                part = crops[begin : begin + count].data.cast("B")
                if worker.pipe.recv_bytes_into(part) != part.nbytes:
                    raise ValueError("too few bytes")
                begin += count
        return torch.from_numpy(crops)

    @staticmethod
    def _kill_late(worker: Worker, late: threading.Event) -> None:
        late.set()
        worker.kill()

    def _give_back(self, worker: Worker) -> int | None:
        """Stops the deadline and returns the worker; returns its wait status if it has ended."""
        self._worker = None
        self._cancellation.watch(None)
        self._timer.cancel()
        if self._timer.ident is not None:
            self._timer.join()  # a kill that comes late must not hit the next request
        worker.is_lost |= worker.is_killed
        return self._pool.release(worker)

    @contextmanager
    def _translating_errors(self, worker: Worker) -> Iterator[None]:
        """Raises a MediaError if the worker dies or its answer makes no sense."""
        try:
            yield
        except (EOFError, OSError, ProcessError, ValueError, KeyError, TypeError) as error:
            worker.is_lost = True
            was_killed, late = worker.is_killed, self._late.is_set()
            status = self._give_back(worker)
            if late:
                raise MediaError(
                    f"decoding took more than {self._seconds:g} s; use a smaller file",
                    fault="too_slow",
                    place=self._place,
                ) from error
            by_others = isinstance(error, EOFError | OSError) and not was_killed
            if self._may_retry and by_others and _is_kill(status):
                raise _WorkerKilledError from error
            raise MediaError(
                "the decoder crashed on this file; re-encode it", fault="crashed", place=self._place
            ) from error


def _is_kill(status: int | None) -> bool:
    """Whether a worker ended by SIGKILL, or together with its parent (no status)."""
    return status is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL)


def _raise_fault(answer: PipeMessage, *, place: int) -> PipeMessage:
    """Raises a MediaError if the worker reports a fault; returns its answer otherwise."""
    if "fault" in answer:
        raise MediaError(str(answer["message"])[:400], fault=answer["fault"], place=place)
    return answer


def _send_media(
    pipe: Connection, media: Sequence[UntrustedMedia], *, sizes_frames: bool
) -> tuple[MediaFact, ...]:
    """Sends media to a worker; returns what must be known to lay them out."""
    send_message(pipe, {"count": len(media), "sizes_frames": sizes_frames})
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
                        "sampler": medium.sampler,
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
        seconds, size, numbers, duration = map(
            answer.get, ("seconds", "size", "numbers", "duration")
        )
        count = _parse_size(answer["frames"])
        if any(each is not None and len(each) != count for each in (seconds, numbers)):
            raise ValueError("the number of times differs from the number of frames")
        return NumFrames(
            count,
            None if seconds is None else tuple(map(float, seconds)),
            None if size is None else _parse_image_size(size),
            None if numbers is None else tuple(_parse_size(number + 1) - 1 for number in numbers),
            None if duration is None else float(duration),
        )
    return _parse_image_size(answer)


def _parse_image_size(answer: PipeMessage) -> ImageSize:
    return ImageSize(width=_parse_size(answer["width"]), height=_parse_size(answer["height"]))


def _parse_size(value: object) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError("not a positive whole number")
    return value
