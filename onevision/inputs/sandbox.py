"""Untrusted media -> sessions with sandboxed workers, and what the sandbox is worth here.

Each worker can only compute, has a memory limit, is killed at a deadline, and is replaced after a
fixed number of jobs.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from onevision.conversation import Image
from onevision.errors import DecodersBusyError, SandboxError
from onevision.inputs.sandbox_pool import WorkerPool
from onevision.inputs.sandbox_probe import Confinement, list_possible, prepare_directory
from onevision.inputs.sandbox_session import Cancellation, Session, UntrustedMedia
from onevision.inputs.sandbox_worker import SandboxSettings, receive_message, send_message

logger = logging.getLogger(__name__)
PROBE_SECONDS = 10.0  # that the self-test may take


class Sandbox:
    """Sandboxed workers for many requests. All methods are safe to call from any thread."""

    def __init__(self, settings: SandboxSettings | None = None) -> None:
        """Starts the workers in the background.

        Raises SandboxError if `require_sandbox` is set and a worker could do a forbidden act.
        """
        self.settings = settings or SandboxSettings()
        self._pool = WorkerPool(self.settings)
        if self.settings.require_sandbox:
            try:
                self._require_confinement()
            except BaseException:
                self.close()
                raise

    @property
    def size(self) -> int:
        """How many requests can have their media decoded at a time."""
        return self.settings.num_workers

    @property
    def alive(self) -> int:
        """How many of `size` workers serve or can serve; fewer than `size` if some cannot start."""
        return self._pool.num_alive

    @property
    def waiting(self) -> int:
        """How many requests wait for a worker."""
        return self._pool.num_waiting

    @property
    def num_restarts(self) -> int:
        """How many workers died or were killed."""
        return self._pool.num_restarts

    @property
    def process_ids(self) -> list[int]:
        """Process ids of the idle workers."""
        return self._pool.idle_process_ids

    def close(self) -> None:
        """Kills all workers."""
        self._pool.close()

    @contextmanager
    def session(
        self,
        media: Sequence[UntrustedMedia],
        *,
        cancellation: Cancellation | None = None,
        sizes_frames: bool = False,
    ) -> Iterator[Session]:
        """Yields a session with a worker that has read the headers of `media`.

        With `sizes_frames` it has also decoded a frame of each video, to tell their size. The
        worker is killed and replaced if the request is cancelled through `cancellation`.

        Raises MediaError, with the `place` of the medium at fault if it is known, and
        DecodersBusyError if no worker becomes free within `wait_seconds`.
        """
        videos = sum(not isinstance(medium, Image) for medium in media)
        session = Session(
            self._pool,
            media,
            seconds=self.settings.image_seconds + videos * self.settings.video_seconds,
            cancellation=cancellation or Cancellation(),
            sizes_frames=sizes_frames,
        )
        try:
            yield session
        finally:
            session.end()

    def probe(self) -> Confinement:
        """Lets a worker try what it must not be able to do.

        Raises SandboxError if that cannot be tried, and DecodersBusyError.
        """
        try:
            directory = prepare_directory()
        except OSError as error:
            raise SandboxError(
                f"the confinement of the media decoders cannot be tested ({error}); "
                "set TMPDIR to a directory that can be written"
            ) from error
        with directory as place:
            worker = self._pool.acquire(lambda: False)
            assert worker is not None, "nothing cancels this"
            try:
                send_message(worker.pipe, {"forbidden": place})
                answer = receive_message(worker.pipe) if worker.pipe.poll(PROBE_SECONDS) else {}
                possible = list_possible(answer["outcomes"])
            except (EOFError, OSError, ValueError, KeyError, TypeError) as error:
                raise SandboxError("a media decoder ended in its self-test") from error
            finally:
                worker.num_jobs = self.settings.max_jobs  # replaced: it may have made files
                self._pool.release(worker)
        return Confinement(
            held=tuple(worker.layers["held"]),
            missing=tuple(worker.layers["refused"]),
            possible=possible,
            num_acts=len(answer["outcomes"]),
        )

    def log_confinement(self) -> None:
        """Logs in one line what the confinement is worth here: a warning if an act is possible."""
        try:
            confinement = self.probe()
        except (SandboxError, DecodersBusyError) as error:
            logger.warning("media decoders: the self-test was not possible: %s", error)
            return
        level = logging.WARNING if confinement.possible else logging.INFO
        logger.log(level, "media decoders: %s", confinement.line)

    def _require_confinement(self) -> None:
        confinement = self.probe()
        if confinement.possible:
            raise SandboxError(
                f"the media decoders cannot be confined here: {confinement.line}; use a kernel and "
                "container that allow seccomp and Landlock, or start without require_sandbox"
            )
