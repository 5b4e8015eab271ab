"""The metrics of a run -> its charts: named curves, and how their values are written."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onevision.files import Line
from onevision.plots import SERIES
from onevision.plural import counted

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class RunMetrics:
    """The lines of one run, in order; for a step that was taken twice, the last."""

    name: str
    lines: tuple[Line, ...]
    # The held-out losses, if some were measured.
    validation: tuple[Line, ...] = ()

    @property
    def steps(self) -> Values:
        """The step numbers. Shape [L]."""
        return self.values("step")

    @property
    def skipped_steps(self) -> Values:
        """The steps that left the weights unchanged."""
        return self.steps[self._skipped]

    @property
    def not_finite_steps(self) -> Values:
        """The other steps whose loss was not finite."""
        return self.steps[~np.isfinite(self.values("loss")) & ~self._skipped]

    def values(self, name: str) -> Values:
        """Returns a figure by step, NaN if it was not finite. Shape [L]."""
        return np.array([line.get(name) for line in self.lines], np.float64)

    def curves_within(self, name: str) -> dict[str, tuple[Values, Values]]:
        """Returns steps and values by source or by part, the most frequent first."""
        found: dict[str, list[tuple[int, float]]] = {}
        for line in self.lines:
            for key, value in line[name].items():
                found.setdefault(key, []).append((line["step"], value))
        ordered = sorted(found.items(), key=lambda one: -len(one[1]))
        tables = {key: np.array(points, np.float64) for key, points in ordered}
        return {key: (table[:, 0], table[:, 1]) for key, table in tables.items()}

    @property
    def _skipped(self) -> NDArray[np.bool_]:
        return np.array([line["skipped"] for line in self.lines], bool)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """`values` at `steps`; a faint curve lies behind the others."""

    name: str
    steps: Values
    values: Values
    style: str = "s0"
    is_faint: bool = False


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Curves that share a scale; `say` writes its values."""

    title: str
    curves: tuple[Curve, ...]
    from_zero: bool = False  # else the scale fits the values, and may be logarithmic
    say: Callable[[float], str]

    @property
    def values(self) -> Values:
        """All finite values."""
        values = np.concatenate([np.empty(0), *(one.values for one in self.curves)])
        return values[np.isfinite(values)]

    def last(self, curve: Curve) -> str:
        """Returns the last finite value of a curve in words; "" for a faint curve."""
        values = curve.values[np.isfinite(curve.values)]
        return "" if curve.is_faint or not len(values) else self.say(float(values[-1]))


def make_charts(run: RunMetrics) -> tuple[Chart, ...]:
    """Returns the charts of a run, in reading order; the last ones only if they were measured."""
    sources = {k: (at, smooth(v)) for k, (at, v) in run.curves_within("loss_per_source").items()}
    charts = (
        Chart(title="Loss (nats)", curves=_measured_curves(run, "loss"), say=short),
        Chart(title="Loss by source, smoothed (nats)", curves=_several(sources), say=short),
        Chart(
            title="Learning rate",
            curves=_several(run.curves_within("learning_rates")),
            from_zero=True,
            say=short,
        ),
        Chart(
            title="Gradient norm, before clipping",
            curves=_measured_curves(run, "grad_norm"),
            say=short,
        ),
        Chart(
            title="Tokens per second",
            curves=_measured_curves(run, "tokens_per_second"),
            from_zero=True,
            say=short,
        ),
        _shares(run, "data_wait", title="Time spent waiting for data"),
    )
    rewards = {"chosen": "chosen_reward", "rejected": "rejected_reward", "margin": "margin"}
    held_out = tuple(
        np.array([line[name] for line in run.validation], np.float64) for name in ("step", "loss")
    )
    optional = (
        Chart(
            title="Loss of held-out samples (nats)",
            curves=(Curve(name="held out", steps=held_out[0], values=held_out[1]),),
            say=short,
        ),
        _shares(run, "mfu", title="Model FLOPs utilisation (MFU)"),
        _shares(run, "accuracy", title="Pairs whose chosen answer has the higher reward"),
        Chart(
            title="Rewards, smoothed",
            curves=_several({k: (run.steps, smooth(run.values(v))) for k, v in rewards.items()}),
            say=short,
        ),
        *_reward_charts(run),
    )
    return charts + tuple(chart for chart in optional if len(chart.values))


def _reward_charts(run: RunMetrics) -> tuple[Chart, ...]:
    """Returns the charts of learning from rewards: how good answers are, and how long."""
    named = {
        "mean of the answers": "reward",
        "best answer to a prompt": "best_reward",
        "prompts that teach": "informative",
        "ended by themselves": "stopped",
    }
    shares = {"clipped": "clipped", "left out": "left_out"}

    def several(names: dict[str, str]) -> tuple[Curve, ...]:
        return _several({k: (run.steps, smooth(run.values(v))) for k, v in names.items()})

    return (
        Chart(title="Reward, smoothed", curves=several(named), from_zero=True, say=percent),
        Chart(
            title="Tokens of an answer",
            curves=_measured_curves(run, "answer_tokens"),
            from_zero=True,
            say=short,
        ),
        Chart(title="Tokens clipped", curves=several(shares), from_zero=True, say=percent),
    )


def _shares(run: RunMetrics, name: str, *, title: str) -> Chart:
    return Chart(title=title, curves=_measured_curves(run, name), from_zero=True, say=percent)


def _measured_curves(run: RunMetrics, name: str) -> tuple[Curve, ...]:
    steps, values = run.steps, run.values(name)
    return (
        Curve(name="each step", steps=steps, values=values, is_faint=True),
        Curve(name="smoothed", steps=steps, values=smooth(values)),
    )


def _several(curves: dict[str, tuple[Values, Values]]) -> tuple[Curve, ...]:
    """Returns as many curves as there are colours; a page's table has the rest."""
    return tuple(
        Curve(name=name, steps=steps, values=values, style=style)
        for style, (name, (steps, values)) in zip(SERIES, curves.items(), strict=False)
    )


def smooth(values: Values) -> Values:
    """Averages exponentially over about a fiftieth of a run, at least 4 values; NaN stays NaN."""
    keep = 1 - 1 / max(4.0, len(values) / 50)
    total = weight = 0.0
    smoothed = np.full_like(values, np.nan)
    for index in np.flatnonzero(np.isfinite(values)):
        total, weight = keep * total + values[index], keep * weight + 1
        smoothed[index] = total / weight
    return smoothed


def short(value: float) -> str:
    """Writes a number in few characters: 12k, 7500, 0.25, 5e-5."""
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e4)):
        if abs(value) >= size:
            return f"{value / min(size, 1e3 if unit == 'k' else size):.4g}{unit}"
    if value == 0 or abs(value) >= 1e-2:
        return f"{value:.4g}"
    digits, exponent = f"{value:.2e}".split("e")
    return f"{float(digits):g}e{int(exponent)}"


def percent(share: float) -> str:
    """Writes a share of 0 to 1."""
    return f"{100 * share:.3g} %"


def summary(run: RunMetrics) -> str:
    """Returns a line that says what the run was and how long it took."""
    last = run.lines[-1]
    steps = f"{last['step']:,} of {last['num_steps']:,} steps"
    return f"{last['stage']}: {steps}, {counted(last['samples'], 'sample')} in {_duration(run)}"


def _duration(run: RunMetrics) -> str:
    seconds = round(float(run.values("elapsed_seconds")[-1]))
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours:,} h {minutes:02} min" if hours else f"{minutes} min {seconds % 60:02} s"


def totals(run: RunMetrics) -> dict[str, str]:
    """Returns the totals of a run, in words; sums are over the recorded steps."""
    last = run.lines[-1]
    seconds, mfu = run.values("seconds"), run.values("mfu")
    tokens, learned = run.values("tokens").sum(), run.values("supervised_tokens").sum()
    known = np.isfinite(mfu)
    total = max(float(seconds.sum()), 1e-9)
    rows = {
        "stage": last["stage"],
        "steps": f"{last['step']:,} of {last['num_steps']:,}",
        "steps recorded": f"{len(run.lines):,}",
        "skipped steps": f"{len(run.skipped_steps):,}",
        "losses not finite": f"{len(run.not_finite_steps):,}",
        "samples": f"{last['samples']:,}",
        "tokens": f"{tokens:,.0f}",
        "tokens with a label": f"{learned:,.0f} ({percent(learned / max(tokens, 1))})",
        "time": _duration(run),
        "tokens per second": f"{tokens / total:,.0f}",
        "waiting for data": percent(run.values("data_seconds").sum() / total),
        "peak memory": f"{run.values('memory_bytes').max() / 2**30:.2f} GiB",
        "floating-point operations": short(run.values("flops").sum()),
    }
    if known.any():
        rows["model FLOPs utilisation"] = percent(np.average(mfu[known], weights=seconds[known]))
    return rows
