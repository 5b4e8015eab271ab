"""The answers of a run -> one self-contained page: curves, worst slices, wrong answers.

Only the directory of the answers is read, so that the page can be made anywhere, in seconds.
"""

import html
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from string import Template

from onevision import plots
from onevision.eval.statistics import Interval
from onevision.files import Line, write_bytes, write_text
from onevision.plural import counted
from onevision.science.probes.charts import NAMES, curve_svg, sheet_png
from onevision.science.probes.results import Curve, Point, ProbeResults

PAGE = Template((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))
NUM_SLICES, NUM_CONFUSIONS = 20, 6


def write_page(results: ProbeResults, path: Path, *, warn: Callable[[str], object] = str) -> Path:
    """Writes the page, and beside it a PNG of all curves, of the same name; returns the page.

    Without matplotlib there are no curves, only their numbers, and `warn` is called once.
    """
    if plots.is_installed():
        picture = sheet_png(results.curves, title=_title(results))
        write_bytes(path.with_suffix(".png"), picture)
    else:
        warn(f"{path} has no curves: {plots.MISSING}")
    write_text(path, make_page(results))
    return path


def make_page(results: ProbeResults) -> str:
    """Returns the page as HTML."""
    return PAGE.substitute(
        title=html.escape(_title(results)),
        summary=html.escape(_summary(results)),
        style=plots.style_sheet(),
        keys="".join(
            f'<li><i style="background: var(--{style})"></i>{html.escape(name)}'
            for name, style in zip(NAMES, ("s0", "s1", "s7"), strict=True)
        ),
        overview="\n".join(_overview(curve) for curve in results.curves),
        probes="\n".join(_section(results, curve) for curve in results.curves),
        slices="\n".join(_slices(results)) or "<tr><td colspan=5>None has enough questions.",
        further="\n".join(f"<li>{html.escape(line)}" for line in further(results)),
        settings=html.escape(_settings(results)),
    )


def further(results: ProbeResults) -> Iterator[str]:
    """Yields what curves do not show: consistency, yes-bias, and questions without an answer."""
    consistent = results.consistency("order")
    if consistent is not None:
        yield (
            f"order: {percent(consistent)} of {consistent.num_units} questions are right in all "
            "orders of the pictures."
        )
    for curve in results.curves:
        said = [p for p in curve.points if p.says_yes is not None]
        if curve.probe.name == "absent" and said:
            shares = ", ".join(f"{100 * (p.says_yes or 0):.0f} % ({p.level.label})" for p in said)
            yield f"absent: how often the model says yes: {shares}."
        failed = [(p.level.label, p.num_failed) for p in curve.points if p.num_failed]
        if failed:
            listed = ", ".join(f"{count} at {label}" for label, count in failed)
            yield f"{curve.probe.name}: counted as wrong, since they could not be asked: {listed}."


def percent(interval: Interval) -> str:
    """Formats a share with its interval: "60.7 % (56.8 to 64.5)"."""
    return f"{100 * interval.value:.1f} % ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def _title(results: ProbeResults) -> str:
    data = results.settings["data"]["name"] or "drawn worlds"
    return f"Probes of {results.settings['model']['name']}: {data}"


def _summary(results: ProbeResults) -> str:
    each = sorted({point.num_asked for curve in results.curves for point in curve.points})
    span = f"{each[0]}" if len(each) == 1 else f"{each[0]} to {each[-1]}"
    minutes = results.seconds / 60
    return (
        f"{counted(len(results.lines), 'answer')} to {counted(len(results.curves), 'probe')}, "
        f"{span} at each level, in {minutes:.1f} minutes."
    )


def _settings(results: ProbeResults) -> str:
    settings, model = results.settings, results.settings["model"]
    values = {
        "seed": settings["seed"],
        "suffix": settings["suffix"] or "none",
        "keep": settings["keep"],
        "dtype": model["dtype"],
        "fingerprint": model["fingerprint"],
    }
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _overview(curve: Curve) -> str:
    first, worst = curve.reference, curve.worst
    change = worst.change
    cells = (
        f'<a href="#{curve.probe.name}">{curve.probe.name}</a>',
        "" if first is None else f"{percent(first.accuracy)}",
        html.escape(worst.level.label),
        percent(worst.accuracy),
        "" if change is None else _points(change),
        f"{100 * worst.blind.value:.1f} %",
    )
    return "<tr><th>" + "<td>".join(cells)


def _section(results: ProbeResults, curve: Curve) -> str:
    name = curve.probe.name
    picture = curve_svg(curve) if plots.is_installed() else ""
    note = f"<p>{html.escape(curve.probe.note)}</p>" if curve.probe.note else ""
    rows = "\n".join(_point_row(point) for point in curve.points)
    examples = "\n".join(_card(line) for line in results.examples(name))
    return (
        f'<section id="{name}"><h2>{name}: {html.escape(curve.probe.title)}</h2>{note}\n'
        f'<div class="pair"><figure>{picture}</figure><div class="wide" tabindex="0" '
        f'role="region" aria-label="{name}, level by level"><table><thead><tr><th>level'
        "<th>right<th>change<th>grey<th>constant<th>asked<th>tokens</tr></thead>\n"
        f"{rows}\n</table></div></div>\n"
        f"<p>{html.escape(_common(results, name))}</p>\n"
        f"<details><summary>{counted(examples.count('<figure'), 'wrong answer')}</summary>"
        f'<div class="cards">{examples}</div></details></section>'
    )


def _point_row(point: Point) -> str:
    mark = "" if point.level.trained else ' class="outside"'
    return (
        f"<tr{mark}><th>{html.escape(point.level.label)}<td>{percent(point.accuracy)}"
        f"<td>{'' if point.change is None else _points(point.change)}"
        f"<td>{100 * point.blind.value:.0f} %<td>{100 * point.constant:.0f} %"
        f"<td>{point.num_asked}<td>{point.tokens:,.0f}"
    )


def _common(results: ProbeResults, name: str) -> str:
    found: Sequence[tuple[str, str, int]] = results.confusions(name)[:NUM_CONFUSIONS]
    if not found:
        return "No answer is wrong."
    listed = "; ".join(f"{given or 'nothing'} for {right} ({n})" for right, given, n in found)
    return f"Most common wrong answers: {listed}."


def _card(line: Line) -> str:
    return (
        f'<figure><img src="data:image/jpeg;base64,{html.escape(line["picture"])}" alt="">'
        f"<figcaption><b>{html.escape(line['level'])}</b> {html.escape(line['question'])}<br>"
        f"expected <q>{html.escape(line['expected'])}</q>, given "
        f"<q class=wrong>{html.escape(line['answer'] or line.get('failure', ''))}</q>"
        "</figcaption></figure>"
    )


def _slices(results: ProbeResults) -> Iterator[str]:
    for one in results.slices()[:NUM_SLICES]:
        yield (
            f"<tr><th>{html.escape(one.probe)}: {html.escape(one.family)}"
            f"<td>{percent(one.inside)}<td>{one.inside.num_units}"
            f"<td>{percent(one.outside)}<td>{one.outside.num_units}"
        )


def _points(change: Interval) -> str:
    return f"{100 * change.value:+.1f} ({100 * change.low:+.1f} to {100 * change.high:+.1f})"
