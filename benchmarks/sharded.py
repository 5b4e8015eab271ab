"""How much memory do the processes of a sharded run need: at its start, in its steps, at its end?

    python -m benchmarks.sharded                  two processes on gloo, 0.49 GiB of weights (1 min)
    python -m benchmarks.sharded --processes 4

A checkpoint with random weights in bf16 is written, and a stage that trains its projector runs four
steps on it with `sharing=shard`. Each process samples its anonymous memory (`RssAnon`, so without
pages mapped from files) every 2 ms, and subtracts what it had after its imports. `start` lasts
until the first step; `end` begins after the last, in the first process alone, which writes the
checkpoint. Prints a line of JSON.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from onevision.anyres import AnyRes, SingleCrop, VideoRule
from onevision.checkpoint.hub import BUNDLED
from onevision.checkpoint.save import save
from onevision.config import InputConfig, LanguageConfig, ModelConfig, VisionConfig
from onevision.inputs.tokenizer import Tokenizer
from onevision.model.llava import LlavaNetwork
from onevision.train.config import TrainConfig
from onevision.train.feed import Feed, MicroBatch
from onevision.train.objectives.objective import Objective, RunContext
from onevision.train.objectives.table import make_objective
from onevision.train.options import RunOptions
from onevision.train.parallel import leave_processes
from onevision.train.report.journal import Callbacks
from onevision.train.run import run_stage
from onevision.train.stage import Stage
from onevision.train.start import Starts

GIB, SAMPLE_SECONDS = 2**30, 0.002
CROP = {"crop_size": 56, "patch_size": 14}
CONFIG = ModelConfig(
    vision=VisionConfig(
        hidden_size=16, intermediate_size=30, num_layers=2, num_heads=2, image_size=56
    ),
    language=LanguageConfig(
        vocab_size=8192, hidden_size=1024, intermediate_size=4096, num_layers=8, num_heads=16,
        num_kv_heads=8, max_positions=2048,
    ),
    inputs=InputConfig(
        image=AnyRes(**CROP), multi_image=SingleCrop(**CROP), video=VideoRule(**CROP),
        image_token_id=3,
    ),
)  # fmt: skip
STAGE = Stage(
    name="align", trainable=("projector",), vision_learning_rate=None, learning_rate=1e-3,
    families={"scenes": 1.0}, num_samples=8, max_questions=1, global_batch=2, max_tokens=200,
    resolution="one_crop",
)  # fmt: skip


class MemorySampler:
    """Samples this process's anonymous memory in a thread, and keeps the peak of each phase."""

    def __init__(self) -> None:
        self.first, self.phase = anonymous_bytes(), "start"
        self.peaks: dict[str, int] = {}
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            phase = self.phase
            self.peaks[phase] = max(self.peaks.get(phase, 0), anonymous_bytes() - self.first)
            time.sleep(SAMPLE_SECONDS)


@dataclass(frozen=True)
class FirstStep:
    """A feed that says when the first step begins."""

    feed: Feed
    sampler: MemorySampler

    @property
    def num_steps(self) -> int:
        """As of the feed."""
        return self.feed.num_steps

    @property
    def sources(self) -> Sequence[str]:
        """As of the feed."""
        return self.feed.sources

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """As of the feed."""
        return self.feed.fingerprints

    def steps(self, first: int) -> Iterator[list[MicroBatch]]:
        """As of the feed."""
        self.sampler.phase = "steps"
        yield from self.feed.steps(first)


def anonymous_bytes() -> int:
    """Returns the anonymous memory of this process."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


def train(directory: Path) -> None:
    """Runs the stage as one of the processes; prints the peaks of each phase, in GiB."""
    torch.set_num_threads(1)
    sampler = MemorySampler()

    def make(context: RunContext) -> Objective:
        objective = make_objective(context)
        return replace(objective, feed=FirstStep(objective.feed, sampler))

    def enter(line: dict[str, object]) -> None:
        if line["step"] == line["num_steps"]:
            sampler.phase = "end"

    options = RunOptions(precision="fp32", sharing="shard", save_steps=10**6)
    run_stage(
        TrainConfig(stage=STAGE, target=CONFIG, options=options),
        tokenizer=Tokenizer.from_directory(BUNDLED["tiny"]),
        starts=Starts(previous=(directory / "model",)),
        output=directory / "run",
        make_objective=make,
        callbacks=Callbacks(on_step=enter),
    )
    leave_processes()
    rounded = {phase: round(peak / GIB, 3) for phase, peak in sampler.peaks.items()}
    print(json.dumps(rounded))


def measure(count: int) -> dict[str, object]:
    """Starts the processes and returns what each of them measured."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        torch.manual_seed(1)
        network, tokenizer = LlavaNetwork(CONFIG), Tokenizer.from_directory(BUNDLED["tiny"])
        weights = 4 * sum(p.numel() for p in network.parameters()) / GIB
        save(network, CONFIG, tokenizer, directory / "model", dtype=torch.bfloat16)
        del network
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        places = {"WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [sys.executable, __file__, "--directory", name]
        children = [
            subprocess.Popen(
                command, stdout=subprocess.PIPE, text=True,
                env=os.environ | {k: str(v) for k, v in (places | {"RANK": rank}).items()},
            )
            for rank in range(count)
        ]  # fmt: skip
        said = [child.communicate()[0] for child in children]
    peaks = [json.loads(text.splitlines()[-1]) for text in said]
    return {"weights_gib": round(weights, 3), "processes": count, "peaks_gib": peaks}


def main() -> None:
    """Measures, or trains as one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.directory is not None:
        train(given.directory)
    else:
        print(json.dumps(measure(given.processes)))


if __name__ == "__main__":
    main()
