"""Free answers about videos -> queries to the judge -> scores."""

from collections.abc import Callable

from onevision.errors import DataError
from onevision.eval.judging.benchmark import Dialogue, JudgedCase
from onevision.eval.judging.client import Query
from onevision.eval.judging.images import fill_about
from onevision.eval.judging.parse import (
    UnreadableReplyError,
    parse_choice,
    parse_dict,
    parse_dict_number,
    parse_strings,
)
from onevision.eval.judging.prompts import fill_prompt, read_field
from onevision.plural import counted

# What readable replies look like.
SCORE = r"\{'score': [0-5]\}"
VERDICT = r"\{'pred': '(yes|no)', 'score': [0-5]\}"
_QUESTION_FIELDS = ("question_1", "question_2")
_ENTAILMENTS = ("entailed", "neutral", "contradicted")


def judge_activitynetqa(case: JudgedCase) -> Dialogue:
    """ActivityNet-QA: whether the answer means the same, and a grade from 0 to 5."""
    ((item, answer),) = case
    user = fill_about("video_qa", "user", item=item, answer=answer)
    system = fill_prompt("video_qa", "system")
    reply = yield Query(system=system, user=user, max_tokens=64, form=VERDICT)
    right = parse_choice(str(parse_dict(reply).get("pred")), ("yes", "no")) == "yes"
    return {"right": float(right), "score": parse_dict_number(reply, "score", high=5)}


def judge_by(*criteria: str) -> Callable[[JudgedCase], Dialogue]:
    """Video-ChatGPT and detailed descriptions: a grade from 0 to 5 for each criterion."""

    def judge(case: JudgedCase) -> Dialogue:
        ((item, answer),) = case
        user = fill_about("video_chat", "user", item=item, answer=answer)
        scores = {}
        for criterion in criteria:
            system = fill_prompt("video_chat", criterion)
            reply = yield Query(system=system, user=user, max_tokens=64, form=SCORE)
            scores[criterion] = parse_dict_number(reply, "score", high=5)
        return scores

    return judge


def judge_consistency(case: JudgedCase) -> Dialogue:
    """Video-ChatGPT: whether the answers to two questions about one video agree, from 0 to 5.

    Each item holds one of the questions and "None" for the other.
    """
    by_question = {
        name: (item, answer)
        for item, answer in case
        for name in _QUESTION_FIELDS
        if item.get(name) not in (None, "None")
    }
    if len(case) != 2 or set(by_question) != set(_QUESTION_FIELDS):
        raise DataError(
            f"video {read_field(case[0][0], 'video_name')} has {counted(len(case), 'item')} with "
            f"{', '.join(by_question)}; expected two, one with each of "
            f"{', '.join(_QUESTION_FIELDS)}"
        )
    (item, answer), (other, other_answer) = (by_question[name] for name in _QUESTION_FIELDS)
    user = fill_prompt(
        "video_chat",
        "consistency_user",
        question=item["question_1"],
        other_question=other["question_2"],
        truth=read_field(item, "answer"),
        prediction=answer,
        other_prediction=other_answer,
    )
    system = fill_prompt("video_chat", "consistency")
    reply = yield Query(system=system, user=user, max_tokens=64, form=SCORE)
    return {"consistency": parse_dict_number(reply, "score", high=5)}


def judge_events(case: JudgedCase) -> Dialogue:
    """DREAM-1K (arXiv 2407.00634): the share of each description's events that the other tells."""
    ((item, answer),) = case
    truth, system = read_field(item, "description", "answer"), fill_prompt("dream", "system")
    shares = {}
    for name, source, other in (("precision", answer, truth), ("recall", truth, answer)):
        user = fill_prompt("dream", "events", description=source)
        reply = yield Query(system=system, user=user)
        events = parse_strings(reply)
        if not events:
            shares[name] = 0.0
            continue
        numbered = "\n".join(f"{number}. {event}" for number, event in enumerate(events, start=1))
        user = fill_prompt(
            "dream", "entailed", description=other, events=numbered, count=len(events)
        )
        reply = yield Query(system=system, user=user)
        verdicts = [parse_choice(word, _ENTAILMENTS) for word in parse_strings(reply)]
        if len(verdicts) != len(events):
            raise UnreadableReplyError(f"{len(verdicts)} words for {len(events)} events", reply)
        shares[name] = verdicts.count("entailed") / len(events)
    return shares
