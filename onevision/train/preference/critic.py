"""Drawn answers + a critic -> a grade for each, a line a prompt in a round's scores.jsonl.

    {"row": 3, "candidates": [{"text": "A ring.", "score": 80.0, "problem": null}, ...]}

The critic is a judge, any model behind an OpenAI-compatible endpoint. It sees the prompt's pictures
(of a video, some frames) and one answer at a time; answers that are the same are graded once, those
that were cut off or are empty not at all. A reply without a readable score leaves its answer
without one, which is counted, never guessed.
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
# The most frames of a video that are shown.
MAX_FRAMES = 8


def score_answers(
    prompts: Sequence[Prompt],
    lines: Sequence[Line],
    critic: Judge,
    *,
    tell: Callable[[int], object] = int,
) -> dict[int, Line]:
    """Grade the candidates among the drawn answers; returns a line of scores.jsonl for each row.

    `tell` hears how many answers have been graded. Raises JudgeError where the critic cannot be
    asked; what it has said by then is remembered.
    """
    asked = [(line["row"], text) for line in lines for text in candidates(line)]
    numbers = count(1)

    def score(row_and_text: tuple[int, str]) -> Line:
        row, text = row_and_text
        found = _score(prompts[row], text, critic)
        tell(next(numbers))
        return found

    with ThreadPoolExecutor(critic.config.num_parallel) as pool:
        found = list(pool.map(score, asked))
    scored: dict[int, list[Line]] = {line["row"]: [] for line in lines}
    for (row, _), candidate in zip(asked, found, strict=True):
        scored[row].append(candidate)
    return {row: {"candidates": inside} for row, inside in scored.items()}


def candidates(line: Line) -> list[str]:
    """Return the answers of a line of answers.jsonl that can be graded, each once, in order."""
    whole = (a["text"] for a in line["answers"] if a["finish_reason"] == "stop")
    return [text for text in dict.fromkeys(whole) if text]


def check_critic(config: EndpointConfig) -> None:
    """Ask the critic for a word, before hours go into answers for it. Raises JudgeError."""
    try:
        Endpoint(config).ask(Query(system="", user="Reply with the word yes.", max_tokens=8))
    except RefusedQueryError as error:
        raise JudgeError(
            f"the critic at {config.base_url} refuses a plain question ({error}); check its "
            f"address and its model's name, {config.model!r}"
        ) from error


def critic_fingerprint() -> str:
    """Return what changes when the words do with which a critic is asked."""
    told = json.dumps(judge_prompts()["critic"], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _score(prompt: Prompt, answer: str, critic: Judge) -> Line:
    said = {"text": answer, "score": None, "problem": None}
    try:
        reply = critic.ask(_query(prompt, answer))
        return said | {"score": parse_labelled_number(reply, label="Score", low=0, high=MAX_SCORE)}
    except UnreadableReplyError as error:
        return said | {"problem": f"no score in the critic's reply: {error}"}
    except RefusedQueryError as error:
        return said | {"problem": f"the critic refuses the question: {error}"}
    except MediaError as error:
        return said | {"problem": f"the critic cannot be shown the media: {error}"}


def _query(prompt: Prompt, answer: str) -> Query:
    words = "".join(part.text for part in prompt.message.parts if isinstance(part, Text))
    pictures = _pictures(prompt)
    return Query(
        system=fill_prompt("critic", "system"),
        user=fill_prompt("critic", "user", question=words.strip(), answer=answer),
        images=encode_images({"images": pictures}) if pictures else (),
    )


def _pictures(prompt: Prompt) -> list[object]:
    """Return what the critic is shown of a prompt's media, in order."""
    pictures: list[object] = []
    for part in prompt.message.parts:
        if isinstance(part, Image):
            pictures.append(part.source)
        elif isinstance(part, Video):
            few = replace(part, num_frames=min(part.num_frames, MAX_FRAMES))
            pictures += choose_frames(few).frames()
    return pictures
