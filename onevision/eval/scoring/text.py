"""Two texts -> whether they are equal, or how similar they are: exact match and ANLS."""

import string

from onevision.eval.scoring.fields import text_or_texts, texts
from onevision.eval.scoring.scorer import Item, Score, Scorer, averages

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ANLS_THRESHOLD = 0.5


def normalise(answer: str) -> str:
    """Lower-case, strip punctuation at the ends, and collapse white space."""
    return " ".join(answer.lower().split()).strip(string.punctuation + " ")


def exact_match(answer: str, expected: str) -> bool:
    """Whether two answers are equal up to case, white space and punctuation at the ends."""
    return normalise(answer) == normalise(expected)


def bare(answer: str) -> str:
    """Strips, lowercases and deletes all ASCII punctuation. FIDELITY: "1.5" becomes "15"."""
    return answer.strip().lower().translate(_NO_PUNCTUATION)


def anls(answer: str, references: list[str]) -> float:
    """Returns the normalised Levenshtein similarity to the closest reference, 0 to 1; below 0.5, 0.

    FIDELITY: the distance is between normalised texts (lower case, single spaces), but it is
    divided by the length of the longer text *before* normalising. Biten et al., "Scene Text Visual
    Question Answering", 2019.
    """
    nearest = min(_normalised_distance(answer, reference) for reference in references)
    similarity = 1 - nearest
    return similarity if similarity >= _ANLS_THRESHOLD else 0.0


def edit_distance(left: str, right: str) -> int:
    """Returns the number of insertions, deletions and substitutions between two texts."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(right, start=1):
            step = min(row[j], row[j - 1]) + 1
            diagonal, row[j] = row[j], min(step, diagonal + (a != b))
    return row[-1]


def _normalised_distance(answer: str, reference: str) -> float:
    longer = max(len(answer), len(reference))
    if not longer:
        return 0.0
    return edit_distance(_single_spaced(reference), _single_spaced(answer)) / longer


def _single_spaced(answer: str) -> str:
    return " ".join(answer.lower().split())


def _score_exact_match(answer: str, item: Item) -> Score:
    right = any(bare(answer) == bare(accepted) for accepted in text_or_texts(item, "answer"))
    return {"score": float(right)}


def _score_heldout(answer: str, item: Item) -> Score:
    right = any(exact_match(answer, accepted) for accepted in text_or_texts(item, "answer"))
    return {"score": float(right)}


def _score_anls(answer: str, item: Item) -> Score:
    return {"score": anls(answer, texts(item, "answers"))}


EXACT_MATCH = Scorer(score=_score_exact_match, aggregate=averages("exact_match"))
HELDOUT = Scorer(score=_score_heldout, aggregate=averages("accuracy"))
ANLS = Scorer(score=_score_anls, aggregate=averages("anls"))
