"""Two texts -> ROUGE-L's F-measure, exactly as the package `rouge` 1.0.1 computes it.

FIDELITY: that package defines the interleave benchmark's numbers and differs from others (the
package rouge-score lower-cases and counts repeated words): sentences end at every period, so "3.5"
is two; a word counts once however often it occurs; the longest common subsequences of all pairs of
sentences are united. Lin, "ROUGE", 2004, section 3.2. Reimplemented because the package is no
longer maintained and, recursing once per word, fails on long texts.
"""

from collections.abc import Sequence

from onevision.eval.scoring.fields import text
from onevision.eval.scoring.scorer import Item, Score, Scorer, averages

_MAX_CHARACTERS = 512
_TINY = 1e-8


def rouge_l(answer: str, reference: str) -> float:
    """Returns the F-measure, 0 to 1; 0 if a text is empty. Answers are cut to 512 characters."""
    given, expected = _sentences(answer[:_MAX_CHARACTERS]), _sentences(reference)
    if not given or not expected:
        return 0.0
    common = {word for b in expected for a in given for word in _common_words(b, a)}
    precision = len(common) / len({word for sentence in given for word in sentence})
    recall = len(common) / len({word for sentence in expected for word in sentence})
    return 2 * precision * recall / (precision + recall + _TINY)


def _sentences(passage: str) -> list[list[str]]:
    # FIDELITY: spaces between two periods are a sentence of one empty word.
    return [" ".join(part.split()).split(" ") for part in passage.split(".") if part]


def _common_words(left: Sequence[str], right: Sequence[str]) -> set[str]:
    """Returns the words of the longest common subsequence; of several, the original's."""
    table = _lengths(left, right)
    i, j = len(left), len(right)
    words = set()
    while i and j:
        if left[i - 1] == right[j - 1]:
            i, j = i - 1, j - 1
            words.add(left[i])
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return words


def _lengths(left: Sequence[str], right: Sequence[str]) -> list[list[int]]:
    """Returns [i][j] = length of the longest common subsequence of left[:i] and right[:j]."""
    table = [[0] * (len(right) + 1)]
    for a in left:
        above, row = table[-1], [0]
        for j, b in enumerate(right):
            row.append(above[j] + 1 if a == b else max(above[j + 1], row[j]))
        table.append(row)
    return table


def _score(answer: str, item: Item) -> Score:
    return {"score": rouge_l(answer, text(item, "answer"))}


ROUGE_L = Scorer(score=_score, aggregate=averages("rouge_l"))
