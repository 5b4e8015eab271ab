"""The metrics.jsonl of a run -> curves.png and report.html, which show how it went.

lines -> Run -> Charts -> draw, once with a PixelPen (picture) and once with an SvgPen (page)
"""

import html
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image as PIL
from PIL import ImageDraw
from PIL.Image import Image as PillowImage

from onevision.errors import InputError
from onevision.files import write_bytes, write_text
from onevision.pens import COLOURS, DENSITY, INK, PAPER, SCALE, PixelPen, SvgPen
from onevision.train.report.charts import (
    Chart,
    Run,
    make_charts,
    short,
    smooth,
    summary,
    totals,
    went_wrong,
)
from onevision.train.report.drawing import HEIGHT, WIDTH, draw
from onevision.train.report.metrics import METRICS, StepMetrics, read_metrics

PAGE = Template((Path(__file__).parent / "curves.html").read_text(encoding="utf-8"))
PICTURE, REPORT = "curves.png", "report.html"
# The picture: room above all charts, above each and around each; charts in a row.
HEADER, CAPTION, MARGIN, COLUMNS = 92, 74, 28, 2


def write_curves(directory: Path) -> Path:
    """Write curves.png and report.html beside a run's metrics.jsonl; returns the page.

    Raises InputError where there are no metrics of a single stage.
    """
    run = read_run(directory)
    charts = make_charts(run)
    file = io.BytesIO()
    draw_picture(run, charts).save(file, "PNG")
    write_bytes(directory / PICTURE, file.getvalue())
    write_text(directory / REPORT, _page(run, charts))
    return directory / REPORT


def read_run(directory: Path) -> Run:
    """Read the metrics of a run. Raises InputError."""
    path = directory / METRICS
    by_step = {line["step"]: line for line in read_metrics(path)}
    lines = tuple(by_step[step] for step in sorted(by_step))
    if not lines:
        raise InputError(f"{path}: no step is recorded yet; wait until the run has taken one")
    missing = {field.name for field in fields(StepMetrics)}.difference(
        {"statistics"},  # an objective's own
        set(lines[0]).intersection(*lines),
    )
    if missing:
        raise InputError(
            f"{path}: lines lack {', '.join(sorted(missing))}; read them with the release that "
            "wrote them"
        )
    stages = sorted({line["stage"] for line in lines})
    if len(stages) > 1:
        raise InputError(
            f"{path}: holds steps of {', '.join(stages)}; expected one stage: give every stage "
            "a directory of its own"
        )
    return Run(name=directory.resolve().name, lines=lines)


def draw_picture(run: Run, charts: Sequence[Chart]) -> PillowImage:
    """Draw all charts on one RGB sheet."""
    width = COLUMNS * (WIDTH + MARGIN) + MARGIN
    height = HEADER + math.ceil(len(charts) / COLUMNS) * (CAPTION + HEIGHT) + MARGIN
    sheet = PIL.new("RGB", (width * DENSITY, height * DENSITY), PAPER)
    picture = ImageDraw.Draw(sheet)
    head = PixelPen(picture, left=MARGIN, top=0)
    head.text((0, 32), run.name, "start", size=22, colour=INK)
    head.text((0, 58), summary(run), "start", size=13)
    _draw_marks(run, head)
    for number, chart in enumerate(charts):
        left = MARGIN + (number % COLUMNS) * (WIDTH + MARGIN)
        top = HEADER + (number // COLUMNS) * (CAPTION + HEIGHT)
        pen = PixelPen(picture, left=left, top=top)
        pen.text((0, 24), chart.title, "start", size=15, colour=INK)
        _draw_keys(chart, pen)
        draw(chart, run, PixelPen(picture, left=left, top=top + CAPTION))
    return sheet.resize((width * SCALE, height * SCALE), PIL.Resampling.BOX)


def _draw_marks(run: Run, pen: PixelPen) -> None:
    """Say under the heading what the triangles mean."""
    x = 4.0
    for style, said, steps in went_wrong(run):
        if len(steps):
            pen.mark((x, 76), style, said)
            pen.text((x + 10, 81), f"{said} {len(steps):,}", "start")
            x += 160


def _draw_keys(chart: Chart, pen: PixelPen) -> None:
    """Name the curves under the title: a few with their last values, many four in a row."""
    many = len(chart.series) > 4
    for number, one in enumerate(chart.series):
        room = WIDTH / (4 if many or len(chart.series) == 4 else 3)
        x, y = (number % 4) * room, 46 + 18 * (number // 4)
        name = one.name if len(one.name) <= 14 else f"{one.name[:7]}...{one.name[-4:]}"
        pen.line([(x, y), (x + 10, y)], one.style, faint=one.faint)
        pen.text((x + 14, y), name if many else f"{name} {chart.last(one)}", "start")


def _page(run: Run, charts: Sequence[Chart]) -> str:
    light, dark = (
        "".join(f"--{style}: {pair[place]}; " for style, pair in COLOURS.items())
        for place in (0, 1)
    )
    return PAGE.substitute(
        title=html.escape(run.name),
        summary=html.escape(summary(run)),
        light=light,
        dark=dark,
        styles=" ".join(f".{style} {{ --colour: var(--{style}); }}" for style in COLOURS),
        charts="\n".join(_figure(chart, run) for chart in charts),
        marks="".join(
            f'<li><svg viewBox="0 0 8 8"><path class="{style}" d="M4 0l-4 8h8z"/></svg>'
            f"{said} <b>{len(steps):,}</b>"
            for style, said, steps in went_wrong(run)
            if len(steps)
        ),
        totals="".join(f"<tr><th>{k}<td>{html.escape(v)}" for k, v in totals(run).items()),
        sources="".join(_source_rows(run)),
    )


def _figure(chart: Chart, run: Run) -> str:
    pen = SvgPen()
    draw(chart, run, pen)
    keys = "".join(
        f'<li><i class="{one.style}{" faint" * one.faint}"></i>{html.escape(one.name)} '
        f"<b>{chart.last(one)}</b>"
        for one in chart.series
    )
    return (
        f'<figure><h2>{chart.title}</h2><svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'role="img" aria-label="{chart.title}, by step">{"".join(pen.parts)}</svg>'
        f"<figcaption><ul>{keys}</ul></figcaption></figure>"
    )


def _source_rows(run: Run) -> Iterator[str]:
    for name, (steps, values) in run.inner("loss_per_source").items():
        finite = smooth(values)[np.isfinite(values)]
        said = short(finite[-1]) if len(finite) else "not finite"
        yield f"<tr><th>{html.escape(name)}<td>{len(steps):,}<td>{said}"
