"""A stage in a directory: settings, snapshots, metrics, and at the end a checkpoint.

    runs/a/
        settings.json     what the run was told; it can be run again
        step-00000120/    snapshots, the newest ones
        metrics.jsonl     a line a step
        skipped.jsonl     steps that changed nothing, and their samples
        quarantine.jsonl  samples that could not be read
        eval.jsonl        held-out questions asked on the way, if any were to be
        checkpoint/       the result, once there is one; see finish.py for what lies beside it
        lock              held while a trainer runs here

A run that finds snapshots goes on from the newest whole one as if nothing had happened.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from onevision.accelerate.apply import accelerate_training
from onevision.batch import TrainingBatch
from onevision.errors import TrainingError
from onevision.inputs.processor import Processor
from onevision.inputs.tokenizer import Tokenizer
from onevision.model.llava import LlavaNetwork
from onevision.train.cost.devices import peak_flops
from onevision.train.cost.plan import batch_flops
from onevision.train.directory import (
    agree_on_content,
    agree_on_settings,
    snapshot_to_go_on_from,
)
from onevision.train.evaluation import Examiner
from onevision.train.features import keep_features
from onevision.train.feed import Feed
from onevision.train.finish import CHECKPOINT, Ending, sources_of, write_result
from onevision.train.guard import Interruption, Watchdog, goes_on, only_trainer, told_plainly
from onevision.train.learner import Learner, make_learner
from onevision.train.lora.adapt import adapt, check_adapters, gathered
from onevision.train.objectives import learner_of
from onevision.train.optim import freeze_what_stays, make_optimizer
from onevision.train.parallel import Processes, join_processes
from onevision.train.report.journal import Journal, Reports
from onevision.train.settings import Settings
from onevision.train.snapshots import State, prune, read_state
from onevision.train.stage import Stage
from onevision.train.stages import stage_config
from onevision.train.start import Starts, check_tokenizer, start_network
from onevision.train.state import restore, snapshot
from onevision.train.trainer import Progress, Trainer

# Makes the feed of a run: (stage, processor, processes) -> Feed.
FeedMaker = Callable[[Stage, Processor, Processes], Feed]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended."""

    checkpoint: Path | None  # None where it was stopped before its end
    exit_code: int = 0


def run_stage(
    settings: Settings,
    *,
    tokenizer: Tokenizer,
    starts: Starts,
    output: Path,
    make_feed: FeedMaker,
    allow_change: Sequence[str] = (),
    reports: Reports | None = None,
    kind: "type[Run] | None" = None,
) -> Outcome:
    """Run a stage, or go on with it. Every process of a run calls it.

    `kind` is what a run of preferences puts in place of `Run`.

    Raises ConfigError where starts, settings or directory do not fit, TrainingError where the run
    cannot go on: also for want of memory, because another of its processes has died, or where
    `save_strict` is set and a snapshot cannot be written.
    """
    options = settings.options
    with ExitStack() as held:
        held.enter_context(told_plainly(output))
        processes = join_processes(
            sharing=options.sharing, device=options.device, timeout_seconds=options.patience_seconds
        )
        held.enter_context(only_trainer(output) if processes.rank == 0 else nullcontext())
        run = (kind or Run)(
            settings,
            tokenizer=tokenizer,
            starts=starts,
            output=output,
            processes=processes,
            make_feed=make_feed,
            allow_change=allow_change,
            reports=reports or Reports(),
        )
        return run.go_on()


class Run:
    """One process's part of a stage in a directory."""

    def __init__(
        self,
        settings: Settings,
        *,
        tokenizer: Tokenizer,
        starts: Starts,
        output: Path,
        processes: Processes,
        make_feed: FeedMaker,
        allow_change: Sequence[str],
        reports: Reports,
    ) -> None:
        self.settings, self.starts = settings, starts
        self.stage, self.tokenizer, self.output = settings.stage, tokenizer, output
        self.options, self.processes, self.reports = settings.options, processes, reports
        options = settings.options
        self.main = processes.rank == 0
        self.journal = Journal(output, reports, main=self.main)
        self.config = stage_config(settings.stage, settings.target)
        agree_on_settings(output, settings, processes, allow_change=allow_change)
        check_tokenizer(tokenizer, starts)
        check_adapters(options.lora, self.stage, starts)
        torch.manual_seed(options.seed)
        self.snapshot = snapshot_to_go_on_from(output, warn=self.journal.warn)
        # A snapshot holds every weight: the starts are read by a new run alone.
        network = (
            start_network(self.stage, self.config, starts)
            if self.snapshot is None
            else LlavaNetwork(self.config)
        )
        feed = make_feed(self.stage, Processor(self.config.inputs, tokenizer), processes)
        self.trainer = self._make_trainer(accelerate_training(network.to(processes.device)), feed)
        self.examiner = Examiner(
            config=self.config,
            tokenizer=tokenizer,
            options=options,
            processes=processes,
            output=output,
            tell=reports.evaluation,
            warn=reports.warn,
        )
        if self.snapshot is not None:
            agree_on_content(output, self.snapshot, self.content, allow_change=allow_change)
            restore(self.trainer, self.snapshot)
            self.trainer.progress = Progress(**read_state(self.snapshot)["progress"])

    @property
    def content(self) -> State:
        """Fingerprints of what the run learns from: the same names may come to stand for others."""
        return {
            "tokenizer": hashlib.sha256(self.tokenizer.definition.encode()).hexdigest()[:16],
            "data": dict(self.trainer.feed.fingerprints),
        }

    def _make_trainer(self, network: LlavaNetwork, feed: Feed) -> Trainer:
        """Make the trainer of a network that is as its starts have it, or empty."""
        return Trainer(
            self.stage,
            self._make_learner(network),
            make_optimizer(network, self.stage, precision=self.options.precision),
            feed,
            processes=self.processes,
            options=self.options,
            on_skip=self.journal.skip,
            on_split=self.journal.split,
            flops_of=self._flops_of(),
        )

    def _flops_of(self) -> Callable[[TrainingBatch], float]:
        return partial(batch_flops, self.stage, self.config, lora=self.options.lora)

    def _make_learner(
        self, network: LlavaNetwork, kind: Callable[..., Learner] | None = None
    ) -> Learner:
        """Add adapters, freeze what stays, and wrap the network for these processes."""
        options = self.options
        adapt(network, options.lora, seed=options.seed)
        freeze_what_stays(network, self.stage)
        keep_features(network.vision_encoder, self.stage, options, warn=self.reports.warn)
        return make_learner(
            network,
            self.processes,
            recompute=options.recompute,
            compiled=options.compiled,
            replicas=options.replicas,
            kind=kind or learner_of(self.stage),
        ).train()

    def go_on(self) -> Outcome:
        """Take the steps that are left, save now and then, and write the checkpoint."""
        trainer = self.trainer
        journal = self.journal.begin(trainer.progress.step, peak_flops=self._peak_flops())
        if self.main:
            self.examiner.notes.rewind(trainer.progress.step)
        last_saved = time.monotonic()
        with journal, ExitStack() as held:
            interruption = held.enter_context(Interruption())
            watchdog = held.enter_context(Watchdog(self.options.patience_seconds))
            for metrics in trainer.steps():
                watchdog.touch()
                journal.tell(metrics)
                self.examiner.after(metrics, trainer.learner.network, watchdog.touch)
                stop, due = self._decide(interruption, time.monotonic() - last_saved)
                if stop or due:
                    self._save()
                    last_saved = time.monotonic()
                if stop and metrics.step < metrics.num_steps:
                    return Outcome(checkpoint=None, exit_code=interruption.exit_code)
            self._export()
        return Outcome(checkpoint=self.output / CHECKPOINT)

    def _peak_flops(self) -> float | None:
        """Return what all devices together can do in a second; None where nobody knows."""
        peak = peak_flops(self.processes.device_name, tflops=self.options.peak_tflops)
        return None if peak is None else peak * self.processes.count

    def _decide(self, interruption: Interruption, seconds: float) -> tuple[bool, bool]:
        """Return whether to stop, and whether to save; the same on every process."""
        steps, progress = self.options.save_steps, self.trainer.progress
        due = progress.step % steps == 0 if steps else seconds >= self.options.save_seconds
        last = progress.step == self.trainer.feed.num_steps
        stop, save_now = self.processes.total(
            float(interruption.asked), float(self.main and (due or last))
        )
        return stop > 0, save_now > 0

    def _save(self) -> None:
        try:
            newest = snapshot(self.trainer, self.output, content=self.content)
        except OSError as error:
            if self.options.save_strict:
                raise TrainingError(
                    f"{self.output}: step {self.trainer.progress.step} could not be saved "
                    f"({error}); make room, then start it again: {goes_on(self.output)}"
                ) from error
            self.journal.warn(
                f"{self.output}: step {self.trainer.progress.step} could not be saved ({error}); "
                "training goes on and the next save tries again; make room"
            )
            return
        if self.main:
            prune(self.output, keep=self.options.keep, newest=newest)

    def _export(self) -> None:
        """Write the finished network, and how it came about."""
        network = gathered(
            self.trainer.learner.network, self.config, self.options.lora, keep=self.main
        )
        if network is not None:
            ending = Ending(
                settings=self.settings,
                config=self.config,
                tokenizer=self.tokenizer,
                starts=self.starts,
                output=self.output,
                sources=sources_of(self.trainer.feed),
                device=self.processes.describe(),
                warn=self.reports.warn,
            )
            write_result(network, ending)
