"""Sampled answers and a critic -> a score for each, one line of scores.jsonl per prompt.

    {"row": 3, "candidates": [{"text": "A ring.", "score": 80.0, "problem": null}, ...]}

The critic is a judge, any model behind an OpenAI-compatible endpoint. It sees the prompt's pictures
(of a video, some frames) and one answer at a time. Equal answers are scored once; those that were
cut off or are empty are not scored. If a reply has no readable score, neither has its answer, which
is counted, never guessed.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count

from onevision.conversation import Image, Text, Video
from onevision.errors import JudgeError, MediaError
from onevision.eval.judging.client import Endpoint, EndpointConfig, Query, RefusedQueryError
from onevision.eval.judging.judge import Judge
from onevision.eval.judging.parse import UnreadableReplyError, parse_labelled_number
from onevision.eval.judging.prompts import encode_images, fill_prompt, judge_prompts
from onevision.files import Line
from onevision.inputs.video import choose_frames
from onevision.train.preference.data import Prompt

MAX_SCORE = 100.0
# Frames of a video that the critic sees at most.
MAX_FRAMES = 8


def score_answers(
    prompts: Sequence[Prompt],
    lines: Sequence[Line],
    critic: Judge,
    *,
    on_progress: Callable[[int], object] = int,
) -> dict[int, Line]:
    """Scores the candidates among the answers; returns a line of scores.jsonl for each row.

    Calls `on_progress` with the number of answers scored. Raises JudgeError if the critic cannot be
    reached; its replies so far are kept.
    """
    answers = [(line["row"], text) for line in lines for text in candidates(line)]
    numbers = count(1)

    def score(row_and_text: tuple[int, str]) -> Line:
        row, text = row_and_text
        found = _score(prompts[row], text, critic)
        on_progress(next(numbers))
        return found

    with ThreadPoolExecutor(critic.num_parallel) as pool:
        found = list(pool.map(score, answers))
    scored: dict[int, list[Line]] = {line["row"]: [] for line in lines}
    for (row, _), candidate in zip(answers, found, strict=True):
        scored[row].append(candidate)
    return {row: {"candidates": inside} for row, inside in scored.items()}


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


def critic_fingerprint() -> str:
    """Returns a digest of the prompts a critic is given."""
    prompts = json.dumps(judge_prompts()["critic"], sort_keys=True)
    return hashlib.sha256(prompts.encode()).hexdigest()[:16]


def _score(prompt: Prompt, answer: str, critic: Judge) -> Line:
    unscored = {"text": answer, "score": None, "problem": None}
    try:
        reply = critic.ask(_query(prompt, answer))
        score = parse_labelled_number(reply, label="Score", low=0, high=MAX_SCORE)
        return unscored | {"score": score}
    except UnreadableReplyError as error:
        return unscored | {"problem": f"no score in the critic's reply: {error}"}
    except RefusedQueryError as error:
        return unscored | {"problem": f"the critic refuses the question: {error}"}
    except MediaError as error:
        return unscored | {"problem": f"the critic cannot be shown the media: {error}"}


def _query(prompt: Prompt, answer: str) -> Query:
    words = "".join(part.text for part in prompt.message.parts if isinstance(part, Text))
    pictures = _pictures(prompt)
    return Query(
        system=fill_prompt("critic", "system"),
        user=fill_prompt("critic", "user", question=words.strip(), answer=answer),
        images=encode_images({"images": pictures}) if pictures else (),
    )


def _pictures(prompt: Prompt) -> list[object]:
    """Returns the pictures of a prompt's media that the critic sees, in order."""
    pictures: list[object] = []
    for part in prompt.message.parts:
        if isinstance(part, Image):
            pictures.append(part.source)
        elif isinstance(part, Video):
            few = replace(part, num_frames=min(part.num_frames, MAX_FRAMES))
            pictures += choose_frames(few).frames()
    return pictures
