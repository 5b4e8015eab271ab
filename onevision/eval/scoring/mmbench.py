"""MMBench, circular: a question is right if it is answered right in every order of its options.

Rows below 10^6 are the questions; index % 10^6 maps a rotated copy to its question. The rules
below find the letter. If they find none, the original asks GPT (as judging/rules.py does with a
judge), while this scorer takes `extract_mcq_letter`, as lmms-eval's "static" task does. Liu et al.,
"MMBench", 2023.
"""

from collections.abc import Sequence

from onevision.errors import DataError
from onevision.eval.scoring.choices import extract_mcq_letter
from onevision.eval.scoring.fields import labels, missing, number, text, whole
from onevision.eval.scoring.scorer import Item, Score, Scorer, average_groups, mean

COPY_STEP = 1_000_000
_OPTIONS = "ABCD"
LETTERS = "ABCDE"
_MAX_WORDS_WITH_ARTICLE = 3
_WRAPPERS = (
    "{}.",
    "{},",
    "{}:",
    "{})",
    "{}).",
    "({})",
    "({}).",
    ":{}",
    ":{},",
    ":{}.",
    ":{})",
    ":{}).",
)


def infer_letter(answer: str, options: dict[str, str]) -> str:
    """Returns the one letter among the answer's words, else the one option it quotes, else ""."""
    return _only_letter(answer.split()) or _only_quoted(answer.lower(), options)


def _only_letter(words: Sequence[str]) -> str:
    # An "A" among more than three words may be an article.
    if not ("A" in words and len(words) > _MAX_WORDS_WITH_ARTICLE) and (
        found := _only([letter for letter in LETTERS if letter in words])
    ):
        return found
    wrapped = (
        _only([letter for letter in LETTERS if wrapper.format(letter) in words])
        for wrapper in _WRAPPERS
    )
    return next(filter(None, wrapped), "")


def _only_quoted(answer: str, options: dict[str, str]) -> str:
    return _only([letter for letter, option in options.items() if option.lower() in answer])


def _only(letters: Sequence[str]) -> str:
    return letters[0] if len(letters) == 1 else ""


def read_options(item: Item) -> dict[str, str]:
    """Returns the options that a row has, by their letters."""
    return {
        letter: str(item[letter])
        for letter in _OPTIONS
        if letter in item and not missing(item[letter])
    }


def _score(answer: str, item: Item) -> Score:
    answer = answer.strip()
    options = read_options(item)
    inferred = infer_letter(answer, options)
    predicted = inferred or extract_mcq_letter(answer, "".join(options))
    return {
        "score": float(predicted == text(item, "answer")),
        "predicted": predicted,
        "inferred": bool(inferred),
        "index": whole(item, "index"),
        **labels(item, "category", "L2-category"),
    }


def _aggregate(scores: Sequence[Score]) -> dict[str, float]:
    right: dict[int, bool] = {}
    for score in scores:
        question = whole(score, "index") % COPY_STEP
        right[question] = right.get(question, True) and number(score, "score") == 1
    questions = [
        {**score, "score": float(right[whole(score, "index")])}
        for score in scores
        if whole(score, "index") < COPY_STEP
    ]
    if not questions:
        raise DataError(
            "MMBench has no row with an index below 1000000; score the original questions too"
        )
    return {
        "accuracy": 100 * mean(questions),
        **average_groups(questions, by=("category", "L2-category"), scale=100),
    }


MMBENCH = Scorer(score=_score, aggregate=_aggregate, unit="percent")
