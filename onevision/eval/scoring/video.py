"""Multiple choice about videos: EgoSchema, MLVU, MVBench, Video-MME and others.

Names that end in NOW follow lmms-eval 0.7.3; the others follow 0.2.3, current when the paper was
written.
"""

import re
from collections.abc import Sequence

from onevision.errors import DataError
from onevision.eval.scoring.choices import (
    LETTERS,
    extract_mcq_letter,
    find_first_letter,
    find_first_option,
    find_last_option,
    guess,
    letter,
)
from onevision.eval.scoring.fields import identifier, index, labels, text, texts, whole
from onevision.eval.scoring.interleave import choice_match
from onevision.eval.scoring.scorer import (
    Item,
    Score,
    Scorer,
    average_groups,
    averages,
    check_not_empty,
    groups,
    mean,
)

_PHRASES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option is",
    "The correct option is",
    "Best answer:",
    "Best option:",
)
# FIDELITY: two commas are missing in the list of 0.2.3, so the last four phrases stay in the answer
# and "Best option: A" is read as B.
_VIDEOMME_PHRASES = _PHRASES[:4]
_MAX_LVB_OPTIONS = 5


def _score_egoschema(answer: str, item: Item) -> Score:
    options = [option.strip() for option in texts(item, "option")]
    predicted = find_first_option(answer, options, key=_key(answer, item, "video_idx"))
    position = LETTERS.index(predicted)
    right = "answer" in item and str(position) == str(item["answer"])
    return {"score": float(right), "predicted": position, **labels(item, "video_idx")}


def _score_perceptiontest(answer: str, item: Item) -> Score:
    found = re.search(r"\b([A-D])\b", answer)
    position = LETTERS.index(found.group(1)) if found else -1
    right = position == whole(item, "answer_id")
    return {"score": float(right), "predicted": position, **labels(item, "area", "reasoning")}


def _score_nextqa(answer: str, item: Item) -> Score:
    options = [text(item, f"a{position}").strip() for position in range(5)]
    predicted = find_last_option(answer, options, key=_key(answer, item, "question"))
    right = predicted == letter(index(item, "answer", below=len(options)))
    return {"score": float(right), "predicted": predicted}


def _score_longvideobench(answer: str, item: Item) -> Score:
    predicted = find_last_option(answer, _lvb_options(item), key=_key(answer, item, "id"))
    return _lvb_score(predicted, item)


def _score_longvideobench_now(answer: str, item: Item) -> Score:
    predicted = find_first_letter(answer.strip(), LETTERS[:_MAX_LVB_OPTIONS], phrases=_PHRASES)
    letters = LETTERS[: len(_lvb_options(item))]
    return _lvb_score(predicted or guess(letters, key=_key(answer, item, "id")), item)


def _lvb_options(item: Item) -> list[str]:
    options = []
    for position in range(_MAX_LVB_OPTIONS):
        if item.get(f"option{position}") == "N/A":
            break
        options.append(text(item, f"option{position}"))
    return options


def _lvb_score(predicted: str, item: Item) -> Score:
    right = predicted == letter(index(item, "correct_choice", below=_MAX_LVB_OPTIONS))
    kinds = labels(item, "duration_group", "question_category")
    return {"score": float(right), "predicted": predicted, **kinds}


def _score_mlvu(answer: str, item: Item) -> Score:
    answer = answer.strip()
    before, bracket, _ = answer.partition(")")
    predicted = before[-1:] if bracket else answer
    return _mlvu_score(predicted, item)


def _score_mlvu_now(answer: str, item: Item) -> Score:
    return _mlvu_score(extract_mcq_letter(answer, "ABCD"), item)


def _mlvu_score(predicted: str, item: Item) -> Score:
    right = predicted == text(item, "answer")
    return {"score": float(right), "predicted": predicted, "task_type": text(item, "task_type")}


def _aggregate_mlvu(scores: Sequence[Score]) -> dict[str, float]:
    """Returns the mean over task types (m-avg, as in the paper), the accuracy, and each type's."""
    check_not_empty(scores)
    tasks = [mean(group) for group in groups(scores, "task_type").values()]
    return {
        "m_avg": 100 * sum(tasks) / len(tasks),
        "accuracy": 100 * mean(scores),
        **average_groups(scores, by=("task_type",), scale=100),
    }


def _score_mvbench(answer: str, item: Item) -> Score:
    candidates = texts(item, "candidates")
    expected = text(item, "answer")
    if expected not in candidates:
        raise DataError(f"MVBench's answer {expected!r} is none of its candidates {candidates}")
    right = choice_match(answer, letter(candidates.index(expected)))
    return {
        "score": float(right),
        "answered": bool(answer.strip()),
        **labels(item, "sub_task"),
    }


def _aggregate_mvbench(scores: Sequence[Score]) -> dict[str, float]:
    """Returns the mean over tasks. FIDELITY: empty answers leave the denominator."""
    check_not_empty(scores)
    tasks = groups(scores, "sub_task") or {"all": list(scores)}
    points = {f"sub_task/{task}": 100 * _mean_answered(group) for task, group in tasks.items()}
    return {"mvbench_accuracy": sum(points.values()) / len(points), **points}


def _mean_answered(scores: Sequence[Score]) -> float:
    answered = [score for score in scores if score["answered"]]
    return mean(answered) if answered else 0.0


def _score_videomme(answer: str, item: Item) -> Score:
    predicted = find_first_letter(answer.strip(), "ABCD", phrases=_VIDEOMME_PHRASES)
    return _videomme_score(predicted, item)


def _score_videomme_now(answer: str, item: Item) -> Score:
    return _videomme_score(extract_mcq_letter(answer, "ABCD"), item)


def _videomme_score(predicted: str, item: Item) -> Score:
    kinds = labels(item, *_VIDEOMME_KINDS)
    return {"score": float(predicted == text(item, "answer")), "predicted": predicted, **kinds}


def _key(answer: str, item: Item, name: str) -> str:
    return f"{identifier(item, name)}\n{answer}"


_VIDEOMME_KINDS = ("duration", "domain", "sub_category", "task_type")
_videomme_averages = averages("videomme_perception_score", scale=100, by=_VIDEOMME_KINDS)
_lvb_averages = averages("lvb_acc", by=("duration_group", "question_category"))

EGOSCHEMA = Scorer(score=_score_egoschema, aggregate=averages("accuracy"))
PERCEPTIONTEST = Scorer(
    score=_score_perceptiontest, aggregate=averages("accuracy", by=("area", "reasoning"))
)
NEXTQA = Scorer(score=_score_nextqa, aggregate=averages("exact_match"))
LONGVIDEOBENCH = Scorer(score=_score_longvideobench, aggregate=_lvb_averages)
LONGVIDEOBENCH_NOW = Scorer(score=_score_longvideobench_now, aggregate=_lvb_averages)
MLVU = Scorer(score=_score_mlvu, aggregate=_aggregate_mlvu, unit="percent")
MLVU_NOW = Scorer(score=_score_mlvu_now, aggregate=_aggregate_mlvu, unit="percent")
MVBENCH = Scorer(score=_score_mvbench, aggregate=_aggregate_mvbench, unit="percent")
VIDEOMME = Scorer(score=_score_videomme, aggregate=_videomme_averages, unit="percent")
VIDEOMME_NOW = Scorer(score=_score_videomme_now, aggregate=_videomme_averages, unit="percent")
