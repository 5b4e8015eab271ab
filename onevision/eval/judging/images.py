"""The benchmarks that a model judges: one answer -> questions for the judge -> scores.

judging.py says what such a benchmark is, stated.py has those that are judged by rules for the most
part. Prompts are in judge_prompts.yaml.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from onevision.errors import DataError
from onevision.eval.judging.benchmark import Asking, Case, JudgedBenchmark, Scores, mean_of
from onevision.eval.judging.client import Query
from onevision.eval.judging.parse import (
    UnreadableReplyError,
    labelled_number,
    one_of,
    only_number,
    record,
    score_of,
    strings,
    two_scores,
)
from onevision.eval.judging.prompts import Item, field, fill, images, prompts
from onevision.eval.judging.rules import STATED


def _against_caption(case: Case) -> Asking:
    """LLaVA-Bench: graded beside the reference's answer, by a judge that reads the caption."""
    ((item, answer),) = case
    rules = prompts()["pairwise"]["rules"]
    assert isinstance(rules, dict)
    category = field(item, "category")
    if category not in rules:
        raise DataError(f"category is {category!r}; expected {', '.join(rules)}")
    reply = yield Query(
        system=fill("pairwise", "system"),
        user=fill(
            "pairwise",
            "user",
            context=fill("pairwise", "context", caption=field(item, "caption")),
            question=field(item, "question"),
            first=field(item, "gpt_answer", "answer"),
            second=answer,
            rule=rules[category],
        ),
        temperature=0.2,
    )
    return dict(zip(("reference", "answer"), two_scores(reply), strict=True))


def _against_image(case: Case) -> Asking:
    """LLaVA-Wilder: graded beside the reference's answer, by a judge that sees the image."""
    ((item, answer),) = case
    reply = yield Query(
        system=fill("pairwise", "system"),
        user=fill(
            "pairwise",
            "user",
            context=fill("wilder", "context"),
            question=field(item, "Question", "question"),
            first=field(item, "Answer", "answer"),
            second=answer,
            rule=fill("wilder", "rule"),
        ),
        images=images(item),
    )
    return dict(zip(("reference", "answer"), two_scores(reply), strict=True))


def _mmvet(case: Case) -> Asking:
    """MM-Vet: a grade of 0.0 to 1.0; asked again, half a degree warmer, where it is unreadable."""
    ((item, answer),) = case
    for temperature in (0.0, 0.5, 1.0, 1.5):
        reply = yield Query(
            system=fill("mmvet", "system"),
            user=_about("mmvet", "user", item=item, answer=" ".join(answer.split())),
            temperature=temperature,
            max_tokens=16,
        )
        try:
            return {"score": only_number(reply, low=0, high=1)}
        except UnreadableReplyError:
            if temperature == 1.5:
                raise
    raise AssertionError("the last temperature returns or raises")


def _imagedc(case: Case) -> Asking:
    ((item, answer),) = case
    user = fill("imagedc", "user", prediction=answer)
    reply = yield Query(system=fill("imagedc", "system"), user=user, images=images(item))
    return {"score": labelled_number(reply, label="Final Score", low=0, high=100)}


def _vibe_eval(case: Case) -> Asking:
    ((item, answer),) = case
    user = _about("vibe_eval", "user", item=item, answer=answer)
    reply = yield Query(system=fill("vibe_eval", "system"), user=user, temperature=0.4)
    return {"rating": labelled_number(reply, label="Rating", low=1, high=5)}


def _live_bench(case: Case) -> Asking:
    ((item, answer),) = case
    criteria = field(item, "criteria")
    user = _about("live_bench", "user", item=item, answer=answer, criteria=criteria)
    reply = yield Query(system=fill("live_bench", "system"), user=user, images=images(item))
    return {"rating": score_of(reply, "Rating", high=10)}


def _video_qa(case: Case) -> Asking:
    """ActivityNet-QA: whether the answer means the same, and a grade of 0 to 5."""
    ((item, answer),) = case
    user = _about("video_qa", "user", item=item, answer=answer)
    reply = yield Query(system=fill("video_qa", "system"), user=user, max_tokens=64)
    right = one_of(str(record(reply).get("pred")), ("yes", "no")) == "yes"
    return {"right": float(right), "score": score_of(reply, "score", high=5)}


def _video_chat(*criteria: str) -> Callable[[Case], Asking]:
    """Video-ChatGPT and detailed description: a grade of 0 to 5 for each criterion."""

    def judge(case: Case) -> Asking:
        ((item, answer),) = case
        scores = {}
        for criterion in criteria:
            user = _about("video_chat", "user", item=item, answer=answer)
            reply = yield Query(system=fill("video_chat", criterion), user=user, max_tokens=64)
            scores[criterion] = score_of(reply, "score", high=5)
        return scores

    return judge


def _consistency(case: Case) -> Asking:
    """Video-ChatGPT: two questions about one video; each item holds one, "None" for the other."""
    asked = {name: (i, a) for i, a in case for name in _ASKED if i.get(name) not in (None, "None")}
    if len(case) != 2 or set(asked) != set(_ASKED):
        raise DataError(
            f"video {field(case[0][0], 'video_name')} has {len(case)} items with "
            f"{', '.join(asked)}; expected two, one with each of {', '.join(_ASKED)}"
        )
    (item, answer), (other, other_answer) = (asked[name] for name in _ASKED)
    user = fill(
        "video_chat",
        "consistency_user",
        question=item["question_1"],
        other_question=other["question_2"],
        truth=field(item, "answer"),
        prediction=answer,
        other_prediction=other_answer,
    )
    reply = yield Query(system=fill("video_chat", "consistency"), user=user, max_tokens=64)
    return {"consistency": score_of(reply, "score", high=5)}


_ASKED = ("question_1", "question_2")


def _binary(case: Case) -> Asking:
    """MathVerse today: whether the whole response comes to the correct answer."""
    ((item, answer),) = case
    user = _about("binary", "user", item=item, answer=answer)
    reply = yield Query(system=fill("binary", "system"), user=user, max_tokens=8)
    return {"right": float(one_of(reply, ("0", "1")))}


def _two_steps(case: Case) -> Asking:
    """MathVerse at the time of the paper: extract an answer from the end, then compare."""
    ((item, answer),) = case
    end = " ".join(answer.split(" ")[-30:])
    extracted = yield Query(
        system="", user=fill("two_steps", "extract", response=end), max_tokens=64
    )
    words = {"question": field(item, "question"), "truth": field(item, "answer")}
    user = fill("two_steps", "agree", prediction=extracted.strip(), **words)
    reply = yield Query(system="", user=user, max_tokens=8)
    return {"right": float(one_of(reply, ("0", "1")))}


def _dream(case: Case) -> Asking:
    """DREAM-1K (arXiv 2407.00634): the events of each description that the other tells of."""
    ((item, answer),) = case
    truth, system = field(item, "description", "answer"), fill("dream", "system")
    shares = {}
    for name, source, other in (("precision", answer, truth), ("recall", truth, answer)):
        reply = yield Query(system=system, user=fill("dream", "events", description=source))
        events = strings(reply)
        if not events:
            shares[name] = 0.0
            continue
        listed = "\n".join(f"{number}. {event}" for number, event in enumerate(events, start=1))
        words = {"description": other, "events": listed, "count": len(events)}
        reply = yield Query(system=system, user=fill("dream", "entailed", **words))
        said = [one_of(word, ("entailed", "neutral", "contradicted")) for word in strings(reply)]
        if len(said) != len(events):
            raise UnreadableReplyError(f"{len(said)} words for {len(events)} events", reply)
        shares[name] = said.count("entailed") / len(events)
    return shares


def _about(*path: str, item: Item, answer: str, **words: object) -> str:
    """Return a prompt about the question, the truth and the answer."""
    question = field(item, "question_for_eval", "question", "prompt")
    truth = field(item, "answer", "reference")
    return fill(*path, question=question, truth=truth, prediction=answer, **words)


def _relative(scores: Sequence[Scores]) -> dict[str, float]:
    means = {name: fmean(one[name] for one in scores) for name in ("answer", "reference")}
    relative = 100 * means["answer"] / means["reference"]
    return {"relative_score": relative, "answer_score": means["answer"]}


def _mean_of_criteria(scores: Sequence[Scores]) -> dict[str, float]:
    means = {name: fmean(one[name] for one in scores) for name in scores[0]}
    return {"score": fmean(means.values()), **means}


def _video_accuracy(scores: Sequence[Scores]) -> dict[str, float]:
    right = 100 * fmean(one["right"] for one in scores)
    return {"accuracy": right, "score": fmean(one["score"] for one in scores)}


def _f1(scores: Sequence[Scores]) -> dict[str, float]:
    precision, recall = (100 * fmean(one[n] for one in scores) for n in ("precision", "recall"))
    total = precision + recall
    f1 = 2 * precision * recall / total if total else 0.0
    return {"f1": f1, "precision": precision, "recall": recall}


_GENERAL = ("correctness", "detail", "context")
_BESIDE_CAPTION = JudgedBenchmark(
    judge=_against_caption, total=_relative, headline="relative_score", groups=("category",)
)
_MATHVERSE = JudgedBenchmark(
    judge=_binary,
    total=mean_of("right", "accuracy", times=100),
    headline="accuracy",
    groups=("problem_version",),
)
BENCHMARKS: Mapping[str, JudgedBenchmark] = {
    "llava_in_the_wild": _BESIDE_CAPTION,
    "llava_bench_coco": _BESIDE_CAPTION,
    "llava_wilder_small": JudgedBenchmark(
        judge=_against_image,
        total=_relative,
        headline="relative_score",
        unread={"reference": -1.0, "answer": -1.0},
    ),
    "mmvet": JudgedBenchmark(
        judge=_mmvet,
        total=mean_of("score", "score", times=100),
        groups=("capability",),
    ),
    "dc100_en": JudgedBenchmark(
        judge=_imagedc, total=mean_of("score", "score"), unread={"score": 0.0}
    ),
    "vibe_eval": JudgedBenchmark(
        judge=_vibe_eval,
        total=mean_of("rating", "score", times=25, less=1),
        groups=("category",),
        unread={"rating": 0.0},
    ),
    "live_bench": JudgedBenchmark(
        judge=_live_bench, total=mean_of("rating", "score", times=10), groups=("subtask",)
    ),
    "mathverse": _MATHVERSE,
    "mathverse_p24": replace(_MATHVERSE, judge=_two_steps),
    "activitynetqa": JudgedBenchmark(
        judge=_video_qa,
        total=_video_accuracy,
        headline="accuracy",
        unread={"right": 0.0, "score": 0.0},
    ),
    "videochatgpt_gen": JudgedBenchmark(
        judge=_video_chat(*_GENERAL), total=_mean_of_criteria, unread=dict.fromkeys(_GENERAL, 0.0)
    ),
    "videochatgpt_temporal": JudgedBenchmark(
        judge=_video_chat("temporal"), total=_mean_of_criteria, unread={"temporal": 0.0}
    ),
    "videochatgpt_consistency": JudgedBenchmark(
        judge=_consistency,
        total=_mean_of_criteria,
        unread={"consistency": 0.0},
        together=lambda item: field(item, "video_name"),
    ),
    "video_dc499": JudgedBenchmark(
        judge=_video_chat("detail"), total=_mean_of_criteria, unread={"detail": 0.0}
    ),
    "dream1k": JudgedBenchmark(judge=_dream, total=_f1, headline="f1"),
    **STATED,
}
