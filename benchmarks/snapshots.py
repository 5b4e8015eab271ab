"""How long does training wait for its snapshots, written by itself or by a thread?

    python -m benchmarks.snapshots         0.49 GiB of weights, six steps, two snapshots (1 min)

Trains a projector before a language model of random weights in this process, on a CPU, and saves
after the third step and the sixth. Prints a line of JSON for each way: the seconds that training
waited for each snapshot (copying, writing, finishing, waiting for the thread after the last step),
the median seconds of a step, and the size of a snapshot.
"""

import json
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch

from benchmarks.sharded import CONFIG, GIB, STAGE
from onevision.checkpoint.hub import BUNDLED
from onevision.inputs.tokenizer import Tokenizer
from onevision.train.config import TrainConfig
from onevision.train.options import RunOptions
from onevision.train.report.journal import Callbacks
from onevision.train.run import run_stage
from onevision.train.saving.saver import SnapshotSaver
from onevision.train.snapshots import snapshots
from onevision.train.start import Starts

NUM_STEPS, SAVE_STEPS = 6, 3
# What training calls; `save` calls `finish`, so that is counted once.
WAITS = ("save", "settle", "finish")


class Stopwatch:
    """Adds up the time spent in the outermost of some calls, by the step that training is at."""

    def __init__(self) -> None:
        self.seconds: dict[int, float] = {}
        self.depth = 0

    def around(self, method: Callable[..., None]) -> Callable[..., None]:
        """Returns the method, timed."""

        def timed(saver: SnapshotSaver, *given: float) -> None:
            self.depth += 1
            began = time.monotonic()
            try:
                method(saver, *given)
            finally:
                self.depth -= 1
                if not self.depth:
                    step = saver.trainer.progress.step
                    spent = time.monotonic() - began
                    self.seconds[step] = self.seconds.get(step, 0.0) + spent

        return timed


def measure(*, in_background: bool) -> dict[str, object]:
    """Trains once."""
    watch, steps = Stopwatch(), list[float]()
    options = RunOptions(
        precision="fp32", save_steps=SAVE_STEPS, save_async=in_background, num_workers=0
    )
    stage = replace(STAGE, num_samples=NUM_STEPS * STAGE.global_batch)
    with tempfile.TemporaryDirectory() as name, ExitStack() as held:
        for method in WAITS:
            timed = watch.around(getattr(SnapshotSaver, method))
            held.enter_context(patch.object(SnapshotSaver, method, timed))
        run_stage(
            TrainConfig(stage=stage, target=CONFIG, options=options),
            tokenizer=Tokenizer.from_directory(BUNDLED["tiny"]),
            starts=Starts(),
            output=Path(name),
            callbacks=Callbacks(on_step=lambda line: steps.append(float(line["seconds"]))),
        )
        files = snapshots(Path(name))[-1].glob("*")
        size = sum(path.stat().st_size for path in files)
    return {
        "in_background": in_background,
        "waited_seconds": {s: round(t, 3) for s, t in watch.seconds.items() if t > 0.001},
        "step_seconds": round(median(steps), 3),
        "snapshot_gib": round(size / GIB, 3),
    }


def main() -> None:
    """Measures both ways."""
    torch.set_num_threads(1)
    for in_background in (False, True):
        print(json.dumps(measure(in_background=in_background)), flush=True)


if __name__ == "__main__":
    main()
