"""Answers and trials in a folder -> capabilities.md, and its pictures.

DOCS/capabilities.md                 tables and pictures between two marks; the rest is by hand
DOCS/capabilities/run.json           what was asked of which model (eval/answers.py)
DOCS/capabilities/answers.jsonl      every answer
DOCS/capabilities/trials.json        the arms that were trained, if any
DOCS/capabilities/*.png              made from these
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from onevision import plots
from onevision.files import write_bytes
from onevision.plural import counted
from onevision.science.capabilities.arms import ARMS, arm_name
from onevision.science.capabilities.capability import CAPABILITIES, Capability
from onevision.science.capabilities.charts import chart_png, example_names, examples_png
from onevision.science.capabilities.results import CapabilityResult, ExamResults, read_exam
from onevision.science.claims import FAILS, HOLDS, OPEN, Results, where
from onevision.science.markdown import (
    markdown_table,
    show_points,
    show_range,
    show_share,
    write_between,
)
from onevision.science.page import MIN_SEEDS, REHEARSED, read_records
from onevision.science.study import TrialRecord

PAGE, FOLDER = "capabilities.md", "capabilities"
COMMAND = "onevision capabilities --report"
BEGIN, END = f"<!-- results: written by `{COMMAND}` -->", "<!-- end of results -->"
NEW_PAGE = f"# Emerging capabilities\n\n{BEGIN}\n{END}\n"
NOT_TRAINED = "not run"


def write_page(docs: Path, *, warn: Callable[[str], object] = str) -> Path:
    """Writes results and pictures from the answers and trials in `docs`; returns the page.

    Without matplotlib the chart stays as it is, and `warn` is called once. Raises DataError for
    answers that this version does not ask for, InputError for a page without its two marks.
    """
    page, folder = docs / PAGE, docs / FOLDER
    exam, records = read_exam(folder), read_records(docs, folder=FOLDER)
    pictures = {
        name: examples_png(one, seed=exam.settings["seed"])
        for name, one in example_names(exam.results).items()
    }
    text = "\n\n".join(_sections(exam, records))
    write_between(page, begin=BEGIN, end=END, text=text, empty=NEW_PAGE)
    for name, picture in pictures.items():
        write_bytes(folder / name, picture)
    if plots.is_installed():
        write_bytes(folder / "accuracy.png", chart_png(exam))
    else:
        warn(f"{page} is written, its chart is not: {plots.MISSING}")
    return page


def describe_verdicts(exam: ExamResults) -> Iterator[str]:
    """Yields a sentence for each verdict, with the capabilities that have it."""
    for verdict, said in (
        (HOLDS, "Above both baselines"),
        (OPEN, "Not to be told from the better baseline"),
        (FAILS, "Below the better baseline"),
    ):
        names = [one.capability.name for one in exam.results if one.verdict == verdict]
        yield f"{said}: {', '.join(names) or 'none'}."


def _sections(exam: ExamResults, records: Sequence[TrialRecord]) -> Iterator[str]:
    yield f"### `{exam.model}`, as it is"
    yield " ".join(describe_verdicts(exam))
    heads = ["", "asked", "right", "with grey media", "constant", "above the better", "verdict"]
    yield markdown_table(heads, [_row(one) for one in exam.results])
    yield "![Right answers of each capability beside its two baselines](capabilities/accuracy.png)"
    yield _settings(exam)
    yield "### The two arms"
    yield from _arms(records)
    yield "### Examples"
    for one in exam.results:
        yield from _examples(one)


def _row(one: CapabilityResult) -> list[str]:
    return [
        f"**{one.capability.name}** {one.capability.title}",
        str(len(one.lines)),
        show_range(one.right),
        f"{100 * one.blind.value:.1f}",
        f"{100 * one.constant.value:.1f}",
        show_range(one.gain, signed=True),
        one.verdict,
    ]


def _settings(exam: ExamResults) -> str:
    settings, model = exam.settings, exam.settings["model"]
    failed = sum(one.num_failed for one in exam.results)
    asked = sum(len(one.lines) for one in exam.results)
    values = (
        f"seed {settings['seed']}",
        f"suffix {settings['suffix'] or 'none'}",
        f"keep {settings['keep']}",
        f"{model['dtype']}",
        f"fingerprint {model['fingerprint']}",
    )
    counts = f"{counted(asked, 'question')}, each asked twice, in {exam.seconds / 60:.1f} minutes"
    wrong = f"; {failed} could not be asked and count as wrong" if failed else ""
    return f"{counts}{wrong}. Settings: {', '.join(values)}."


def _arms(records: Sequence[TrialRecord]) -> Iterator[str]:
    if any(record.rehearsal for record in records):
        yield REHEARSED
    results = Results(records)
    rows = [_arm_row(results, one) for one in CAPABILITIES.values()]
    if all(NOT_TRAINED in row for row in rows):
        yield f"**Not run yet.** No arm of any capability is finished in {MIN_SEEDS} seeds or more."
        return
    heads = ["", *(f"{arm}: {what}" for arm in ARMS for what in ("right", "above both"))]
    heads += ["taught - transfer", "operations of taught / transfer"]
    yield markdown_table(heads, rows)
    hours = sum(r.train_seconds + r.exam_seconds for r in records) / 3600
    start = records[0].start or "an unnamed model"
    took = f"they took {hours:.1f} hours of one thread"
    yield f"All {len(records)} trials began with {start}; {took}."


def _arm_row(results: Results, one: Capability) -> list[str]:
    chosen, cells = where(scenario=one.name), [f"**{one.name}** {one.title}"]
    names = [arm_name(one, arm) for arm in ARMS]
    for name in names:
        if len(results.seeds(name)) < MIN_SEEDS:
            cells += [NOT_TRAINED, ""]
            continue
        gain = results.gain(name, chosen)
        cells += [
            show_share(results.accuracy(name, chosen)),
            f"{show_points(gain)}: {gain.verdict}",
        ]
    transfer, taught = names
    if len(results.seeds(transfer, taught)) < MIN_SEEDS:
        return [*cells, "", ""]
    ratio = results.average(taught, "operations") / results.average(transfer, "operations")
    return [*cells, show_points(results.difference(taught, transfer, chosen)), f"{ratio:.3f}"]


def _examples(one: CapabilityResult) -> Iterator[str]:
    name = one.capability.name
    kinds = ", ".join(
        f"{family} {round(interval.value * interval.num_units)}/{interval.num_units}"
        for family, interval in one.by_family()
    )
    yield f"#### {name}: {one.capability.title}"
    yield f"Right answers by kind of question: {kinds}."
    yield f"![Four questions of {name} with the answers given](capabilities/{name}.png)"
