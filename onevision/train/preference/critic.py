"""Sampled answers and a critic -> a score for each, one line of scores.jsonl per prompt.

    {"row": 3, "candidates": [{"text": "A ring.", "score": 80.0, "problem": null}, ...]}

The critic is a judge: a checkpoint in this process, or a model behind an OpenAI-compatible
endpoint. It sees the prompt's pictures (of a video, some frames) and one answer at a time or, asked
pairwise, each two in both orders: an answer's score is then the share of comparisons it wins.
Equal answers are scored once; those that were cut off or are empty are not scored. If no reply is
readable, the answer has no score, which is counted, never guessed.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count, permutations
from pathlib import Path
from statistics import fmean

from onevision.conversation import Image, Message, Text, Video
from onevision.endpoint import EndpointConfig, RefusedQueryError
from onevision.errors import JudgeError, MediaError
from onevision.eval.judging.client import Endpoint, Query
from onevision.eval.judging.judge import Judge
from onevision.eval.judging.llava_critic import (
    ask_for_better,
    ask_for_score,
    read_better,
    read_score,
)
from onevision.eval.judging.local import LocalJudge
from onevision.eval.judging.parse import UnreadableReplyError, parse_labelled_number
from onevision.eval.judging.prompts import encode_images, fill_prompt, judge_prompts
from onevision.files import Line
from onevision.generate.answer import load
from onevision.inputs.video import choose_frames
from onevision.train.preference.candidates import CriticPrompt
from onevision.train.preference.data import Prompt

MAX_SCORE = 100.0
# Frames of a video that the critic sees at most.
MAX_FRAMES = 8


@dataclass(frozen=True, kw_only=True)
class LocalCritic:
    """A checkpoint that scores in this process, and what the user calls it."""

    model: str
    path: Path

    def open(self, *, device: str, dtype: str, memory: Path, fingerprint: str) -> Judge:
        """Loads it. Raises CheckpointError."""
        loaded = load(self.path, device=device, dtype=dtype)
        return Judge(LocalJudge(loaded, name=self.model, fingerprint=fingerprint), memory=memory)


def score_answers(
    prompts: Sequence[Prompt],
    lines: Sequence[Line],
    critic: Judge,
    *,
    prompt: CriticPrompt = "general",
    on_progress: Callable[[int], object] = int,
) -> dict[int, Line]:
    """Scores the candidates among the answers; returns a line of scores.jsonl for each row.

    Calls `on_progress` with the number of answers scored, or of comparisons made. Raises JudgeError
    if the critic cannot be reached; its replies so far are kept.
    """
    numbers = count(1)
    texts = {line["row"]: candidates(line) for line in lines}
    tasks: list[tuple[int, tuple[str, ...]]] = [
        (row, shown)
        for row, some in texts.items()
        for shown in (permutations(some, 2) if prompt == "pairwise" else ((one,) for one in some))
    ]

    def ask(task: tuple[int, tuple[str, ...]]) -> Line:
        row, shown = task
        found = _score(prompts[row].message, shown, critic, prompt)
        on_progress(next(numbers))
        return found

    with ThreadPoolExecutor(critic.num_parallel) as pool:
        replies = list(pool.map(ask, tasks))
    if prompt != "pairwise":
        told = zip(tasks, replies, strict=True)
        scored: dict[int, list[Line]] = {row: [] for row in texts}
        for (row, _), reply in told:
            scored[row].append(reply)
        return {row: {"candidates": inside} for row, inside in scored.items()}
    duels = dict(zip(tasks, replies, strict=True))
    return {
        row: {"candidates": [_count_wins(row, one, some, duels) for one in some]}
        for row, some in texts.items()
    }


def _count_wins(
    row: int, answer: str, answers: Sequence[str], duels: dict[tuple[int, tuple[str, ...]], Line]
) -> Line:
    """Returns an answer's line: the share of its comparisons that it wins, out of 100."""
    won: list[float] = []
    problem = None if len(answers) > 1 else "there is no other answer to compare it with"
    for other in answers:
        if other == answer:
            continue
        first, second = duels[row, (answer, other)], duels[row, (other, answer)]
        won += [one for one in (first["score"],) if one is not None]
        won += [MAX_SCORE - one for one in (second["score"],) if one is not None]
        problem = problem or first["problem"] or second["problem"]
    score = fmean(won) if won else None
    return {"text": answer, "score": score, "problem": None if won else problem}


def candidates(line: Line) -> list[str]:
    """Returns the answers of a line of answers.jsonl that can be scored, each once, in order."""
    whole = (a["text"] for a in line["answers"] if a["finish_reason"] == "stop")
    return [text for text in dict.fromkeys(whole) if text]


def check_critic(config: EndpointConfig) -> None:
    """Asks the critic for one word before hours go into answers for it. Raises JudgeError."""
    try:
        Endpoint(config).ask(Query(system="", user="Reply with the word yes.", max_tokens=8))
    except RefusedQueryError as error:
        raise JudgeError(
            f"the critic at {config.base_url} refuses a plain question ({error}); check its "
            f"address and its model's name, {config.model!r}"
        ) from error


def critic_fingerprint(prompt: CriticPrompt = "general") -> str:
    """Returns a digest of the prompts a critic is given."""
    section = "critic" if prompt == "general" else "llava_critic"
    asked = judge_prompts()[section] if prompt == "general" else judge_prompts()[section][prompt]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def score_answer(message: Message, answer: str, critic: Judge) -> Line:
    """Returns a candidate of scores.jsonl: the score from 0 to 100, or None and the problem.

    Raises JudgeError if the critic cannot be reached.
    """
    return _score(message, (answer,), critic, "general")


def _score(message: Message, answers: tuple[str, ...], critic: Judge, kind: CriticPrompt) -> Line:
    """Returns the score of one answer or, of two, of the first against the second."""
    unscored = {"text": answers[0], "score": None, "problem": None}
    try:
        return unscored | {"score": _read(critic.ask(_query(message, answers, kind)), kind)}
    except UnreadableReplyError as error:
        return unscored | {"problem": f"no score in the critic's reply: {error}"}
    except RefusedQueryError as error:
        return unscored | {"problem": f"the critic refuses the question: {error}"}
    except MediaError as error:
        return unscored | {"problem": f"the critic cannot be shown the media: {error}"}


def _read(reply: str, kind: CriticPrompt) -> float:
    match kind:
        case "general":
            return parse_labelled_number(reply, label="Score", low=0, high=MAX_SCORE)
        case "pointwise":
            return read_score(reply)
        case "pairwise":
            return MAX_SCORE * read_better(reply)


def _query(message: Message, answers: tuple[str, ...], kind: CriticPrompt) -> Query:
    words = "".join(part.text for part in message.parts if isinstance(part, Text)).strip()
    pictures = _pictures(message)
    images = encode_images({"images": pictures}) if pictures else ()
    match kind:
        case "general":
            return Query(
                system=fill_prompt("critic", "system"),
                user=fill_prompt("critic", "user", question=words, answer=answers[0]),
                images=images,
            )
        case "pointwise":
            return ask_for_score(words, answers[0], images)
        case "pairwise":
            return ask_for_better(words, answers[0], answers[1], images)


def _pictures(message: Message) -> list[object]:
    """Returns the pictures of a message's media that the critic sees, in order."""
    pictures: list[object] = []
    for part in message.parts:
        if isinstance(part, Image):
            pictures.append(part.source)
        elif isinstance(part, Video):
            few = replace(part, num_frames=min(part.num_frames, MAX_FRAMES))
            pictures += choose_frames(few).frames()
    return pictures
