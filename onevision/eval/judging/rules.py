"""MathVista and MMBench: rules score most answers; the judge reads those that rules cannot.

Most answers to these prompts are a letter or a number and need no query.
"""

from collections.abc import Generator

from onevision.eval.judging.benchmark import Dialogue, JudgedCase, ask_until_readable
from onevision.eval.judging.client import Query
from onevision.eval.judging.parse import parse_choice
from onevision.eval.judging.prompts import fill_prompt, read_field
from onevision.eval.scoring.mathvista import extract_directly, score_extraction
from onevision.eval.scoring.mmbench import LETTERS, infer_letter, read_options
from onevision.eval.scoring.scorer import Item

_MMBENCH_TEMPERATURES = (0.0, 0.5, 1.0)


def judge_mathvista(case: JudgedCase) -> Dialogue:
    """Extracts the number or choice that an answer gives, then compares as the benchmark does."""
    ((item, answer),) = case
    extraction = extract_directly(answer, item)
    if extraction is None:
        question = read_field(item, "query", "question")
        user = fill_prompt("mathvista", "user", question=question, response=answer.strip())
        system = fill_prompt("mathvista", "system")
        extraction = yield Query(system=system, user=user, max_tokens=64)
    score = score_extraction(extraction.strip(), item)["score"]
    return {"right": float(str(score))}


def judge_mmbench(case: JudgedCase) -> Dialogue:
    """Right if right in every order of the options; a plain wrong letter needs no query."""
    unclear = []
    for item, answer in case:
        letter = infer_letter(answer.strip(), read_options(item))
        if not letter:
            unclear.append((item, answer.strip()))
        elif letter != read_field(item, "answer"):
            return {"right": 0.0}
    for item, answer in unclear:
        letter = yield from _ask_for_letter(item, answer)
        if letter != read_field(item, "answer"):
            return {"right": 0.0}
    return {"right": 1.0}


def _ask_for_letter(item: Item, answer: str) -> Generator[Query, str, str]:
    options = "\n".join(f"{letter}. {option}" for letter, option in read_options(item).items())
    question = read_field(item, "question")
    user = fill_prompt("mmbench", "user", question=question, options=options, answer=answer)
    return (
        yield from ask_until_readable(
            Query(system=fill_prompt("mmbench", "system"), user=user, max_tokens=8, form="[A-E]"),
            lambda reply: parse_choice(reply, LETTERS),
            temperatures=_MMBENCH_TEMPERATURES,
        )
    )
