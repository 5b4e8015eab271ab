"""Trials -> a directory with one training run and one record each; any of them may be interrupted.

    OUTPUT/seed-0/vision/...              a training run, as `onevision train` writes it
    OUTPUT/seed-0/onevision/trial.json    what it cost and how it answered, once it is finished

An interrupted trial resumes from its snapshot; a finished one is skipped.
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
from onevision.data.workers import exit_with_parent
from onevision.files import write_json
from onevision.generate.answer import Model, load
from onevision.inputs.tokenizer import Tokenizer
from onevision.science.evaluation import AnswerRow, evaluate_arm
from onevision.science.trials import Trial
from onevision.train.config import TrainConfig, list_changes, read_train_config
from onevision.train.directory import RunDirectory, refuse_changes
from onevision.train.options import RunOptions
from onevision.train.report.journal import Callbacks
from onevision.train.report.metrics import METRICS, read_metrics
from onevision.train.run import run_stage
from onevision.train.start import Starts

RECORD = "trial.json"
# (a trained model, its trial, the study) -> rows of answers.
Examine = Callable[[Model, Trial, "Study"], list[AnswerRow]]


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """What a finished trial cost, and how it answered."""

    arm: str
    seed: int
    rehearsal: bool
    samples: int
    tokens: int  # with visual ones and padding
    operations: float
    train_seconds: float  # wall clock, waiting for data included
    exam_seconds: float
    answers: list[AnswerRow]
    # The model it began with: a bundled name, a hub id or a digest; "" for none of outside.
    start: str = ""


@dataclass(frozen=True, kw_only=True)
class Study:
    """The directory of the trials, and how they are run."""

    output: Path
    rehearsal: bool = False
    # What trials begin with that start from no other trial; None: random weights.
    base: Path | None = None
    # What records call the base.
    start: str = ""
    # What a trained model is asked; by default what the claims are about.
    examine: Examine | None = None

    def directory(self, name: str) -> Path:
        """Returns the directory of a trial."""
        return self.output / name

    def is_finished(self, trial: Trial) -> bool:
        """Whether a trial is finished. Raises ConfigError if it ran with other settings."""
        if not (self.directory(trial.name) / RECORD).is_file():
            return False
        directory = self.directory(trial.name)
        before = read_train_config(RunDirectory(directory).settings)
        refuse_changes(directory, list_changes(before, self.settings(trial)), ())
        return True

    def record(self, trial: Trial) -> TrialRecord:
        """Returns the record of a finished trial."""
        text = (self.directory(trial.name) / RECORD).read_text(encoding="utf-8")
        return TrialRecord(**json.loads(text))

    def settings(self, trial: Trial) -> TrainConfig:
        """Returns the settings of its training run."""
        starts = self._starts(trial)
        return TrainConfig(
            stage=trial.stage,
            target=trial.target,
            options=RunOptions(seed=trial.seed, precision=trial.precision, keep=1),
            starts=tuple(map(str, starts.directories)),
            tokenizer=str(self._tokenizer / "tokenizer.json"),
        )

    def run(self, trial: Trial, callbacks: Callbacks | None = None) -> bool:
        """Trains and evaluates a trial, or resumes it; returns False if it was interrupted."""
        directory, settings = self.directory(trial.name), self.settings(trial)
        outcome = run_stage(
            settings,
            tokenizer=Tokenizer.from_directory(self._tokenizer),
            starts=self._starts(trial),
            output=directory,
            callbacks=callbacks,
        )
        if outcome.checkpoint is None:
            return False
        began = time.monotonic()
        model = load(outcome.checkpoint)
        if self.examine is None:
            answers = evaluate_arm(model, trial.arm, rehearsal=self.rehearsal)
        else:
            answers = self.examine(model, trial, self)
        lines = read_metrics(directory / METRICS)
        record = TrialRecord(
            arm=trial.arm,
            seed=trial.seed,
            rehearsal=self.rehearsal,
            samples=lines[-1]["samples"],
            tokens=sum(line["tokens"] for line in lines),
            operations=sum(line["flops"] for line in lines),
            train_seconds=round(sum(line["seconds"] for line in lines), 1),
            exam_seconds=round(time.monotonic() - began, 1),
            answers=answers,
            start=self.start,
        )
        write_json(directory / RECORD, asdict(record), indent=None)
        return True

    @property
    def _tokenizer(self) -> Path:
        return self.base or BUNDLED["tiny"]

    def _starts(self, trial: Trial) -> Starts:
        if not trial.start_names and self.base is not None:
            return Starts(previous=(self.base,))
        return Starts(
            previous=tuple(
                RunDirectory(self.directory(name)).checkpoint for name in trial.start_names
            )
        )


def run_trials(
    study: Study,
    trials: Sequence[Trial],
    *,
    jobs: int,
    on_event: Callable[[str, Trial], object],
) -> bool:
    """Runs the unfinished trials, `jobs` at a time; returns False if one was interrupted.

    `on_event` is called with "finished" for trials that are skipped, then with "begins" and "done".
    Each trial has one thread: two of them side by side outrun one with two threads. Raises what a
    trial raises.
    """
    finished = {trial.name for trial in trials if study.is_finished(trial)}
    for trial in trials:
        if trial.name in finished:
            on_event("finished", trial)
    waiting = [trial for trial in trials if trial.name not in finished]
    running: dict[Future[bool], Trial] = {}
    context = mp.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_prepare_worker) as pool:
        while waiting or running:
            for trial in _startable(waiting, finished)[: jobs - len(running)]:
                waiting.remove(trial)
                on_event("begins", trial)
                running[pool.submit(study.run, trial)] = trial
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                trial = running.pop(future)
                if not future.result():
                    return False  # leaving the pool waits for the others
                finished.add(trial.name)
                on_event("done", trial)
    return True


def _startable(waiting: Iterable[Trial], finished: set[str]) -> list[Trial]:
    return [trial for trial in waiting if finished.issuperset(trial.start_names)]


def _prepare_worker() -> None:
    exit_with_parent()
    torch.set_num_threads(1)
