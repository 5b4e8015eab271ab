"""A user's data -> what is wrong with them, and the samples to learn from and to hold out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onevision.config import ModelConfig
from onevision.data.check import Finding, SourceSummary, find_problems, summarize
from onevision.data.manifest import write_manifest
from onevision.data.plan import Plan
from onevision.data.planner import make_plan
from onevision.data.samples import SampleReader
from onevision.errors import DataError
from onevision.files import write_lines
from onevision.inputs.processor import Processor
from onevision.inputs.tokenizer import Tokenizer
from onevision.plural import counted
from onevision.train.mixture_feed import open_reader
from onevision.train.options import RunOptions
from onevision.train.parallel import Processes
from onevision.train.stage import Stage, stage_config
from onevision.train.validation.held_out import split_once
from onevision.train.validation.split import MIN_SAMPLES, parse_share

# More samples are checked by the headers of their media, unless they were decoded before.
MAX_DECODED = 20_000
LEFT_OUT = "left_out.jsonl"

# Makes a plan; cli/planning.py shows how far it is.
Planner = Callable[..., Plan]


@dataclass(frozen=True, kw_only=True)
class CheckedData:
    """The samples of a user's data, each checked as it would be learned."""

    reader: SampleReader
    plan: Plan
    findings: tuple[Finding, ...]
    # Whether every picture was decoded.
    decoded: bool

    @property
    def num_rows(self) -> int:
        """All samples."""
        return len(self.reader.mixture)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of every usable sample."""
        return np.concatenate(
            [one.num_tokens[one.usable].astype(np.int64) for one in self.plan.datasets]
        )

    @property
    def left_out(self) -> tuple[Finding, ...]:
        """Why samples cannot be learned from."""
        return tuple(one for one in self.findings if one.must_fix)

    @property
    def summaries(self) -> list[SourceSummary]:
        """Statistics of each data set."""
        return summarize(self.reader.mixture, self.plan)


def check_data(
    stage: Stage,
    target: ModelConfig,
    tokenizer: Tokenizer,
    options: RunOptions,
    *,
    planner: Planner = make_plan,
) -> CheckedData:
    """Opens and checks the stage's data: every record, every picture. Raises DataError."""
    reader = open_samples(stage, target, tokenizer, options)
    decoded = len(reader.mixture) <= MAX_DECODED
    plan = planner(reader, deep=decoded, num_workers=options.num_workers)
    checked = CheckedData(
        reader=reader,
        plan=plan,
        findings=tuple(find_problems(reader.mixture, plan)),
        decoded=decoded,
    )
    if not checked.num_rows:
        raise DataError(f"{stage.mixture}: it holds no samples; give a file or folder with some")
    if not len(checked.lengths):
        reason = f"; the first: {checked.left_out[0].message}" if checked.left_out else ""
        raise DataError(
            f"{stage.mixture}: none of {counted(checked.num_rows, 'sample')} is usable{reason}"
        )
    return checked


def refuse_too_many(checked: CheckedData, *, max_share: float) -> None:
    """Raises DataError if more samples are unusable than a run may leave out."""
    count, total = len(checked.left_out), checked.num_rows
    if count > max_share * total:
        raise DataError(
            f"{count:,} of {counted(total, 'sample')} cannot be learned from, more than the "
            f"{max_share:.0%} that may be left out; mend them, or learn from the others: "
            f"--set max_bad_share={min(1.0, round(count / total + 0.01, 2))}"
        )


def refuse_too_few(checked: CheckedData, *, held_out: str | None) -> None:
    """Raises DataError if a share is to be held out of fewer samples than can be divided."""
    count = len(checked.lengths)
    if held_out is not None and parse_share(held_out) is not None and count < MIN_SAMPLES:
        raise DataError(
            f"{counted(count, 'usable sample')}, too few to hold some out: give {MIN_SAMPLES} at "
            "least, or learn from all without measuring (--held-out none), or give a file of "
            "others (--held-out FILE)"
        )


def open_samples(
    stage: Stage, target: ModelConfig, tokenizer: Tokenizer, options: RunOptions
) -> SampleReader:
    """Opens the stage's data by its rules. Raises DataError."""
    processor = Processor(stage_config(stage, target).inputs, tokenizer)
    return open_reader(stage, processor, seed=options.seed, roots=options.media_roots)


def fit_samples(
    checked: CheckedData, stage: Stage, *, num_workers: int, planner: Planner = make_plan
) -> CheckedData:
    """Returns the samples as they fit into the stage's packs; those that were unusable stay out."""
    reader = replace(checked.reader, max_tokens=stage.max_tokens)
    plan = planner(reader, num_workers=num_workers)
    kept = tuple(
        replace(one.keep(before.usable), faults=())
        for one, before in zip(plan.datasets, checked.plan.datasets, strict=True)
    )
    return replace(checked, reader=reader, plan=Plan(datasets=kept))


def pin_samples(checked: CheckedData, directory: Path, *, notes: Path) -> None:
    """Writes the manifest of the usable samples, and why others are left out."""
    write_manifest(checked.reader.mixture, checked.plan, directory)
    if checked.left_out:
        write_lines(
            notes,
            [
                {"source": one.source, "row": one.row, "kind": one.kind, "reason": one.message}
                for one in checked.left_out
            ],
        )


def hold_out(
    checked: CheckedData,
    stage: Stage,
    target: ModelConfig,
    tokenizer: Tokenizer,
    options: RunOptions,
    *,
    warn: Callable[[str], object],
) -> tuple[SampleReader, Plan]:
    """Returns the samples that a run with these options holds out. Raises DataError."""

    def open_other(path: Path) -> tuple[SampleReader, Plan]:
        other = open_samples(stage.learning_from(str(path)), target, tokenizer, options)
        return other, make_plan(other, num_workers=options.num_workers)

    _, reader, plan = split_once(
        checked.reader,
        checked.plan,
        options=options,
        processes=Processes(),
        open_other=open_other,
        warn=warn,
    )
    return reader, plan


def count_by_kind(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Returns findings by kind, in the order in which kinds first appear."""
    found: dict[str, list[Finding]] = {}
    for one in findings:
        found.setdefault(one.kind, []).append(one)
    return found
