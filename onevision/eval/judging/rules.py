"""Benchmarks scored by rules: a judge is asked only what an answer states, where rules cannot tell.

MathVista and MMBench: most answers to their prompts are a letter or a number, and cost nothing.
"""

from collections.abc import Generator, Mapping

from onevision.eval.judging.benchmark import Asking, Case, JudgedBenchmark, mean_of
from onevision.eval.judging.client import Query
from onevision.eval.judging.parse import UnreadableReplyError, one_of
from onevision.eval.judging.prompts import Item, field, fill
from onevision.eval.scoring.fields import whole
from onevision.eval.scoring.mathvista import direct_extraction, score_extraction
from onevision.eval.scoring.mmbench import COPY_STEP, LETTERS, inferred_letter, options_of

# A judge that names no letter is asked again, a little warmer.
TEMPERATURES = (0.0, 0.5, 1.0)


def _mathvista(case: Case) -> Asking:
    """Find the number or choice that an answer comes to, then compare as the benchmark does."""
    ((item, answer),) = case
    stated = direct_extraction(answer, item)
    if stated is None:
        question = field(item, "query", "question")
        user = fill("mathvista", "user", question=question, response=answer.strip())
        stated = yield Query(system=fill("mathvista", "system"), user=user, max_tokens=64)
    score = score_extraction(stated.strip(), item)["score"]
    return {"right": float(str(score))}


def _mmbench(case: Case) -> Asking:
    """Right where all orders of the options are; one plain wrong letter spares the judge."""
    doubtful = []
    for item, answer in case:
        letter = inferred_letter(answer.strip(), options_of(item))
        if not letter:
            doubtful.append((item, answer.strip()))
        elif letter != field(item, "answer"):
            return {"right": 0.0}
    for item, answer in doubtful:
        letter = yield from _letter(item, answer)
        if letter != field(item, "answer"):
            return {"right": 0.0}
    return {"right": 1.0}


def _letter(item: Item, answer: str) -> Generator[Query, str, str]:
    options = "\n".join(f"{letter}. {option}" for letter, option in options_of(item).items())
    user = fill("mmbench", "user", question=field(item, "question"), options=options, answer=answer)
    for temperature in TEMPERATURES:
        reply = yield Query(
            system=fill("mmbench", "system"), user=user, temperature=temperature, max_tokens=8
        )
        try:
            return one_of(reply, LETTERS)
        except UnreadableReplyError:
            if temperature == TEMPERATURES[-1]:
                raise
    raise AssertionError("the last temperature returns or raises")


STATED: Mapping[str, JudgedBenchmark] = {
    "mathvista": JudgedBenchmark(
        judge=_mathvista,
        total=mean_of("right", "accuracy", times=100),
        headline="accuracy",
        groups=("question_type", "answer_type"),
    ),
    "mmbench": JudgedBenchmark(
        judge=_mmbench,
        total=mean_of("right", "accuracy", times=100),
        headline="accuracy",
        groups=("category", "L2-category"),
        together=lambda item: whole(item, "index") % COPY_STEP,
    ),
}
