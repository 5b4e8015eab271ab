"""How much memory does a run need, by how it holds its weights, and is that what its plan says?

    python -m benchmarks.held_memory              adapters over full, int8 and int4 weights

A checkpoint with random weights in bf16 is written: the blocks of Qwen2-0.5B (0.36 B numbers) with
a vocabulary of 8,192 and a small vision encoder. Each way then trains on it for one step in fp32,
in a process of its own, which samples its anonymous memory as benchmarks/sharded.py does. `start`
lasts until the first step, `end` begins after the last. `planned` is what `--plan` says of the same
stage. Prints a line of JSON for each way. It measures memory, so other work beside it does not
matter.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.sharded import CONFIG, GIB, FirstStep, MemorySampler
from onevision.checkpoint.hub import BUNDLED
from onevision.checkpoint.save import save
from onevision.inputs.processor import Processor
from onevision.inputs.tokenizer import Tokenizer
from onevision.known_models import ARCHITECTURES
from onevision.model.llava import LlavaNetwork
from onevision.train.config import TrainConfig, make_run_options
from onevision.train.cost.amounts import count_families
from onevision.train.cost.devices import get_device_kind
from onevision.train.cost.plan import plan_training
from onevision.train.objectives.objective import Objective, RunContext
from onevision.train.objectives.table import make_objective
from onevision.train.report.journal import Callbacks
from onevision.train.run import run_stage
from onevision.train.stage import Stage
from onevision.train.start import Starts

WIDE = replace(
    ARCHITECTURES["0.5b"].language, vocab_size=8192, max_positions=2048, tie_embeddings=True
)
MODEL = replace(CONFIG, language=WIDE)
STAGE = Stage(
    name="tuned", trainable=("projector", "language_model"), vision_learning_rate=None,
    learning_rate=1e-4, families={"scenes": 1.0}, num_samples=1, max_questions=1, global_batch=1,
    max_tokens=384, resolution="one_crop",
)  # fmt: skip
# Of every way, and by way.
COMMON = ("device=cpu", "precision=fp32", "num_workers=0", "save_steps=1000000")
ADAPTERS = ("lora_rank=16", "lora_targets=language")
WAYS = {
    "lora": ADAPTERS,
    "qlora, 8 bits": (*ADAPTERS, "lora_base=int8"),
    "qlora, 4 bits": (*ADAPTERS, "lora_base=int4"),
}


def settings(way: str) -> TrainConfig:
    """Returns what a way is told."""
    return TrainConfig(stage=STAGE, target=MODEL, options=make_run_options([*COMMON, *WAYS[way]]))


def train(directory: Path, way: str) -> None:
    """Runs the stage; prints the peaks of each phase, in GiB."""
    torch.set_num_threads(1)
    sampler = MemorySampler()

    def make(context: RunContext) -> Objective:
        objective = make_objective(context)
        return replace(objective, feed=FirstStep(objective.feed, sampler))

    def enter(line: dict[str, object]) -> None:
        if line["step"] == line["num_steps"]:
            sampler.phase = "end"

    run_stage(
        settings(way),
        tokenizer=Tokenizer.from_directory(BUNDLED["tiny"]),
        starts=Starts(previous=(directory / "model",)),
        output=directory / way,
        make_objective=make,
        callbacks=Callbacks(on_step=enter),
    )
    print(json.dumps({phase: round(peak / GIB, 2) for phase, peak in sampler.peaks.items()}))


def planned(way: str) -> dict[str, float]:
    """Returns what the plan says of the same phases, in GiB."""
    config = settings(way)
    processor = Processor(MODEL.inputs, Tokenizer.from_directory(BUNDLED["tiny"]))
    plan = plan_training(
        STAGE,
        MODEL,
        count_families(STAGE, processor, rows_each=4),
        kind=get_device_kind("cpu"),
        num_devices=1,
        recompute=config.options.recompute,
        lora=config.options.lora,
        offload=config.options.offload,
        precision=config.options.precision,
    )
    phases = {"start": plan.ends.start, "steps": plan.memory.total, "end": plan.ends.end}
    return {phase: round(peak / GIB, 2) for phase, peak in phases.items()}


def main() -> None:
    """Measures every way, or trains in one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.directory is not None:
        train(given.directory, given.ways[0])
        return
    with tempfile.TemporaryDirectory() as name:
        torch.manual_seed(1)
        tokenizer = Tokenizer.from_directory(BUNDLED["tiny"])
        save(LlavaNetwork(MODEL), MODEL, tokenizer, Path(name) / "model", dtype=torch.bfloat16)
        for way in given.ways:
            command = [sys.executable, "-m", "benchmarks.held_memory", "--directory", name]
            done = subprocess.run(
                [*command, "--ways", way], check=True, stdout=subprocess.PIPE, text=True
            )
            measured = json.loads(done.stdout.splitlines()[-1])
            print(
                json.dumps({"way": way, "measured_gib": measured, "planned_gib": planned(way)}),
                flush=True,
            )


if __name__ == "__main__":
    main()
