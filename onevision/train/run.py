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

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from onevision.errors import CheckpointError, ConfigError, TrainingError
from onevision.inputs.processor import Processor
from onevision.inputs.tokenizer import Tokenizer
from onevision.model.llava import LlavaNetwork
from onevision.train.adapt import adapt, check_adapters, gathered
from onevision.train.contrast import VisionLearner
from onevision.train.cost import batch_flops
from onevision.train.evaluation import Examiner
from onevision.train.features import keep_features
from onevision.train.feed import Feed
from onevision.train.finish import CHECKPOINT, Ending, sources_of, write_result
from onevision.train.guard import Interruption, Watchdog, goes_on, only_trainer, told_plainly
from onevision.train.learner import Learner, make_learner
from onevision.train.metrics import MetricsLog, StepMetrics
from onevision.train.notes import SKIPPED, Notes
from onevision.train.optim import freeze_what_stays, make_optimizer
from onevision.train.parallel import Processes, join_processes
from onevision.train.recipes import Stage
from onevision.train.settings import Settings, difference, read_settings, write_settings
from onevision.train.snapshots import newest_snapshot, prune, read_state, snapshots
from onevision.train.stages import stage_config
from onevision.train.start import SETTINGS, Starts, check_tokenizer, start_network
from onevision.train.state import restore, snapshot
from onevision.train.trainer import Progress, Trainer

# Makes the feed of a run: (stage, processor, processes) -> Feed.
FeedMaker = Callable[[Stage, Processor, Processes], Feed]


@dataclass(kw_only=True)
class Reports:
    """Who hears of a run: every step's line of metrics, evaluations, and warnings."""

    step: Callable[[dict[str, object]], object] = str
    evaluation: Callable[[dict[str, object]], object] = str
    warn: Callable[[str], object] = str
    boards: dict[str, object] = field(default_factory=dict)  # tensorboard=, wandb= of MetricsLog


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
        self.config = stage_config(settings.stage, settings.target)
        self._agree(settings, allow_change)
        check_tokenizer(tokenizer, starts)
        check_adapters(options.lora, self.stage, starts)
        torch.manual_seed(options.seed)
        self.snapshot = self._newest()
        # A snapshot holds every weight: the starts are read by a new run alone.
        network = (
            start_network(self.stage, self.config, starts)
            if self.snapshot is None
            else LlavaNetwork(self.config)
        )
        self.skips = Notes(output / SKIPPED, warn=reports.warn)
        feed = make_feed(self.stage, Processor(self.config.inputs, tokenizer), processes)
        self.trainer = self._make_trainer(network.to(processes.device), feed)
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
            restore(self.trainer, self.snapshot)
            self.trainer.progress = Progress(**read_state(self.snapshot)["progress"])

    def _make_trainer(self, network: LlavaNetwork, feed: Feed) -> Trainer:
        """Make the trainer of a network that is as its starts have it, or empty."""
        # Beside adapters, the count would be of what they stand beside.
        count = None if self.options.lora else partial(batch_flops, self.stage, self.config)
        return Trainer(
            self.stage,
            self._make_learner(network),
            make_optimizer(network, self.stage),
            feed,
            processes=self.processes,
            options=self.options,
            on_skip=self._note_skip,
            flops_of=count,
        )

    def _make_learner(
        self, network: LlavaNetwork, kind: Callable[..., Learner] = Learner
    ) -> Learner:
        """Add adapters, freeze what stays, and wrap the network for these processes."""
        options = self.options
        if self.stage.name == "vision" and self.stage.vision_objective != "caption":
            kind = partial(VisionLearner, with_words=self.stage.vision_objective == "both")
        adapt(network, options.lora, seed=options.seed)
        freeze_what_stays(network, self.stage)
        keep_features(network.vision_encoder, self.stage, options, warn=self.reports.warn)
        return make_learner(
            network,
            self.processes,
            recompute=options.recompute,
            compiled=options.compiled,
            replicas=options.replicas,
            kind=kind,
        ).train()

    def go_on(self) -> Outcome:
        """Take the steps that are left, save now and then, and write the checkpoint."""
        trainer, log = self.trainer, self._open_log()
        last_saved = time.monotonic()
        with ExitStack() as held:
            if log is not None:
                held.enter_context(log)
            interruption = held.enter_context(Interruption())
            watchdog = held.enter_context(Watchdog(self.options.patience_seconds))
            for metrics in trainer.steps():
                watchdog.touch()
                self._tell(log, metrics)
                self.examiner.after(metrics, trainer.learner.network, watchdog.touch)
                stop, due = self._decide(interruption, time.monotonic() - last_saved)
                if stop or due:
                    self._save()
                    last_saved = time.monotonic()
                if stop and metrics.step < metrics.num_steps:
                    return Outcome(checkpoint=None, exit_code=interruption.exit_code)
            self._export()
        return Outcome(checkpoint=self.output / CHECKPOINT)

    def _agree(self, settings: Settings, allow_change: Sequence[str]) -> None:
        """Refuse to go on with other settings than the run began with."""
        path = self.output / SETTINGS
        if path.is_file() and snapshots(self.output):
            changes = difference(read_settings(path), settings)
            refused = [c for c in changes if c.partition(":")[0] not in allow_change]
            if refused:
                raise ConfigError(
                    f"{self.output} was begun with other settings ({'; '.join(refused)}); use "
                    "those, give another --output, or allow it: --allow-change "
                    f"{refused[0].partition(':')[0]}"
                )
        self.processes.all_well()  # all have read before one writes
        if self.main:
            try:
                part = path.with_suffix(".part")
                write_settings(settings, part)
                part.replace(path)  # so it is whole, whenever the run is killed
            except OSError as error:
                raise ConfigError(
                    f"{self.output}: cannot be written to ({error.strerror}); give another --output"
                ) from error

    def _newest(self) -> Path | None:
        """Choose the snapshot to go on from; the same on every process."""
        found = newest_snapshot(
            self.output, warn=self.reports.warn if self.main else lambda _: None
        )
        if found is None and snapshots(self.output):
            raise CheckpointError(
                f"{self.output}: no snapshot is whole; restore one, or move the step-* directories "
                "away to begin again"
            )
        return found

    def _open_log(self) -> MetricsLog | None:
        if not self.main:
            return None
        log = MetricsLog(self.output, warn=self.reports.warn, **self.reports.boards)  # type: ignore
        log.rewind(self.trainer.progress.step)
        self.examiner.notes.rewind(self.trainer.progress.step)
        self.skips.rewind(self.trainer.progress.step)
        return log

    def _tell(self, log: MetricsLog | None, metrics: StepMetrics) -> None:
        if log is not None:
            self.reports.step(log.write(metrics))

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
            newest = snapshot(self.trainer, self.output)
        except OSError as error:
            if self.options.save_strict:
                raise TrainingError(
                    f"{self.output}: step {self.trainer.progress.step} could not be saved "
                    f"({error}); make room, then start it again: {goes_on(self.output)}"
                ) from error
            if self.main:
                self.reports.warn(
                    f"{self.output}: step {self.trainer.progress.step} could not be saved "
                    f"({error}); training goes on and the next save tries again; make room"
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

    def _note_skip(self, step: int, problem: str, suspects: Sequence[str]) -> None:
        if self.main:
            self.reports.warn(f"step {step} was skipped: {problem}")
        if self.main or suspects:
            self.skips.add({"step": step, "problem": problem, "samples": list(suspects)})
