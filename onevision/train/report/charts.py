"""The lines of a run -> its charts: curves with names, and a scale for their values."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onevision.train.report.display import Line

# A chart has eight curves; more sources are left to the table.
STYLES = ("s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7")

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Run:
    """The lines of one run, in order; of a step that was taken twice, the last."""

    name: str
    lines: tuple[Line, ...]

    @property
    def steps(self) -> Values:
        """The number of every step. Shape [L]."""
        return self.values("step")

    def values(self, name: str) -> Values:
        """Return a figure of every step; NaN where it was not finite. Shape [L]."""
        return np.array([line.get(name) for line in self.lines], np.float64)

    def inner(self, name: str) -> dict[str, tuple[Values, Values]]:
        """Return steps and values of every source or part, the most frequent first."""
        found: dict[str, list[tuple[int, float]]] = {}
        for line in self.lines:
            for key, value in line[name].items():
                found.setdefault(key, []).append((line["step"], value))
        ordered = sorted(found.items(), key=lambda one: -len(one[1]))
        tables = {key: np.array(points, np.float64) for key, points in ordered}
        return {key: (table[:, 0], table[:, 1]) for key, table in tables.items()}


@dataclass(frozen=True, kw_only=True)
class Series:
    """One curve: `values` at `steps`; a faint one lies behind the others."""

    name: str
    steps: Values
    values: Values
    style: str = "s0"
    faint: bool = False


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Curves with one scale; `say` writes its values."""

    title: str
    series: tuple[Series, ...]
    from_zero: bool = False  # else the scale fits the values, and may be logarithmic
    say: Callable[[float], str]

    @property
    def has_values(self) -> bool:
        """Whether there is anything to draw."""
        return any(np.isfinite(one.values).any() for one in self.series)

    def last(self, series: Series) -> str:
        """Return the last value of a curve in words; nothing of a faint one."""
        values = series.values[np.isfinite(series.values)]
        return "" if series.faint or not len(values) else self.say(float(values[-1]))


def make_charts(run: Run) -> tuple[Chart, ...]:
    """Return the charts of a run, in reading order."""
    sources = {k: (at, smooth(v)) for k, (at, v) in run.inner("loss_per_source").items()}
    charts = (
        Chart(title="Loss", series=_measured(run, "loss"), say=short),
        Chart(title="Loss by source, smoothed", series=_several(sources), say=short),
        Chart(
            title="Learning rate",
            series=_several(run.inner("learning_rates")),
            from_zero=True,
            say=short,
        ),
        Chart(
            title="Gradient norm, before clipping", series=_measured(run, "grad_norm"), say=short
        ),
        Chart(
            title="Tokens a second",
            series=_measured(run, "tokens_per_second"),
            from_zero=True,
            say=short,
        ),
        Chart(
            title="Time spent waiting for data",
            series=_measured(run, "data_wait"),
            from_zero=True,
            say=percent,
        ),
    )
    return charts + tuple(chart for chart in _at_times(run) if chart.has_values)


def _at_times(run: Run) -> Iterator[Chart]:
    """Give the charts of what some runs measure: of known devices, of pairs of answers."""
    yield Chart(
        title="Share of the devices' peak (MFU)",
        series=_measured(run, "mfu"),
        from_zero=True,
        say=percent,
    )
    yield Chart(
        title="Pairs whose chosen answer has the higher reward",
        series=_measured(run, "accuracy"),
        from_zero=True,
        say=percent,
    )
    rewards = {"chosen": "chosen_reward", "rejected": "rejected_reward", "margin": "margin"}
    yield Chart(
        title="Rewards, smoothed",
        series=_several({k: (run.steps, smooth(run.values(v))) for k, v in rewards.items()}),
        say=short,
    )


def _measured(run: Run, name: str) -> tuple[Series, ...]:
    steps, values = run.steps, run.values(name)
    return (
        Series(name="each step", steps=steps, values=values, faint=True),
        Series(name="smoothed", steps=steps, values=smooth(values)),
    )


def _several(curves: dict[str, tuple[Values, Values]]) -> tuple[Series, ...]:
    return tuple(
        Series(name=name, steps=steps, values=values, style=style)
        for style, (name, (steps, values)) in zip(STYLES, curves.items(), strict=False)
    )


def smooth(values: Values) -> Values:
    """Average exponentially over about a fiftieth of a run, at least 4 values; NaN stays NaN."""
    keep = 1 - 1 / max(4.0, len(values) / 50)
    total = weight = 0.0
    smoothed = np.full_like(values, np.nan)
    for index in np.flatnonzero(np.isfinite(values)):
        total, weight = keep * total + values[index], keep * weight + 1
        smoothed[index] = total / weight
    return smoothed


def short(value: float) -> str:
    """Write a number in few characters: 12k, 7500, 0.25, 5e-5."""
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e4)):
        if abs(value) >= size:
            return f"{value / min(size, 1e3 if unit == 'k' else size):.4g}{unit}"
    if value == 0 or abs(value) >= 1e-2:
        return f"{value:.4g}"
    digits, exponent = f"{value:.2e}".split("e")
    return f"{float(digits):g}e{int(exponent)}"


def percent(share: float) -> str:
    """Write a share of 0 to 1."""
    return f"{100 * share:.3g} %"


def went_wrong(run: Run) -> tuple[tuple[str, str, Values], ...]:
    """Return (style, words, steps) of what is marked in every chart."""
    skipped = np.array([line["skipped"] for line in run.lines], bool)
    odd = ~np.isfinite(run.values("loss")) & ~skipped
    return (
        ("skipped", "skipped steps", run.steps[skipped]),
        ("odd", "losses not finite", run.steps[odd]),
    )


def summary(run: Run) -> str:
    """Say in a line what the run was."""
    last = run.lines[-1]
    steps = f"{last['step']:,} of {last['num_steps']:,} steps"
    return f"{last['stage']}: {steps}, {last['samples']:,} samples in {_duration(run)}"


def _duration(run: Run) -> str:
    seconds = round(float(run.values("elapsed_seconds")[-1]))
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours:,} h {minutes:02} min" if hours else f"{minutes} min {seconds % 60:02} s"


def totals(run: Run) -> dict[str, str]:
    """Return what a run came to, in words; sums are over the recorded steps."""
    last = run.lines[-1]
    seconds, mfu = run.values("seconds"), run.values("mfu")
    tokens, learned = run.values("tokens").sum(), run.values("supervised_tokens").sum()
    known = np.isfinite(mfu)
    total = max(float(seconds.sum()), 1e-9)
    rows = {
        "stage": last["stage"],
        "steps": f"{last['step']:,} of {last['num_steps']:,}",
        "steps recorded": f"{len(run.lines):,}",
        **{said: f"{len(steps):,}" for _, said, steps in went_wrong(run)},
        "samples": f"{last['samples']:,}",
        "tokens": f"{tokens:,.0f}",
        "tokens with a label": f"{learned:,.0f} ({percent(learned / max(tokens, 1))})",
        "time": _duration(run),
        "tokens a second": f"{tokens / total:,.0f}",
        "waiting for data": percent(run.values("data_seconds").sum() / total),
        "peak memory": f"{run.values('memory_bytes').max() / 2**30:.2f} GiB",
        "floating-point operations": short(run.values("flops").sum()),
    }
    if known.any():
        rows["of the devices' peak"] = percent(np.average(mfu[known], weights=seconds[known]))
    return rows
