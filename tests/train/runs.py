"""Short runs in processes of their own, which may be killed, and what they leave behind.

A process that has imported everything and trained nothing forks every run, so that none pays for
the imports again.
"""

import hashlib
import json
import multiprocessing as mp
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from onevision.anyres import AnyRes, SingleCrop, VideoRule
from onevision.checkpoint.hub import BUNDLED
from onevision.config import InputConfig, LanguageConfig, ModelConfig, VisionConfig
from onevision.errors import OneVisionError
from onevision.inputs.processor import Processor
from onevision.inputs.tokenizer import Tokenizer
from onevision.train import finish
from onevision.train.config import TrainConfig
from onevision.train.feed import Feed
from onevision.train.objectives.objective import RunContext
from onevision.train.objectives.table import make_objective
from onevision.train.options import RunOptions
from onevision.train.parallel import Processes
from onevision.train.report.journal import Callbacks
from onevision.train.run import run_stage
from onevision.train.snapshots import SnapshotReader, snapshots
from onevision.train.stage import Stage, stage_config
from onevision.train.start import Starts

PATIENCE_SECONDS = 90.0
CROP = {"crop_size": 56, "patch_size": 14}
# Crops of 4 x 4 patches and toy widths; some rows do not divide by 2 or 4.
MICRO = ModelConfig(
    vision=VisionConfig(
        hidden_size=16, intermediate_size=30, num_layers=2, num_heads=2, image_size=56
    ),
    language=LanguageConfig(
        vocab_size=4099,
        hidden_size=32,
        intermediate_size=50,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        max_positions=2048,
    ),
    inputs=InputConfig(
        image=AnyRes(**CROP), multi_image=SingleCrop(**CROP), video=VideoRule(**CROP),
        image_token_id=3,
    ),
)  # fmt: skip
# Pictures and text, twelve steps of four samples.
SHORT = Stage(
    name="short",
    resolution="one_crop",
    families={"scenes": 0.6, "texts": 0.4},
    num_samples=48,
    max_questions=1,
    global_batch=4,
    max_tokens=400,
    learning_rate=3e-3,
    vision_learning_rate=1e-3,
    warmup=0.1,
)
OPTIONS = RunOptions(precision="fp32", save_steps=3, keep=3, patience_seconds=PATIENCE_SECONDS)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a run is told."""

    output: Path
    stage: Stage = SHORT
    options: RunOptions = OPTIONS
    target: ModelConfig = MICRO
    starts: Starts = field(default_factory=Starts)
    allow_change: tuple[str, ...] = ()
    # What stands between the run and its feed; a function of a module.
    spoil: Callable[[Feed], Feed] | None = None
    # What happens in the process before its run.
    before: Callable[[], object] | None = None
    # Steps after which it gets SIGTERM.
    stop_after: int | None = None
    # What to do in place of training.
    act: Callable[["Told"], object] | None = None

    def but(self, **changes) -> "Told":
        """Return it with other fields; those of the options are known by their names."""
        own = {k: changes.pop(k) for k in list(changes) if k in Told.__dataclass_fields__}
        return replace(self, **{"options": replace(self.options, **changes)} | own)


def run(told: Told) -> int:
    """Train in this process; returns its exit code."""
    lines = 0

    def step(line: dict[str, object]) -> None:
        nonlocal lines
        lines += 1
        if lines == told.stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    callbacks = Callbacks(on_step=step, on_warning=lambda text: _say(f"warning: {text}"))
    return run_stage(settings_of(told), **arguments(told), callbacks=callbacks).exit_code


def settings_of(told: Told) -> TrainConfig:
    """Return the settings of a run."""
    return TrainConfig(stage=told.stage, target=told.target, options=told.options)


def arguments(told: Told) -> dict:
    """Return what a run needs beside its settings."""

    def make(context):
        objective = make_objective(context)
        return replace(objective, feed=told.spoil(objective.feed)) if told.spoil else objective

    return {
        "tokenizer": Tokenizer.from_directory(BUNDLED["tiny"]),
        "starts": told.starts,
        "output": told.output,
        "make_objective": make,
        "allow_change": told.allow_change,
    }


def context_of(told: Told) -> RunContext:
    """Return what the objective of a new run of one process is made from, without a network."""
    tokenizer = Tokenizer.from_directory(BUNDLED["tiny"])
    config = stage_config(told.stage, told.target)
    return RunContext(
        config=settings_of(told),
        processor=Processor(config.inputs, tokenizer),
        processes=Processes(),
        network=None,
        output=told.output,
        snapshot=None,
    )


@dataclass
class Child:
    """A process of a run."""

    pid: int
    log: Path
    nursery: "Nursery"
    code: int | None = None

    def ended(self) -> bool:
        """Whether it is over; `code` is its exit code then, or minus the signal's number."""
        if self.code is None:
            self.code = self.nursery.ask("poll", self.pid)
        return self.code is not None

    def wait(self, timeout: float = PATIENCE_SECONDS) -> int:
        """Return the exit code; a process that does not end is a failure."""
        end = time.monotonic() + timeout
        while not self.ended():
            assert time.monotonic() < end, f"still running:\n{self.said}"
            time.sleep(0.005)
        assert self.code is not None
        return self.code

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless it is over."""
        if not self.ended():
            os.kill(self.pid, number)

    @property
    def said(self) -> str:
        """What it has printed."""
        return self.log.read_text()


@dataclass
class Nursery:
    """Forks runs; use it as a context."""

    logs: Path
    children: list[Child] = field(default_factory=list)

    def __enter__(self) -> "Nursery":
        context = mp.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.logs / "cache"))
        self.process.start()
        theirs.close()
        return self

    def __exit__(self, *error: object) -> None:
        self.pipe.close()
        self.process.join()

    def ask(self, *request: object) -> int | None:
        """Send a request and wait for its answer."""
        self.pipe.send(request)
        return self.pipe.recv()

    def start(self, told: Told, ranks: int = 1) -> list[Child]:
        """Start the processes of a run."""
        port, started = free_port(), []
        for rank in range(ranks):
            log = self.logs / f"{len(self.children)}.log"
            pid = self.ask("start", told, rank, ranks, port, log)
            assert pid is not None
            self.children.append(Child(pid=pid, log=log, nursery=self))
            started.append(self.children[-1])
        return started

    def train(self, told: Told, ranks: int = 1, *, code: int = 0) -> str:
        """Run to the end and return what the first process said; all must end with `code`."""
        with killed_at_last(self.start(told, ranks)) as children:
            codes = [child.wait() for child in children]
            assert codes == [code] * ranks, "\n".join(child.said for child in children)
        return children[0].said


@contextmanager
def killed_at_last(children: Sequence[Child]):
    """Let no process outlive a block."""
    try:
        yield children
    finally:
        for child in children:
            child.send(signal.SIGKILL)
            child.wait()


def free_port() -> int:
    """Return a port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def tensors(output: Path, number: int = -1) -> dict[str, str]:
    """Return the SHA-256 of every weight and moment in a snapshot, put together whole."""
    reader = SnapshotReader(snapshots(output)[number])
    return {
        name: hashlib.sha256(reader.rows(name).numpy().tobytes()).hexdigest()
        for name in reader.names()
        if not name.startswith("rng/")
    }


def lines(output: Path) -> list[dict]:
    """Return the lines of metrics.jsonl."""
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def losses(output: Path) -> list[tuple[int, str]]:
    """Return number and exact loss of every line of metrics.jsonl."""
    return [(line["step"], float(line["loss"]).hex()) for line in lines(output)]


def loss_values(output: Path) -> list[float]:
    """Return the losses of metrics.jsonl."""
    return [line["loss"] for line in lines(output)]


def gradients(output):
    """Return the gradient of the first step: a tenth of it is AdamW's first moment then."""
    reader = SnapshotReader(snapshots(output)[0])
    moments = [name for name in reader.names() if name.startswith("exp_avg/")]
    return {name.partition("/")[2]: 10 * reader.rows(name) for name in moments}


def assert_same_gradients(one, other):
    assert one.keys() == other.keys()
    largest = max(float(gradient.abs().max()) for gradient in one.values())
    for name, gradient in one.items():
        torch.testing.assert_close(other[name], gradient, atol=1e-5 * largest, rtol=1e-5)


def held_out_losses(output):
    told = [json.loads(one) for one in (output / "validation.jsonl").read_text().splitlines()]
    return [one["loss"] for one in told]


def left(output: Path) -> tuple[dict[str, str], list[tuple[int, str]]]:
    """Return all that two runs must have in common."""
    return tensors(output), losses(output)


def wait_for_line(output: Path, number: int) -> None:
    """Wait until a run has ended so many steps."""
    end, path = time.monotonic() + PATIENCE_SECONDS, output / "metrics.jsonl"
    while not path.is_file() or path.read_bytes().count(b"\n") < number:
        assert time.monotonic() < end, f"{path} has no line {number}"
        time.sleep(0.005)


def _serve(pipe: Connection, cache: Path) -> None:
    os.environ["ONEVISION_CACHE"] = str(cache)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: dict[int, None] = {}
    while True:
        try:
            kind, *given = pipe.recv()
        except EOFError:
            break
        if kind == "start":
            pid = os.fork()
            if pid == 0:
                pipe.close()
                _run(*given)
            running[pid] = None
            pipe.send(pid)
        else:
            pid, status = os.waitpid(given[0], os.WNOHANG)
            running.pop(pid, None)
            pipe.send(os.waitstatus_to_exitcode(status) if pid else None)
    for pid in running:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _run(told: Told, rank: int, ranks: int, port: int, log: Path) -> None:
    """Train in a fork, and end."""
    code = 70  # of a bug
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout = sys.stderr = sys.__stderr__ = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(ranks)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        torch.set_num_threads(1)
        finish.write_curves = lambda output, **_: (
            None
        )  # plotted a hundred times for nothing otherwise
        if told.before is not None:
            told.before()
        code = run(told) if told.act is None else told.act(told) or 0
    except OneVisionError as error:
        _say(f"error: {error}")
        code = 1
    except BaseException:  # noqa: BLE001 a fork must end here, whatever happens
        traceback.print_exc()
    finally:
        os._exit(code)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
