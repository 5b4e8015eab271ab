"""The snapshots of a run as it goes: written in a thread, one after the other, if asked to be.

    step 100   copy                  training waits for this alone
               write, in a thread    steps 101, 102, ... continue
    step 103   finish                all processes have written: the snapshot gets its name

The copy lies in this process's memory, on a GPU in pinned host memory, and is kept for the next
snapshot. A snapshot that is due while one is being written waits for it.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from onevision.accelerate.pools import compute_alone
from onevision.errors import TrainingError
from onevision.train.guard import describe_resumption
from onevision.train.options import RunOptions
from onevision.train.saving.draft import Draft, Shard
from onevision.train.saving.place import Place
from onevision.train.snapshots import State, prune
from onevision.train.state import draft_snapshot
from onevision.train.trainer import Trainer


class SnapshotSaver:
    """Writes the snapshots of a run; every process has one, and calls it at the same steps."""

    def __init__(
        self, trainer: Trainer, place: Place, *, content: State, output: Path,
        warn: Callable[[str], object],
    ) -> None:  # fmt: skip
        """`content` is as in `draft_snapshot`; `output` is named in messages."""
        self.trainer, self.place, self.content = trainer, place, content
        self.output, self.warn = output, warn
        self.options: RunOptions = trainer.options
        self._draft: Draft | None = None
        self._thread: threading.Thread | None = None
        self._copies: dict[str, Tensor] = {}

    @property
    def in_background(self) -> bool:
        """Whether training continues while a snapshot is written."""
        chosen = self.options.save_async
        return self.trainer.processes.device.type == "cuda" if chosen is None else chosen

    @property
    def signals(self) -> tuple[float, float]:
        """Whether this process is still writing, and whether it could not; to be summed."""
        writing = self._thread is not None and self._thread.is_alive()
        failed = self._draft is not None and self._draft.problem is not None
        return float(writing), float(failed)

    def save(self) -> None:
        """Writes a snapshot, or copies one and begins to write it.

        Raises TrainingError if it, or the one before, could not be written and the run is strict.
        """
        self.finish()
        draft, shards = draft_snapshot(self.trainer, self.place, content=self.content)
        self._draft = draft
        self._attempt(draft.begin)
        if self._draft is None:
            return
        if not self.in_background:
            draft.write(shards)
            self.finish()
            return
        self._thread = threading.Thread(
            target=_write_alone, args=(draft, self._copy(shards)), name="snapshot", daemon=True
        )
        self._thread.start()

    def settle(self, writing: float, failed: float) -> None:
        """Finishes a snapshot that all have written; takes the sums of all `signals`.

        Raises TrainingError as `save` does.
        """
        if self._draft is not None and (failed or not writing):
            self.finish()

    def finish(self) -> None:
        """Waits until the snapshot on its way is whole. Raises TrainingError as `save` does."""
        self.join()
        if self._draft is not None:
            self._attempt(self._draft.finish)
            self._draft = None

    def join(self) -> None:
        """Waits for this process's thread alone: a run that ends leaves no writer behind."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _attempt(self, act: Callable[[], Place | None]) -> None:
        """Begins or finishes the draft; a failure ends the run, or is warned of."""
        assert self._draft is not None
        step = self._draft.step
        try:
            newest = act()
        except OSError as error:
            self._draft = None
            problem = f"{self.output}: step {step} could not be saved ({error});"
            advice = "make room" if isinstance(self.place, Path) else "look at the store"
            if self.options.save_strict:
                raise TrainingError(
                    f"{problem} {advice}, then start it again: {describe_resumption(self.place)}"
                ) from error
            self.warn(f"{problem} training continues and the next save tries again; {advice}")
            return
        if newest is None or self.trainer.processes.rank:
            return
        try:
            prune(self.place, keep=self.options.keep, newest=newest)
        except OSError as error:
            self.warn(f"{self.place}: old snapshots cannot be deleted ({error})")

    def _copy(self, shards: Mapping[str, Shard]) -> dict[str, Shard]:
        """Copies every tensor into memory that is kept from snapshot to snapshot."""
        copied: dict[str, Shard] = {}
        on_gpu = False
        for name, shard in shards.items():
            rows = shard.rows.detach()
            held = self._copies.get(name)
            if held is None:
                held = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=rows.is_cuda)
                self._copies[name] = held
            held.copy_(rows, non_blocking=True)
            on_gpu |= rows.is_cuda
            copied[name] = replace(shard, rows=held)
        if on_gpu:
            torch.cuda.synchronize(self.trainer.processes.device)
        return copied


def _write_alone(draft: Draft, shards: Mapping[str, Shard]) -> None:
    compute_alone()  # beside training
    draft.write(shards)
