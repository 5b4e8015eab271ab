"""Samples of a mixture -> one self-contained HTML page: media, crops, learned text, lengths."""

import base64
import html
import io
from collections.abc import Iterator
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as PillowImage

from onevision.anyres import Layout, VideoLayout
from onevision.config import ModelConfig
from onevision.conversation import Image, Video
from onevision.data.mixture import OpenDataset
from onevision.data.plan import DatasetPlan, Plan
from onevision.data.samples import SampleReader
from onevision.errors import DataError, InputError
from onevision.explain import explain_image, explain_video
from onevision.explain_drawing import draw_explanation
from onevision.files import write_text
from onevision.inputs.chat import IGNORE
from onevision.inputs.processor import Example
from onevision.plural import counted

PAGE = Template((Path(__file__).parent / "report.html").read_text(encoding="utf-8"))
MAX_MEDIA_WIDTH = 900
NUM_BARS = 32


def write_report(
    reader: SampleReader,
    plan: Plan,
    config: ModelConfig,
    *,
    output: Path,
    num_samples: int,
    seed: int = 0,
) -> None:
    """Writes the page, with `num_samples` random samples of every data set."""
    sections = [
        _section(reader, config, number, dataset, one, num_samples=num_samples, seed=seed)
        for number, (dataset, one) in enumerate(
            zip(reader.mixture.datasets, plan.datasets, strict=True)
        )
    ]
    usable = sum(int(one.usable.sum()) for one in plan.datasets)
    tokens = sum(int(one.num_tokens.sum()) for one in plan.datasets)
    sets = counted(len(plan.datasets), "data set")
    page = PAGE.substitute(
        title=html.escape(reader.mixture.name),
        summary=f"{sets}, {counted(usable, 'usable sample')}, {tokens:,} tokens",
        sections="\n".join(sections),
    )
    write_text(output, page)


def _section(
    reader: SampleReader,
    config: ModelConfig,
    number: int,
    dataset: OpenDataset,
    plan: DatasetPlan,
    *,
    num_samples: int,
    seed: int,
) -> str:
    rng = np.random.default_rng([seed, number])
    rows = rng.permutation(plan.rows[plan.usable])[:num_samples]
    samples = "\n".join(_sample(reader, config, number, int(row)) for row in np.sort(rows))
    lengths = plan.num_tokens[plan.usable]
    figures = f"{counted(len(plan.rows), 'row')}, {len(lengths):,} usable, {lengths.sum():,} tokens"
    return (
        f"<section><h2>{html.escape(dataset.entry.name)}</h2><p>{figures}</p>"
        f"{histogram(lengths)}\n{samples}</section>"
    )


def histogram(lengths: NDArray[np.int32]) -> str:
    """Returns a histogram of the lengths as SVG."""
    if not len(lengths):
        return "<p>no usable rows</p>"
    counts, edges = np.histogram(lengths, bins=NUM_BARS, range=(0, int(lengths.max()) + 1))
    bars = "".join(
        f'<rect x="{10 * n}" y="{60 - 60 * count / counts.max():.1f}" width="9" '
        f'height="{60 * count / counts.max():.1f}"><title>{count:,} samples of '
        f"{edges[n]:,.0f} to {edges[n + 1]:,.0f} tokens</title></rect>"
        for n, count in enumerate(counts.tolist())
    )
    return (
        f'<svg class="lengths" viewBox="0 0 {10 * NUM_BARS} 76" role="img" '
        f'aria-label="lengths in tokens">{bars}<text x="0" y="73">0</text>'
        f'<text x="{10 * NUM_BARS}" y="73" text-anchor="end">{int(lengths.max()):,} tokens</text>'
        "</svg>"
    )


def _sample(reader: SampleReader, config: ModelConfig, dataset: int, row: int) -> str:
    head = f"<h3>row {row}</h3>"
    try:
        fitted = reader.fit(dataset, row)
        example, *others = reader.examples(fitted)
    except (DataError, InputError) as error:
        return f'<article>{head}<p class="bad">{html.escape(str(error))}</p></article>'
    learned = sum(int((one.labels != IGNORE).sum()) for one in (example, *others))
    reduced = "".join(f", fewer {what}" for what in fitted.reductions)
    figures = f"<p>{fitted.whole.num_tokens:,} tokens, {learned:,} of them learned{reduced}</p>"
    media = "".join(
        _medium(one, layout, config)
        for one, layout in zip(fitted.conversation.media, example.layouts, strict=True)
    )
    talks = "".join(
        f'<p class="talk">{"".join(_words(reader, one))}</p>' for one in (example, *others)
    )
    return f'<article>{head}{figures}<div class="media">{media}</div>{talks}</article>'


def _medium(medium: Image | Video, layout: Layout, config: ModelConfig) -> str:
    if isinstance(medium, Video):
        explanation = explain_video(medium, config)
    else:
        assert not isinstance(layout, VideoLayout), "a picture has no frames"
        explanation = explain_image(medium, config, layout=layout)
    drawing = _data_url(draw_explanation(explanation))
    return f'<img src="{drawing}" alt="{html.escape(explanation.name)}">'


def _words(reader: SampleReader, example: Example) -> Iterator[str]:
    """Yields the prompt as HTML: learned text is marked, visual tokens are counted."""
    ids, visual = example.input_ids.tolist(), example.visual_mask.tolist()
    learned = (example.labels != IGNORE).tolist()
    begin = 0
    for end in range(1, len(ids) + 1):
        if end < len(ids) and (visual[end], learned[end]) == (visual[begin], learned[begin]):
            continue
        if visual[begin]:
            yield f'<span class="visual">{end - begin:,} visual tokens</span>'
        else:
            text = html.escape(reader.processor.tokenizer.decode_with_controls(ids[begin:end]))
            yield f"<mark>{text}</mark>" if learned[begin] else text
        begin = end


def _data_url(picture: PillowImage) -> str:
    if picture.width > MAX_MEDIA_WIDTH:
        height = round(picture.height * MAX_MEDIA_WIDTH / picture.width)
        picture = picture.resize((MAX_MEDIA_WIDTH, max(1, height)))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
