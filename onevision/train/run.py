"""A stage and a directory -> its network trained there: settings, snapshots, metrics, checkpoint.

    runs/a/
        settings.json     the run's configuration, enough to repeat it
        step-00000120/    snapshots, the newest ones
        metrics.jsonl     one line per step
        skipped.jsonl     steps that changed nothing, and their samples
        quarantine.jsonl  samples that could not be read
        eval.jsonl        answers to held-out questions during the run, if requested
        validation.jsonl  the loss of held-out samples, and best/ the snapshot of its minimum
        checkpoint/       the result, at the end; see finish.py for what lies beside it
        lock              held while a trainer runs here

A run that finds snapshots resumes from the newest whole one as if it had never stopped.
"""

import hashlib
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from onevision.inputs.processor import Processor
from onevision.inputs.tokenizer import Tokenizer
from onevision.locks import lock_directory
from onevision.model.llava import LlavaNetwork
from onevision.train.checks import check_run
from onevision.train.config import TrainConfig
from onevision.train.cost.devices import peak_flops
from onevision.train.cost.plan import batch_flops
from onevision.train.directory import RunDirectory
from onevision.train.evaluation import HeldoutEvaluator
from onevision.train.features import keep_features
from onevision.train.finish import FinishedRun, list_sources, result_type, write_result
from onevision.train.guard import Interruption, Watchdog, explain_failures
from onevision.train.learner import Learner
from onevision.train.lora.adapt import adapt, digest_start
from onevision.train.lora.begin import begin_adapters, digest_beginning
from onevision.train.lora.targets import warn_of_whole_parts
from onevision.train.objectives.objective import ObjectiveMaker, RunContext
from onevision.train.objectives.table import make_objective
from onevision.train.optim import freeze_parameters, make_optimizer
from onevision.train.parallel import Processes, join_processes
from onevision.train.report.journal import Callbacks, Journal
from onevision.train.saving.place import open_place
from onevision.train.saving.saver import SnapshotSaver
from onevision.train.sharded.begin import begin_network
from onevision.train.sharded.export import TrainedWeights
from onevision.train.snapshots import State, read_state
from onevision.train.stage import stage_config
from onevision.train.start import Starts
from onevision.train.state import restore_snapshot
from onevision.train.tensor.rules import check_division
from onevision.train.trainer import Progress, Trainer
from onevision.train.validation.best import Validator


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended."""

    checkpoint: Path | None  # None if it was stopped before its end
    exit_code: int = 0


def run_stage(
    config: TrainConfig,
    *,
    tokenizer: Tokenizer,
    starts: Starts,
    output: Path,
    make_objective: ObjectiveMaker = make_objective,
    allow_change: Sequence[str] = (),
    callbacks: Callbacks | None = None,
) -> RunResult:
    """Runs a stage, or resumes it. Every process of a run calls it.

    `make_objective` replaces the objective that the settings name in the table.

    Raises ConfigError if starts, settings or directory do not fit, TrainingError if the run cannot
    continue: memory is exhausted, another process has died, or a snapshot cannot be written.
    """
    options = config.options
    check_division(config)
    place = output if options.snapshots is None else open_place(options.snapshots)
    with ExitStack() as held:
        held.enter_context(explain_failures(output, place))
        processes = join_processes(
            sharing=options.sharing, device=options.device, context=options.context,
            tensor=options.tensor, timeout_seconds=options.patience_seconds,
        )  # fmt: skip
        if processes.rank == 0:
            held.enter_context(lock_directory(output, holder="trainer"))
        run = TrainingRun(
            config,
            tokenizer=tokenizer,
            starts=starts,
            directory=RunDirectory(output, place),
            processes=processes,
            make_objective=make_objective,
            allow_change=allow_change,
            callbacks=callbacks or Callbacks(),
        )
        return run.finish()


class TrainingRun:
    """One process's part of a stage in a directory."""

    def __init__(
        self,
        config: TrainConfig,
        *,
        tokenizer: Tokenizer,
        starts: Starts,
        directory: RunDirectory,
        processes: Processes,
        make_objective: ObjectiveMaker,
        allow_change: Sequence[str],
        callbacks: Callbacks,
    ) -> None:
        self.config, self.starts, self.directory = config, starts, directory
        output = directory.path
        self.stage, self.tokenizer, self.options = config.stage, tokenizer, config.options
        self.processes, self.callbacks, self.main = processes, callbacks, processes.rank == 0
        self.journal = Journal(output, callbacks, main=self.main)
        self.model_config = stage_config(config.stage, config.target)
        warn = self.journal.warn
        self.directory.agree_on_settings(config, processes, allow_change=allow_change, warn=warn)
        check_run(config, tokenizer, starts, processes, warn=warn)
        torch.manual_seed(self.options.seed)
        snapshot = self.directory.choose_snapshot(warn=warn)
        self.begun = begin_network(
            config, self.model_config, starts, processes, resumes=snapshot is not None
        )
        network = self.begun.network
        self.objective = make_objective(
            RunContext(
                config=config,
                processor=Processor(self.model_config.inputs, tokenizer),
                processes=processes,
                network=network,
                output=output,
                snapshot=snapshot,
                agree_on_shards=partial(
                    directory.agree_on_shards, snapshot, allow_change=allow_change
                ),
                warn=warn,
            )
        )
        self.trainer = self._make_trainer(network)
        self.evaluator = HeldoutEvaluator(
            config=self.model_config, tokenizer=tokenizer, options=self.options,
            processes=processes, output=output, on_evaluation=callbacks.on_evaluation,
            warn=callbacks.on_warning,
        )  # fmt: skip
        if snapshot is not None:
            self.directory.agree_on_content(
                snapshot, self.content, allow_change=allow_change, warn=warn
            )
            restore_snapshot(self.trainer, snapshot)
            self.trainer.progress = Progress(**read_state(snapshot)["progress"])
        self.saver = SnapshotSaver(
            self.trainer, directory.snapshots, content=self.content, output=output, warn=warn
        )
        self.validator = self._make_validator()

    @property
    def content(self) -> State:
        """Digests of what the run learns from, since files may change under the same name."""
        return {
            "tokenizer": hashlib.sha256(self.tokenizer.definition.encode()).hexdigest()[:16],
            "data": dict(self.objective.feed.fingerprints),
            **digest_start(self.options.lora, self.starts),
            **digest_beginning(self.options.lora_from),
            **self.objective.fingerprints,
        }

    def finish(self) -> RunResult:
        """Takes the remaining steps, saves now and then, and writes the checkpoint."""
        trainer = self.trainer
        journal = self.journal.begin(trainer.progress.step, peak_flops=self._peak_flops())
        if self.main:
            self.evaluator.notes.rewind(trainer.progress.step)
        last_saved = time.monotonic()
        changed = trainer.progress.updates > 0
        with journal, ExitStack() as held:
            held.callback(self.saver.join)
            interruption = held.enter_context(Interruption())
            watchdog = held.enter_context(Watchdog(self.options.patience_seconds))
            self.validator.measure_if_due(watchdog.touch)
            for metrics in self.validator.until_done(trainer.steps()):
                watchdog.touch()
                changed |= metrics.has_update
                journal.tell(metrics)
                self.evaluator.evaluate_if_due(metrics, trainer.learner.network, watchdog.touch)
                self.validator.measure_if_due(watchdog.touch)
                stop, due = self._decide(interruption, time.monotonic() - last_saved)
                if stop or due:
                    self.saver.save()
                    last_saved = time.monotonic()
                if stop and metrics.step < metrics.num_steps:
                    self.saver.finish()
                    return RunResult(checkpoint=None, exit_code=interruption.exit_code)
            self.saver.finish()
            if not changed:
                self.journal.warn(
                    f"no step of {trainer.feed.num_steps} changed a weight: every one was "
                    "skipped or had a gradient or a learning rate of zero; look at metrics.jsonl, "
                    "and give more samples or a smaller global_batch"
                )
            self.validator.restore_best()
            self._export()
        return RunResult(checkpoint=self.directory.checkpoint)

    def _make_trainer(self, network: LlavaNetwork) -> Trainer:
        options = self.options
        make = partial(make_optimizer, offload=options.offload_optimizer)
        return Trainer(
            self.stage,
            self._make_learner(network),
            make(network, self.stage, options.precision, self.processes),
            self.objective.feed,
            processes=self.processes,
            options=options,
            on_skip=self.journal.skip,
            on_split=self.journal.split,
            flops_of=partial(batch_flops, self.stage, self.model_config, lora=options.lora),
        )

    def _make_validator(self) -> Validator:
        return Validator(
            self.trainer,
            self.objective.held_out,
            directory=self.directory.path,
            content=self.content,
            on_validation=self.callbacks.on_validation,
            warn=self.journal.warn,
            before_save=self.saver.finish,
        )

    def _make_learner(self, network: LlavaNetwork) -> Learner:
        """Adds adapters, freezes what does not train, and wraps the network."""
        options = self.options
        adapt(network, options.lora, seed=options.seed)
        freeze_parameters(network, self.stage)
        begin_adapters(network, self.config, self.starts)
        warn_of_whole_parts(network, options.lora, warn=self.journal.warn)
        keep_features(network.vision_encoder, self.stage, options, warn=self.callbacks.on_warning)
        return self.begun.prepare(
            self.objective.make_learner(network, encode_always=self.processes.shards)
        ).train()

    def _peak_flops(self) -> float | None:
        """Returns the operations per second of all devices at most; None if unknown."""
        peak = peak_flops(self.processes.device_name, tflops=self.options.peak_tflops)
        return None if peak is None else peak * self.processes.count

    def _decide(self, interruption: Interruption, seconds: float) -> tuple[bool, bool]:
        """Returns whether to stop, and whether to save; the same on every process.

        Finishes a snapshot that all processes have written.
        """
        steps, progress = self.options.save_steps, self.trainer.progress
        due = progress.step % steps == 0 if steps else seconds >= self.options.save_seconds
        last = progress.step == self.trainer.feed.num_steps or self.validator.is_done
        stop, save_now, writing, failed = self.processes.sum(
            float(interruption.requested), float(self.main and (due or last)), *self.saver.signals
        )
        self.saver.settle(writing, failed)
        return stop > 0, save_now > 0

    def _export(self) -> None:
        """Writes the trained network, and how it was made."""
        run = FinishedRun(
            config=self.config,
            model_config=self.model_config,
            tokenizer=self.tokenizer,
            starts=self.starts,
            directory=self.directory,
            sources=list_sources(self.objective.feed),
            device=self.processes.describe(),
            warn=self.callbacks.on_warning,
        )
        weights = TrainedWeights(
            self.trainer.learner.network,
            self.model_config,
            self.processes,
            base=next(iter(self.starts.previous), None),
            warn=self.callbacks.on_warning,
        )
        if not self.main:
            weights.follow(result_type(run))
            return
        with weights.offered(result_type(run)):
            write_result(weights, run)
