"""Trials in a directory: each trained, asked, and written down once; any of them can be stopped.

    OUTPUT/seed-0/vision/...        a run of the trainer, as `onevision train` makes one
    OUTPUT/seed-0/onevision/trial.json    what it cost and what it answered; it is then finished

A trial that was stopped goes on from its snapshot, a finished one is skipped.
"""

import json
import multiprocessing as mp
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from onevision.checkpoint.hub import BUNDLED
from onevision.files import write_json
from onevision.generate.answer import load
from onevision.inputs.tokenizer import Tokenizer
from onevision.science.exams import Row, examine
from onevision.science.trials import Trial
from onevision.train.config import TrainConfig, list_changes, read_train_config
from onevision.train.directory import RunDirectory, refuse_changes
from onevision.train.options import RunOptions
from onevision.train.report.journal import Callbacks
from onevision.train.report.metrics import METRICS, read_metrics
from onevision.train.run import run_stage
from onevision.train.start import Starts

RECORD = "trial.json"


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a finished trial cost, and what it answered."""

    arm: str
    seed: int
    rehearsal: bool
    samples: int
    tokens: int  # with visual ones and padding
    operations: float
    train_seconds: float  # wall clock, waiting for data included
    exam_seconds: float
    answers: list[Row]


@dataclass(frozen=True, kw_only=True)
class Study:
    """Where trials lie, and how they are run."""

    output: Path
    rehearsal: bool = False

    def directory(self, name: str) -> Path:
        """Return where a trial lies."""
        return self.output / name

    def finished(self, trial: Trial) -> bool:
        """Whether a trial is over. Raises ConfigError where it was one of other settings."""
        if not (self.directory(trial.name) / RECORD).is_file():
            return False
        directory = self.directory(trial.name)
        before = read_train_config(RunDirectory(directory).settings)
        refuse_changes(directory, list_changes(before, self.settings(trial)), ())
        return True

    def record(self, trial: Trial) -> Record:
        """Read what a finished trial wrote."""
        text = (self.directory(trial.name) / RECORD).read_text(encoding="utf-8")
        return Record(**json.loads(text))

    def settings(self, trial: Trial) -> TrainConfig:
        """Return what the trainer is told."""
        starts = self._starts(trial)
        return TrainConfig(
            stage=trial.stage,
            target=trial.target,
            options=RunOptions(seed=trial.seed, precision=trial.precision, keep=1),
            starts=tuple(map(str, starts.directories)),
            tokenizer=str(BUNDLED["tiny"] / "tokenizer.json"),
        )

    def carry_out(self, trial: Trial, callbacks: Callbacks | None = None) -> bool:
        """Train a trial, or go on with it, and ask it; False where it was stopped."""
        directory, settings = self.directory(trial.name), self.settings(trial)
        outcome = run_stage(
            settings,
            tokenizer=Tokenizer.from_directory(BUNDLED["tiny"]),
            starts=self._starts(trial),
            output=directory,
            callbacks=callbacks,
        )
        if outcome.checkpoint is None:
            return False
        began = time.monotonic()
        answers = examine(load(outcome.checkpoint), trial.arm, rehearsal=self.rehearsal)
        lines = read_metrics(directory / METRICS)
        record = Record(
            arm=trial.arm,
            seed=trial.seed,
            rehearsal=self.rehearsal,
            samples=lines[-1]["samples"],
            tokens=sum(line["tokens"] for line in lines),
            operations=sum(line["flops"] for line in lines),
            train_seconds=round(sum(line["seconds"] for line in lines), 1),
            exam_seconds=round(time.monotonic() - began, 1),
            answers=answers,
        )
        write_json(directory / RECORD, asdict(record), indent=None)
        return True

    def _starts(self, trial: Trial) -> Starts:
        return Starts(
            previous=tuple(
                RunDirectory(self.directory(name)).checkpoint for name in trial.begins_with
            )
        )


def carry_out_all(
    study: Study,
    trials: Sequence[Trial],
    *,
    jobs: int,
    tell: Callable[[str, Trial], object],
) -> bool:
    """Carry out what is not finished, `jobs` at a time; False where one was stopped.

    `tell` hears "finished" of what need not be done, then "begins" and "done". Every trial has one
    thread: two side by side outrun one of two. Raises what a trial raises.
    """
    finished = {trial.name for trial in trials if study.finished(trial)}
    for trial in trials:
        if trial.name in finished:
            tell("finished", trial)
    waiting = [trial for trial in trials if trial.name not in finished]
    running: dict[Future[bool], Trial] = {}
    context = mp.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_one_thread) as pool:
        while waiting or running:
            for trial in _ready(waiting, finished)[: jobs - len(running)]:
                waiting.remove(trial)
                tell("begins", trial)
                running[pool.submit(study.carry_out, trial)] = trial
            over, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in over:
                trial = running.pop(future)
                if not future.result():
                    return False  # the others, told to stop as well, are waited for
                finished.add(trial.name)
                tell("done", trial)
    return True


def _ready(waiting: Iterable[Trial], finished: set[str]) -> list[Trial]:
    return [trial for trial in waiting if finished.issuperset(trial.begins_with)]


def _one_thread() -> None:
    torch.set_num_threads(1)
