"""ScienceQA answers of a run + a text model -> the answers of both together, as a run of their own.

The two ensembles of the first LLaVA paper are in judging/science_qa.py. What they answer is written
like any run, so that it can be scored, compared and reported.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from onevision.errors import DataError
from onevision.eval.answers import AnswerFiles
from onevision.eval.figures import score_answers, was_complete
from onevision.eval.judging.judge import Judge
from onevision.eval.judging.science_qa import answer_without_images, arbitrate, complement
from onevision.eval.results import TaskResult
from onevision.eval.scoring.choices import LETTERS
from onevision.eval.scoring.fields import texts
from onevision.eval.scoring.science_qa import find_science_letter
from onevision.files import Line

# complement: the text model's answer, or ours if it has none. arbitrate: the text model decides
# between both answers if they differ.
Rule = Literal["complement", "arbitrate"]
SCORER = "science_qa_lea"
SCORERS = ("science_qa", "science_qa_now", SCORER)


@dataclass(frozen=True, kw_only=True)
class EnsembleResult:
    """The score of both together, and what the text model did."""

    result: TaskResult
    # Of the text model alone.
    num_known: int
    num_disputed: int
    num_unreadable: int


def is_science_qa(files: AnswerFiles) -> bool:
    """Whether a run answers ScienceQA. Raises DataError."""
    return files.settings()["task"]["scorer"] in SCORERS


def combine_runs(
    files: AnswerFiles, output: AnswerFiles, judge: Judge, rule: Rule
) -> EnsembleResult:
    """Combines a run's answers with a text model's; writes, scores and returns them.

    Raises DataError for a run that is not of ScienceQA, JudgeError.
    """
    settings, lines = files.settings(), files.answers()
    if not is_science_qa(files):
        raise DataError(
            f"{files.directory}: it holds {settings['task']['name']}; ensembles are for ScienceQA"
        )
    items = [line["item"] for line in lines]
    ours = [
        find_science_letter(line["answer"], LETTERS[: len(texts(item, "choices"))]) or ""
        for line, item in zip(lines, items, strict=True)
    ]
    alone = answer_without_images(items, judge)
    both = complement(ours, alone) if rule == "complement" else arbitrate(items, ours, alone, judge)
    _begin(output, settings, judge=judge, rule=rule)
    kept = {line["row"]: line for line in output.answers()}
    combined = [
        {**line, "answer": letter or "", "ours": line["answer"], "text_model": theirs}
        for line, letter, theirs in zip(lines, both.letters, alone.letters, strict=True)
    ]
    output.add([line for line in combined if line != kept.get(line["row"])])
    return EnsembleResult(
        result=score_answers(output, complete=was_complete(files)),
        num_known=sum(letter is not None for letter in alone.letters),
        num_disputed=both.num_asked,
        num_unreadable=alone.num_unreadable + both.num_unreadable,
    )


def _begin(output: AnswerFiles, settings: Mapping[str, Line], *, judge: Judge, rule: Rule) -> None:
    model = settings["model"]
    name = f"{model['name']} + {judge.name}"
    digest = hashlib.sha256(f"{model['fingerprint']} {judge.name} {rule}".encode()).hexdigest()[:32]
    output.begin(
        {
            **settings,
            "task": {**settings["task"], "scorer": SCORER},
            "model": {**model, "name": name, "fingerprint": digest},
            "ensemble": {"rule": rule, "text_model": judge.name},
        }
    )
