"""Results of an exam -> its chart, and a picture of four questions with the model's answers."""

import io
from collections.abc import Sequence

from onevision.errors import DataError
from onevision.files import Line
from onevision.science.capabilities.exam import EXAMS, HELD_OUT
from onevision.science.capabilities.results import CapabilityResult, ExamResults
from onevision.science.plots import ChartRow, rows_png
from onevision.science.probes.charts import few_colours
from onevision.synth.preview import contact_sheet
from onevision.synth.sample import Question, Sample

SERIES = ("right", "with grey media", "constant answer")
MAX_ANSWER = 160  # characters of an answer on a card


def chart_png(results: ExamResults) -> bytes:
    """Plots every capability: right answers, and the two baselines."""
    rows = [
        ChartRow(
            title=f"{one.capability.name} {one.capability.title}",
            estimates=(one.right, one.blind, one.constant),
        )
        for one in results.results
    ]
    title = f"Emerging capabilities: {results.model}"
    return few_colours(rows_png(title, SERIES, rows, subtitle="held-out questions, 95 % intervals"))


def examples_png(result: CapabilityResult, *, seed: int) -> bytes:
    """Draws the questions of the examples again, with what was expected and given.

    Raises DataError if this version asks something else.
    """
    samples = [_card(result, line, seed=seed) for line in result.examples()]
    file = io.BytesIO()
    contact_sheet(samples, columns=2).save(file, "PNG", optimize=True)
    return file.getvalue()


def _card(result: CapabilityResult, line: Line, *, seed: int) -> Sample:
    name, index = result.capability.name, line["index"]
    item = EXAMS[name].make(HELD_OUT, seed, index)
    if not item.question.startswith(line["question"]) or item.expected != line["expected"]:
        raise DataError(
            f"question {index} of {name} is {item.question!r} in this version, but the answers are "
            f"to {line['question']!r}; ask again in another folder"
        )
    verdict = "right" if line["score"] == 1 else "wrong"
    given = line["answer"][:MAX_ANSWER] or line.get("failure", "nothing")
    said = Question(family="", question=f"expected: {item.expected}", answer=f"{verdict}: {given}")
    return Sample(media=tuple(item.conversation.media), caption=item.question, questions=(said,))


def example_names(results: Sequence[CapabilityResult]) -> dict[str, CapabilityResult]:
    """Returns the file of each capability's examples."""
    return {f"{one.capability.name}.png": one for one in results}
