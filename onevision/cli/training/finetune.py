"""`onevision finetune`: a user's data and a model -> a model that has learned from them."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from onevision.cli.options import AdapterOption, VerifyOption, refuse_options
from onevision.cli.training import finetune_options as own
from onevision.cli.training import options as given
from onevision.plural import counted

if TYPE_CHECKING:
    from onevision.config import ModelConfig
    from onevision.eval.statistics import Interval
    from onevision.train.config import TrainConfig
    from onevision.train.cost.devices import DeviceKind
    from onevision.train.finetune.base import Base
    from onevision.train.finetune.choose import Choice
    from onevision.train.finetune.questions import Questions
    from onevision.train.finetune.request import FinetuneDirectory, FinetuneRequest
    from onevision.train.finetune.samples import CheckedData
    from onevision.train.options import RunOptions


def finetune(
    context: typer.Context,
    data: own.DataArgument,
    start: own.StartOption = "tiny",
    adapter: AdapterOption = None,
    output: own.OutputOption = None,
    method: own.MethodOption = "auto",
    bits: own.BitsOption = None,
    lora_rank: own.RankOption = None,
    epochs: own.EpochsOption = None,
    held_out: own.HeldOutOption = "0.05",
    patience: own.PatienceOption = 3,
    root: own.RootsOption = None,
    device: own.DeviceOption = "auto",
    devices: own.DevicesOption = 1,
    memory: own.MemoryOption = None,
    seed: own.SeedOption = 0,
    verify: VerifyOption = True,
    settings: given.SetOption = None,
    plan: own.PlanOption = False,
) -> None:
    """Fine-tune a model on your data: check, plan, train, evaluate; see docs/finetuning.md.

    The same command continues what was stopped.
    """
    from onevision.cli.training.finetune_tables import show_next_commands
    from onevision.train.finetune.request import FinetuneDirectory, FinetuneRequest, resolve_paths
    from onevision.values import from_plain

    _check_options(context, held_out)
    told = {
        "data": data,
        "start": start,
        "adapter": adapter,
        "verify": verify,
        "method": method,
        "bits": bits,
        "lora_rank": lora_rank,
        "epochs": epochs,
        "held_out": held_out,
        "patience": patience,
        "seed": seed,
        "roots": tuple(map(str, root or ())),
        "settings": tuple(settings or ()),
        "device": device,
        "devices": devices,
        "memory_gib": memory,
    }
    request = resolve_paths(from_plain(FinetuneRequest, told, where="finetune"))
    directory = FinetuneDirectory(output or Path("runs") / Path(data).resolve().stem)
    if not plan:
        directory.agree(request)
        if directory.is_finished:
            print(f"{directory.path} is finished; give another --output to train again")
            show_next_commands(directory)
            return
    _Job(request, directory).run(plan_only=plan)


def _check_options(context: typer.Context, held_out: str) -> None:
    from onevision.train.finetune.request import NOTHING

    if held_out == NOTHING:
        refuse_options(context, {"patience"}, use=f"a run with --held-out {NOTHING}")


class _Job:
    """One call of the command."""

    def __init__(self, request: "FinetuneRequest", directory: "FinetuneDirectory") -> None:
        from onevision.inputs.tokenizer import Tokenizer
        from onevision.train.finetune.base import find_base
        from onevision.train.start import Starts

        self.request, self.directory = request, directory
        self.base: Base = find_base(request, directory)
        self.starts: Starts = Starts(previous=(self.base.directory,))
        self.target: ModelConfig = self.base.source.config
        self.tokenizer: Tokenizer = Tokenizer.from_directory(self.base.source.texts)

    def run(self, *, plan_only: bool) -> None:
        """Takes the steps that are still to be taken."""
        if self.directory.has_begun and not plan_only:
            print(f"{self.directory.path}: continues as it began")
        else:
            config = self._decide(write=not plan_only)
            if config is None:
                return
        config = self._read_settings()
        questions = self._find_questions(config)
        before = self._score(self.starts.previous[0], questions, when="before", config=config)
        self._train(config)
        self._finish(config, questions, before)

    def _decide(self, *, write: bool) -> "TrainConfig | None":
        """Checks the data, chooses what fits and prints both; returns None if that is all."""
        from onevision.cli.planning import plan_and_show
        from onevision.cli.training.finetune_tables import show_choice, show_data
        from onevision.train.cost.amounts import count_mixture
        from onevision.train.finetune.choose import Work, choose, start_stage
        from onevision.train.finetune.samples import (
            check_data,
            fit_samples,
            refuse_too_few,
            refuse_too_many,
        )

        stage, options = start_stage(self.request)
        kind = self._find_device(options)  # a device that is not here is said first
        stage = replace(stage, max_tokens=self.target.language.max_positions)
        checked = check_data(stage, self.target, self.tokenizer, options, planner=plan_and_show)
        show_data(checked)
        refuse_too_many(checked, max_share=options.max_bad_share)
        refuse_too_few(checked, held_out=options.held_out)
        work = Work(
            target=self.target,
            amounts=count_mixture(checked.reader, checked.plan),
            lengths=checked.lengths,
            kind=kind,
            device=self._device(),
        )
        choice = choose(self.request, work)
        show_choice(choice)
        fitted = fit_samples(
            checked, choice.stage, num_workers=choice.options.num_workers, planner=plan_and_show
        )
        if not write:
            return None
        return self._begin(choice, fitted)

    def _find_device(self, options: "RunOptions") -> "DeviceKind":
        import torch

        from onevision.train.cost.devices import find_device

        return find_device(
            self._device(),
            width=self.target.language.hidden_size,
            dtype=torch.bfloat16 if options.precision == "bf16" else torch.float32,
            memory_gib=self.request.memory_gib,
        )

    def _device(self) -> str:
        import torch

        if self.request.device != "auto":
            return self.request.device
        enough = torch.cuda.is_available() and torch.cuda.device_count() >= self.request.devices
        return "cuda" if enough else "cpu"

    def _begin(self, choice: "Choice", fitted: "CheckedData") -> "TrainConfig":
        """Writes what was decided, so that a second call continues with it."""
        from onevision.train.config import TrainConfig, write_train_config
        from onevision.train.finetune.samples import LEFT_OUT, pin_samples

        directory = self.directory
        directory.begin(self.request)
        if note := self.base.write():
            print(note)
        pin_samples(fitted, directory.samples, notes=directory.path / LEFT_OUT)
        config = TrainConfig(
            stage=choice.stage,
            target=self.target,
            options=replace(choice.options, manifest=str(directory.samples.resolve())),
            starts=tuple(map(str, self.starts.directories)),
            tokenizer=self.tokenizer.name,
        )
        write_train_config(config, directory.run.settings)
        return config

    def _read_settings(self) -> "TrainConfig":
        from onevision.train.config import read_train_config

        config = read_train_config(self.directory.run.settings)
        device = config.options.device if self.request.device == "auto" else self.request.device
        if self.request.device == "auto" and device.startswith("cuda"):
            device = self._device()  # it may have moved
        options = replace(config.options, device=device, verify=self.request.verify)
        return replace(config, options=options)

    def _find_questions(self, config: "TrainConfig") -> "Questions | None":
        """Writes the held-out samples as questions, or finds those of an earlier call."""
        from onevision.data.manifest import apply_manifest
        from onevision.data.planner import make_plan
        from onevision.train.finetune.questions import find_questions, write_questions
        from onevision.train.finetune.samples import CheckedData, hold_out, open_samples

        stage, options = config.stage, config.options
        if options.held_out is None:
            return None
        if (found := find_questions(self.directory.questions)) is not None:
            return found
        reader = open_samples(stage, self.target, self.tokenizer, options)
        plan = make_plan(reader, num_workers=options.num_workers)
        plan = apply_manifest(reader.mixture, plan, self.directory.samples)
        checked = CheckedData(reader=reader, plan=plan, findings=(), decoded=False)
        held = hold_out(checked, stage, self.target, self.tokenizer, options, warn=str)
        written = write_questions(*held, self.directory.questions)
        asked = counted(written.num_questions, "held-out question")
        print(f"{asked} in {self.directory.questions}")
        if written.num_left:
            print(
                f"  measured by the loss alone: {counted(written.num_left, 'held-out sample')}; "
                "several videos, or the text <image>, cannot be asked as a benchmark"
            )
        return written

    def _score(
        self, model: Path, questions: "Questions | None", *, when: str, config: "TrainConfig"
    ) -> "dict[str, Interval]":
        from onevision.cli.training.finetune_tables import show_progress
        from onevision.train.finetune.outcome import ask_questions

        if questions is None or not questions.tasks:
            return {}
        with show_progress(f"answers {when}", total=questions.num_questions) as advance:
            return ask_questions(
                model,
                questions,
                self.directory,
                when=when,
                device=config.options.device,
                verify=config.options.verify,
                on_progress=advance,
            )

    def _train(self, config: "TrainConfig") -> None:
        from onevision.cli.training.run import train_and_show, train_in_processes

        if self.request.devices > 1 and "RANK" not in os.environ:
            train_in_processes(config, self.directory.path, count=self.request.devices)
            return
        train_and_show(config, self.tokenizer, self.starts, self.directory.path)

    def _finish(
        self, config: "TrainConfig", questions: "Questions | None", before: "dict[str, Interval]"
    ) -> None:
        from onevision.cli.training.finetune_tables import (
            eval_command,
            finetune_command,
            show_changes,
            show_next_commands,
        )
        from onevision.train.finetune.outcome import compare, write_outcome

        directory = self.directory
        after = self._score(directory.run.checkpoint, questions, when="after", config=config)
        changes = compare(
            directory,
            before=before,
            after=after,
            keep_best=config.options.keep_best,
        )
        training = finetune_command(self.request, directory)
        asking = eval_command(directory) or training
        options = config.options
        write_outcome(
            directory,
            changes,
            asking=asking,
            training=training,
            is_chosen=options.keep_best or options.early_stop > 0,
        )
        show_changes(changes)
        show_next_commands(directory)
