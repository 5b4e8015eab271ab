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
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from onevision.accelerate.apply import accelerate_training
from onevision.errors import TrainingError
from onevision.inputs.processor import Processor
from onevision.inputs.tokenizer import Tokenizer
from onevision.model.llava import LlavaNetwork
from onevision.train.config import TrainConfig
from onevision.train.cost.devices import peak_flops
from onevision.train.cost.plan import batch_flops
from onevision.train.directory import RunDirectory
from onevision.train.evaluation import HeldoutEvaluator
from onevision.train.features import keep_features
from onevision.train.finish import FinishedRun, list_sources, write_result
from onevision.train.guard import (
    Interruption,
    Watchdog,
    describe_resumption,
    explain_failures,
    lock_directory,
)
from onevision.train.learner import Learner, prepare_learner
from onevision.train.lora.adapt import adapt, check_adapters, copy_to_cpu, digest_start
from onevision.train.lora.targets import warn_of_whole_parts
from onevision.train.objectives.objective import ObjectiveMaker, RunContext
from onevision.train.objectives.table import make_objective
from onevision.train.optim import freeze_parameters, make_optimizer
from onevision.train.parallel import Processes, join_processes
from onevision.train.report.journal import Callbacks, Journal
from onevision.train.snapshots import State, prune, read_state
from onevision.train.stage import stage_config
from onevision.train.start import Starts, check_tokenizer, start_network
from onevision.train.state import restore_snapshot, save_snapshot
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
    continue: because memory is exhausted, another of its processes has died, or `save_strict` is
    set and a snapshot cannot be written.
    """
    options = config.options
    with ExitStack() as held:
        held.enter_context(explain_failures(output))
        processes = join_processes(
            sharing=options.sharing, device=options.device, timeout_seconds=options.patience_seconds
        )
        held.enter_context(lock_directory(output) if processes.rank == 0 else nullcontext())
        run = TrainingRun(
            config,
            tokenizer=tokenizer,
            starts=starts,
            output=output,
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
        output: Path,
        processes: Processes,
        make_objective: ObjectiveMaker,
        allow_change: Sequence[str],
        callbacks: Callbacks,
    ) -> None:
        self.config, self.starts, self.directory = config, starts, RunDirectory(output)
        self.stage, self.tokenizer, self.options = config.stage, tokenizer, config.options
        self.processes, self.callbacks, self.main = processes, callbacks, processes.rank == 0
        self.journal = Journal(output, callbacks, main=self.main)
        self.model_config = stage_config(config.stage, config.target)
        warn = self.journal.warn
        self.directory.agree_on_settings(config, processes, allow_change=allow_change, warn=warn)
        check_tokenizer(tokenizer, starts)
        check_adapters(self.options.lora, self.stage, starts)
        torch.manual_seed(self.options.seed)
        snapshot = self.directory.choose_snapshot(warn=warn)
        # A snapshot holds every weight, except those below adapters.
        network = (
            start_network(self.stage, self.model_config, starts, verify=self.options.verify)
            if snapshot is None or self.options.lora is not None
            else LlavaNetwork(self.model_config)
        )
        network = accelerate_training(network.to(processes.device))
        self.objective = make_objective(
            RunContext(
                config=config,
                processor=Processor(self.model_config.inputs, tokenizer),
                processes=processes,
                network=network,
                output=output,
                snapshot=snapshot,
                warn=warn,
            )
        )
        self.trainer = self._make_trainer(network)
        self.evaluator = HeldoutEvaluator(
            config=self.model_config,
            tokenizer=tokenizer,
            options=self.options,
            processes=processes,
            output=output,
            on_evaluation=callbacks.on_evaluation,
            warn=callbacks.on_warning,
        )
        if snapshot is not None:
            self.directory.agree_on_content(
                snapshot, self.content, allow_change=allow_change, warn=warn
            )
            restore_snapshot(self.trainer, snapshot)
            self.trainer.progress = Progress(**read_state(snapshot)["progress"])
        self.validator = self._make_validator()

    @property
    def content(self) -> State:
        """Digests of what the run learns from, since files may change under the same name."""
        return {
            "tokenizer": hashlib.sha256(self.tokenizer.definition.encode()).hexdigest()[:16],
            "data": dict(self.objective.feed.fingerprints),
            **digest_start(self.options.lora, self.starts),
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
                    self._save()
                    last_saved = time.monotonic()
                if stop and metrics.step < metrics.num_steps:
                    return RunResult(checkpoint=None, exit_code=interruption.exit_code)
            if not changed:
                self.journal.warn(
                    f"none of the {trainer.feed.num_steps} steps changed a weight: every one was "
                    "skipped or had a gradient or a learning rate of zero; look at metrics.jsonl, "
                    "and give more samples or a smaller global_batch"
                )
            self.validator.restore_best()
            self._export()
        return RunResult(checkpoint=self.directory.checkpoint)

    def _make_trainer(self, network: LlavaNetwork) -> Trainer:
        return Trainer(
            self.stage,
            self._make_learner(network),
            make_optimizer(network, self.stage, precision=self.options.precision),
            self.objective.feed,
            processes=self.processes,
            options=self.options,
            on_skip=self.journal.skip,
            on_split=self.journal.split,
            flops_of=partial(batch_flops, self.stage, self.model_config, lora=self.options.lora),
        )

    def _make_validator(self) -> Validator:
        return Validator(
            self.trainer,
            self.objective.held_out,
            directory=self.directory.path,
            content=self.content,
            on_validation=self.callbacks.on_validation,
            warn=self.journal.warn,
        )

    def _make_learner(self, network: LlavaNetwork) -> Learner:
        """Adds adapters, freezes what does not train, and wraps the network."""
        options = self.options
        adapt(network, options.lora, seed=options.seed)
        freeze_parameters(network, self.stage)
        warn_of_whole_parts(network, options.lora, warn=self.journal.warn)
        keep_features(network.vision_encoder, self.stage, options, warn=self.callbacks.on_warning)
        return prepare_learner(
            self.objective.make_learner(network, encode_always=self.processes.shards),
            self.processes,
            recompute=options.recompute,
            compiled=options.compiled,
            replicas=options.replicas,
        ).train()

    def _peak_flops(self) -> float | None:
        """Returns the operations per second of all devices at most; None if unknown."""
        peak = peak_flops(self.processes.device_name, tflops=self.options.peak_tflops)
        return None if peak is None else peak * self.processes.count

    def _decide(self, interruption: Interruption, seconds: float) -> tuple[bool, bool]:
        """Returns whether to stop, and whether to save; the same on every process."""
        steps, progress = self.options.save_steps, self.trainer.progress
        due = progress.step % steps == 0 if steps else seconds >= self.options.save_seconds
        last = progress.step == self.trainer.feed.num_steps or self.validator.is_done
        stop, save_now = self.processes.sum(
            float(interruption.requested), float(self.main and (due or last))
        )
        return stop > 0, save_now > 0

    def _save(self) -> None:
        output = self.directory.path
        try:
            newest = save_snapshot(self.trainer, output, content=self.content)
        except OSError as error:
            problem = f"{output}: step {self.trainer.progress.step} could not be saved ({error});"
            if self.options.save_strict:
                raise TrainingError(
                    f"{problem} make room, then start it again: {describe_resumption(output)}"
                ) from error
            self.journal.warn(
                f"{problem} training continues and the next save tries again; make room"
            )
            return
        if self.main:
            prune(output, keep=self.options.keep, newest=newest)

    def _export(self) -> None:
        """Writes the trained network, and how it was made."""
        network = copy_to_cpu(
            self.trainer.learner.network, self.model_config, self.options.lora, keep=self.main
        )
        if network is not None:
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
            write_result(network, run)
