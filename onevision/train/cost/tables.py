"""A TrainingPlan -> tables of text: sources, operations, memory, the run. cli/ prints them."""

from collections import Counter
from dataclasses import dataclass

from onevision.plural import counted
from onevision.train.cost.devices import GIB
from onevision.train.cost.plan import UTILISATION, TrainingPlan

UNITS = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))
# If there are more sources, they are added up by scenario.
MAX_SOURCES = 24


@dataclass(frozen=True, kw_only=True)
class Table:
    """A header, rows of the same length, and remarks below them."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    remarks: tuple[str, ...] = ()


def tables(plan: TrainingPlan) -> tuple[Table, ...]:
    """Returns a plan as tables, in reading order."""
    return (_sources(plan), _operations(plan), _memory(plan), _run(plan))


def compact(count: float) -> str:
    """Formats a count with three digits: 12.6G."""
    for unit, size in UNITS:
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.3g}"


def _sources(plan: TrainingPlan) -> Table:
    totals: dict[str, Counter[str]] = {}
    by_scenario = len(plan.amounts) > MAX_SOURCES
    for amount in plan.amounts:
        row = totals.setdefault(amount.scenario if by_scenario else amount.name, Counter())
        count = (amount.num_samples or 0) * plan.stage.epochs
        row["samples"] += count
        for column in ("visual_tokens", "text_tokens", "labelled_tokens"):
            row[column] += round(count * vars(amount)[column])
    remarks = []
    if plan.simulated:
        remarks.append("simulated: tokens per sample are assumed, not counted")
    if plan.uncounted:
        remarks.append(f"left out, no count published: {', '.join(plan.uncounted)}")
    return Table(
        title=f"{plan.stage.name}: what it reads",
        header=("source", "samples", "visual tokens", "text tokens", "labelled"),
        rows=tuple(
            (
                name,
                f"{row['samples']:,}",
                *(compact(row[c]) for c in ("visual_tokens", "text_tokens", "labelled_tokens")),
            )
            for name, row in totals.items()
        ),
        remarks=tuple(remarks),
    )


def _operations(plan: TrainingPlan) -> Table:
    return Table(
        title="operations",
        header=("part", "forward", "backward", "recomputed", "share"),
        rows=tuple(
            (
                part.part,
                f"{part.forward:.2e}",
                f"{part.backward:.2e}",
                f"{part.recomputed:.2e}",
                f"{part.total / plan.total_operations:.1%}",
            )
            for part in plan.operations
        ),
        remarks=(f"{plan.total_operations:.3g} in all",),
    )


def _memory(plan: TrainingPlan) -> Table:
    rows = [(name, f"{size / GIB:.2f}") for name, size in vars(plan.memory).items()]
    total, has = plan.memory.total / GIB, plan.kind.memory_bytes / GIB
    rows += [("steps, together", f"{total:.2f}"), ("at the start", f"{plan.ends.start / GIB:.2f}")]
    rows += [("at the end", f"{plan.ends.end / GIB:.2f}")]
    rows += [
        (f"{name}, in host memory", f"{size / GIB:.2f}")
        for name, size in vars(plan.host).items()
        if size
    ]
    peak = max(total, plan.ends.start / GIB, plan.ends.end / GIB)
    verdict = "fits" if plan.fits else _advise(plan)
    return Table(
        title="memory of one device, GiB",
        header=("holds", "GiB"),
        rows=tuple(rows),
        remarks=(f"{peak:.1f} of the {has:.0f} GiB of {plan.kind.name}; {verdict}",),
    )


def _advise(plan: TrainingPlan) -> str:
    """Returns what would make a plan fit."""
    several = "more devices to a sequence (context) or to a layer (tensor), "
    more = "" if plan.num_devices == 1 else several
    ways = f"{more}recompute=true, adapters (lora_rank=16), or a smaller max_tokens"
    if plan.shards < plan.num_devices:
        return f"does not fit: set sharing=shard or fewer replicas, {ways}"
    return f"does not fit: more devices with sharing=shard, {ways}"


def format_hours(hours: float) -> str:
    """Formats hours: 37.3 hours, 4.2 minutes, 12 seconds."""
    if hours >= 1:
        return f"{hours:,.1f} hours"
    if hours * 60 >= 1:
        return f"{hours * 60:.1f} minutes"
    return counted(max(1, round(hours * 3600)), "second")


def _partners(plan: TrainingPlan) -> tuple[tuple[str, str], ...]:
    """Returns the rows of a plan whose sequences, or layers, are divided."""
    sent = f"{plan.sent / GIB:.2f} GiB"
    if plan.tensor > 1:
        sums = f"{sent}, sums and patches"
        return (("devices to a layer", str(plan.tensor)), ("each sends for a sequence", sums))
    if plan.context == 1:
        return ()
    parts = f"{sent}, attention and patches"
    return (("devices to a sequence", str(plan.context)), ("each sends for it", parts))


def _run(plan: TrainingPlan) -> Table:
    copy = max(plan.shards, plan.tensor)
    rows = (
        ("optimiser steps", f"{plan.num_steps:,}"),
        ("samples", f"{plan.num_samples:,}"),
        ("tokens", compact(plan.num_tokens)),
        ("sequences per step", f"{plan.sequences_per_step:,} of {plan.stage.max_tokens:,} tokens"),
        ("devices", f"{plan.num_devices} x {plan.kind.name}, {copy} to a copy"),
        *_partners(plan),
        ("arithmetic", plan.precision),
        ("devices busy", f"{plan.busy:.0%}"),
        ("time", format_hours(plan.hours)),
        ("dollars", f"{plan.dollars:,.0f}" if plan.dollars >= 10 else f"{plan.dollars:.2f}"),
    )
    return Table(
        title="the run",
        header=("what", "how much"),
        rows=rows,
        remarks=(
            f"assumed: {UTILISATION:.0%} of {plan.kind.peak_flops / 1e12:.4g} TFLOP/s, "
            f"${plan.kind.price_per_hour:.2f} per device and hour (--price)",
        ),
    )
