"""LLaVA-Critic's two prompts -> what its replies say: a score, or which answer is better.

The prompts are those of its model card (arXiv 2410.02712). Its replies are free text, in which the
verdict must be said exactly once; what has none, or two, is unreadable.
"""

import re
from collections.abc import Sequence

from onevision.eval.judging.client import Query
from onevision.eval.judging.parse import UnreadableReplyError
from onevision.eval.judging.prompts import fill_prompt

MAX_SCORE = 100.0
END = "\n"  # the card's prompts end with one
NUMBER = r"(\d{1,3}(?:\.\d+)?)"
# The first of these that occurs says the score: "Score: 80", "a score of 80", "80/100", "80 ...".
SCORES = (
    rf"(?i)\bscore\b(?:\W{{0,4}}(?:is|of|as)\b)?[\s:*]{{0,6}}{NUMBER}\b",
    rf"(?i)\b{NUMBER}\s*(?:/|out of)\s*100\b",
    rf"^[\s*]*{NUMBER}\b",
)
WHICH = r"(first|second|1|2)"
ANSWER = r"(?:response|answer)"
BETTER = (
    rf"(?i)\b(?:the\s+)?(first|second)\s+{ANSWER}\s+is\s+(?:\w+\s+){{0,2}}(?:better|preferable|superior)",
    rf"(?i)\b{ANSWER}\s+{WHICH}\s+is\s+(?:\w+\s+){{0,2}}(?:better|preferable|superior)",
    rf"(?i)\bbetter\s+{ANSWER}\s+is\s+(?:the\s+)?{WHICH}\b",
)
TIE = r"(?i)\bequally (?:good|bad|well|poor)|\bof equal quality|\bis a tie\b|^\W*tie\b"


def ask_for_score(question: str, answer: str, images: Sequence[bytes] = ()) -> Query:
    """Returns the pointwise query: a score out of 100 for one answer, with its reasons."""
    user = fill_prompt("llava_critic", "pointwise", question=question, answer=answer)
    return Query(system="", user=user + END, images=tuple(images))


def ask_for_better(question: str, first: str, second: str, images: Sequence[bytes] = ()) -> Query:
    """Returns the pairwise query: which of two answers is better, and why."""
    user = fill_prompt("llava_critic", "pairwise", question=question, first=first, second=second)
    return Query(system="", user=user + END, images=tuple(images))


def read_score(reply: str) -> float:
    """Returns the score of a reply, 0 to 100. Raises UnreadableReplyError."""
    for form in SCORES:
        found = {float(number) for number in re.findall(form, reply)}
        if not found:
            continue
        if len(found) > 1:
            raise UnreadableReplyError(f"{len(found)} scores, expected one", reply)
        if (score := found.pop()) <= MAX_SCORE:
            return score
        raise UnreadableReplyError(f"{score:g} is not between 0 and {MAX_SCORE:g}", reply)
    raise UnreadableReplyError("no score", reply)


def read_better(reply: str) -> float:
    """Returns 1 if a reply prefers the first answer, 0 the second, 0.5 neither.

    Raises UnreadableReplyError.
    """
    said = {word.lower() for form in BETTER for word in re.findall(form, reply)}
    found = {1.0 if word in ("first", "1") else 0.0 for word in said}
    if re.search(TIE, reply):
        found.add(0.5)
    if len(found) != 1:
        raise UnreadableReplyError(f"{len(found)} verdicts on the answers, expected one", reply)
    return found.pop()
