"""MMMU: free answers -> letters or candidates -> right or wrong, by the benchmark's own parsers.

Yue et al., "MMMU", 2024; eval_utils.py. Accuracy is over all questions, not over subjects.
"""

import re
from collections.abc import Iterable, Sequence

from onevision.eval.scoring.choices import find_last_option
from onevision.eval.scoring.fields import identifier, text, text_or_texts, texts
from onevision.eval.scoring.scorer import Item, Score, Scorer, average_groups, mean

Candidate = str | float

_INDICATORS = (
    "could be ",
    "so ",
    "is ",
    "thus ",
    "therefore ",
    "final ",
    "answer ",
    "result ",
)
_TRIVIAL = (":", ",", ".", "!", "?", ";", "'")
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)

DOMAINS = {
    "Art and Design": ("Art", "Art_Theory", "Design", "Music"),
    "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
    "Health and Medicine": (
        "Basic_Medical_Science",
        "Clinical_Medicine",
        "Diagnostics_and_Laboratory_Medicine",
        "Pharmacy",
        "Public_Health",
    ),
    "Humanities and Social Science": ("History", "Literature", "Sociology", "Psychology"),
    "Tech and Engineering": (
        "Agriculture",
        "Architecture_and_Engineering",
        "Computer_Science",
        "Electronics",
        "Energy_and_Power",
        "Materials",
        "Mechanical_Engineering",
    ),
}
_DOMAIN_OF = {subject: domain for domain, subjects in DOMAINS.items() for subject in subjects}


def find_candidates(answer: str) -> set[Candidate]:
    """Returns everything in a free answer that may be the answer: key phrases and numbers."""
    phrases = _key_phrases(answer)
    numbers = [found for phrase in phrases for form in _NUMBERS for found in form.findall(phrase)]
    return _normalise([*phrases, *numbers])


def open_match(candidates: Iterable[Candidate], accepted: Iterable[str]) -> bool:
    """Whether an accepted text is part of a candidate, or an accepted number equals one."""
    gold = _normalise(accepted)
    texts_wanted = [wanted for wanted in gold if isinstance(wanted, str)]
    return any(
        any(wanted in candidate for wanted in texts_wanted)
        if isinstance(candidate, str)
        else candidate in gold
        for candidate in candidates
    )


def _key_phrases(answer: str) -> list[str]:
    # FIDELITY: the original also splits at ". " before a capital, but lower-cases first.
    whole = answer.strip().strip(".").lower()
    pieces = whole.split("\n")
    tails = [_shortest_tail(piece, _INDICATORS) for piece in pieces[:-1]]
    tails.append(_shortest_tail(pieces[-1], (*_INDICATORS, "=")))
    return [tail for tail in tails if tail and tail not in _TRIVIAL] or [whole]


def _shortest_tail(piece: str, indicators: Sequence[str]) -> str:
    shortest = ""
    for indicator in indicators:
        if indicator in piece:
            tail = piece.rsplit(indicator, 1)[1].strip()
            # FIDELITY: an empty tail gives way to the next one, however long.
            if not shortest or len(tail) < len(shortest):
                shortest = tail
    return shortest


def _normalise(answers: Iterable[str]) -> set[Candidate]:
    return {form for answer in answers for form in _forms(answer.strip())}


def _forms(answer: str) -> tuple[Candidate, ...]:
    try:
        return (round(float(answer.replace(",", "")), 2),)
    except ValueError:
        answer = answer.lower()
    # A single character would match nearly everything; with a space it is a word of its own.
    return (f" {answer}", f"{answer} ") if len(answer) == 1 else (answer,)


def _score(answer: str, item: Item) -> Score:
    name = identifier(item, "id")
    if text(item, "question_type") == "multiple-choice":
        predicted = find_last_option(answer, texts(item, "options"), key=f"{name}\n{answer}")
        right = predicted in text_or_texts(item, "answer")
    else:
        candidates = find_candidates(answer)
        right = open_match(candidates, text_or_texts(item, "answer"))
        predicted = "; ".join(sorted(str(candidate) for candidate in candidates))
    return {"score": float(right), "predicted": predicted, **_subject(name)}


def _subject(name: str) -> dict[str, str]:
    found = re.fullmatch(r"[^_]+_(.+?)_\d+", name)
    if not found:
        return {}
    subject = found.group(1)
    domain = {"domain": _DOMAIN_OF[subject]} if subject in _DOMAIN_OF else {}
    return {**domain, "subject": subject}


def _aggregate(scores: Sequence[Score]) -> dict[str, float]:
    return {"mmmu_acc": mean(scores), **average_groups(scores, by=("domain", "subject"))}


MMMU = Scorer(score=_score, aggregate=_aggregate)
