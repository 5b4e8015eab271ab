"""Pictures and a model -> a model that has learned from its own descriptions, in rounds.

    runs/improve/
        improve.json         what the rounds were told; others are refused by name
        before.json          which held-out questions the model answers right
        round-1/captions/    a job: each picture described              recaption.py
        round-1/kept/        descriptions that pass the gates           gates/
        round-1/run/         the knowledge stage over them              learn.py
        round-1/after.json   the same questions, answered by the new model
        round-2/ ...         begins with round-1/run/checkpoint
        results.json         accuracy before and after each round, with intervals

This is the self-improvement of 2408.03326, section 4.1. Each step that is done is not done again.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from onevision.curate.budget import Limits
from onevision.curate.gates.apply import GateSummary, apply_gates
from onevision.curate.gates.choose import parse_gates
from onevision.curate.job import JobResult, Progress, run_job
from onevision.curate.learning.learn import learn, plan_learning
from onevision.curate.learning.measure import Measure, Measured, measure_once
from onevision.curate.local_writer import LocalWriter
from onevision.curate.output import MIXTURE
from onevision.curate.recaption import RECAPTION_PROMPTS, RecaptionJob
from onevision.data.mixture import open_mixture
from onevision.data.sources import RecordSource
from onevision.errors import ConfigError, DataError
from onevision.eval.benchmark import network_fingerprint
from onevision.files import Line, write_json
from onevision.generate.answer import Model, load
from onevision.locks import lock_directory
from onevision.train.report.journal import Callbacks

SETTINGS, BEFORE, AFTER, RESULTS = "improve.json", "before.json", "after.json", "results.json"


@dataclass(frozen=True, kw_only=True)
class ImproveConfig:
    """How a model improves itself."""

    num_rounds: int = 2
    language: str = "en"
    # What descriptions must pass, as for `curate gate`.
    gates: tuple[str, ...] = ("length=5-400", "duplicates")
    questions: str = "single_image"
    num_questions: int = 600
    # Of the training: "key=value" texts.
    settings: tuple[str, ...] = ()
    seed: int = 0
    prompts: Path = RECAPTION_PROMPTS

    def __post_init__(self) -> None:
        if not 1 <= self.num_rounds <= 100:
            raise ConfigError(f"--rounds is {self.num_rounds}; expected 1 to 100")


@dataclass(frozen=True, kw_only=True)
class RoundResult:
    """What a round made."""

    number: int
    num_captions: int
    num_kept: int
    measured: Measured
    gain: Line  # over the model before the first round


@dataclass(frozen=True, kw_only=True)
class ImproveCallbacks:
    """What is called with progress and with each round's result."""

    on_message: Callable[[str], object] = str
    on_progress: Callable[[Progress], object] = str
    run: Callbacks = field(default_factory=Callbacks)


@dataclass(frozen=True, kw_only=True)
class Improvement:
    """The loop: which pictures, which model, where to."""

    sources: Sequence[RecordSource]
    start: Path  # a checkpoint
    output: Path
    measure: Measure
    config: ImproveConfig = field(default_factory=ImproveConfig)
    device: str = "cpu"
    at_once: int = 8
    callbacks: ImproveCallbacks = field(default_factory=ImproveCallbacks)

    def run(self) -> Path | None:
        """Runs all rounds, or resumes; returns the last checkpoint, None if it was stopped.

        Raises ConfigError for other settings than the rounds began with, DataError if no
        description is kept, and as `run_job` and `run_stage` do.
        """
        with lock_directory(self.output, holder="job"):
            # What is misspelt is said before any work.
            parse_gates(self.config.gates)
            plan_learning(self.start, self.output, settings=self.config.settings)
            self._agree()
            before = measure_once(
                self.output / BEFORE, lambda: self.measure(self._load(self.start))
            )
            self.callbacks.on_message(f"before: {_spell(before)}")
            current, results = self.start, list[RoundResult]()
            for number in range(1, self.config.num_rounds + 1):
                place = self.output / f"round-{number}"
                made = self._describe(current, place)
                kept = self._keep(place)
                checkpoint = learn(
                    current,
                    place / "kept" / MIXTURE,
                    place / "run",
                    settings=(*self.config.settings, f"seed={self.config.seed}"),
                    callbacks=self.callbacks.run,
                )
                if checkpoint is None:
                    return None
                current = checkpoint
                after = self._measure(current, place / AFTER)
                results.append(_result(number, made, kept, after, before))
                self.callbacks.on_message(_describe_round(results[-1]))
                self._write(before, results)
            return current

    def _measure(self, checkpoint: Path, path: Path) -> Measured:
        return measure_once(path, lambda: self.measure(self._load(checkpoint)))

    def _load(self, checkpoint: Path) -> Model:
        return load(checkpoint, device=self.device)

    def _describe(self, checkpoint: Path, place: Path) -> JobResult:
        writer = LocalWriter(self._load(checkpoint), at_once=self.at_once)
        job = RecaptionJob(
            sources=self.sources,
            language=self.config.language,
            writer=writer.identity,
            seed=self.config.seed,
            prompts=self.config.prompts,
        )
        return run_job(
            job,
            writer,
            place / "captions",
            limits=Limits(),
            on_progress=self.callbacks.on_progress,
        )

    def _keep(self, place: Path) -> GateSummary:
        if not (place / "captions" / MIXTURE).is_file():
            raise DataError(f"{place / 'captions'}: no picture was described; see provenance.jsonl")
        mixture = open_mixture(place / "captions" / MIXTURE)
        summary = apply_gates(mixture, parse_gates(self.config.gates), place / "kept")
        if not summary.num_kept:
            raise DataError(
                f"{place / 'kept'}: of {summary.num_records:,} descriptions none passes the gates; "
                "see left_out.jsonl, and give others with --gate"
            )
        return summary

    def _agree(self) -> None:
        settings = {
            "start": str(self.start.resolve()),
            "fingerprint": network_fingerprint(self._load(self.start)),
            "pictures": [[source.name, len(source)] for source in self.sources],
            **{name: str(value) for name, value in vars(self.config).items()},
        }
        settings.pop("num_rounds")  # more may follow
        path = self.output / SETTINGS
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            changed = [name for name in settings if before.get(name) != settings[name]]
            if changed:
                raise ConfigError(
                    f"{self.output}: its rounds began with another {changed[0]} "
                    f"({before.get(changed[0])!s:.80}); give another --output"
                )
        write_json(path, settings)

    def _write(self, before: Measured, results: Sequence[RoundResult]) -> None:
        rounds = [
            {
                "round": one.number,
                "captions": one.num_captions,
                "kept": one.num_kept,
                "accuracy": asdict(one.measured.interval),
                "gain": one.gain,
            }
            for one in results
        ]
        write_json(
            self.output / RESULTS,
            {
                "questions": self.config.questions,
                "num_questions": len(before.right),
                "before": asdict(before.interval),
                "rounds": rounds,
            },
        )


def _result(
    number: int, made: JobResult, kept: GateSummary, after: Measured, before: Measured
) -> RoundResult:
    return RoundResult(
        number=number,
        num_captions=made.summary.num_kept,
        num_kept=kept.num_kept,
        measured=after,
        gain=asdict(after.gain_over(before)),
    )


def _describe_round(result: RoundResult) -> str:
    gain = result.gain
    return (
        f"round {result.number}: {result.num_captions:,} descriptions, {result.num_kept:,} kept; "
        f"{_spell(result.measured)}, {_percent(gain['value'])} points against before "
        f"({_percent(gain['low'])} to {_percent(gain['high'])})"
    )


def _spell(measured: Measured) -> str:
    found = measured.interval
    return (
        f"{100 * found.value:.1f} % of {len(measured.right):,} held-out questions right "
        f"({100 * found.low:.1f} to {100 * found.high:.1f})"
    )


def _percent(share: object) -> str:
    return f"{100 * float(str(share)):+.1f}"
