"""Answer + the user's own expected answer -> whether they are equal, and how similar they are."""

from collections.abc import Sequence

from onevision.eval.scoring.fields import text
from onevision.eval.scoring.numbers import parse_number, relaxed_match
from onevision.eval.scoring.rouge import rouge_l
from onevision.eval.scoring.scorer import Item, Score, Scorer, average_groups, check_not_empty
from onevision.eval.scoring.text import anls, exact_match, normalise

METRICS = ("exact_match", "contains", "anls", "rouge_l", "within_5_percent")


def _score(answer: str, item: Item) -> Score:
    expected = text(item, "answer")
    words, wanted = f" {normalise(answer)} ", f" {normalise(expected)} "
    score: dict[str, object] = {
        "score": float(exact_match(answer, expected)),
        "exact_match": float(exact_match(answer, expected)),
        "contains": float(bool(wanted.strip()) and wanted in words),
        "anls": anls(answer, [expected]),
        "rouge_l": rouge_l(answer, expected),
    }
    if parse_number(expected) is not None:
        score["within_5_percent"] = float(relaxed_match(answer, expected))
    return score | {name: str(item[name]) for name in ("dataset", "turn") if name in item}


def _aggregate(scores: Sequence[Score]) -> dict[str, float]:
    """Returns the means in per cent, over the answers that have the metric, and by data set."""
    check_not_empty(scores)
    metrics = {}
    for name in METRICS:
        values = [float(str(score[name])) for score in scores if name in score]
        if values:
            metrics[name] = 100 * sum(values) / len(values)
    several = {name for name in ("dataset", "turn") if len({s.get(name) for s in scores}) > 1}
    return metrics | average_groups(scores, by=sorted(several), scale=100)


OWN = Scorer(score=_score, aggregate=_aggregate, unit="percent")
