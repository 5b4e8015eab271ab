"""Prompts and a model -> several sampled answers to each, one line of answers.jsonl per prompt.

    {"row": 3, "id": "7", "answers": [{"text": "A ring.", "finish_reason": "stop"}, ...],
     "problem": null}

A prompt's answers depend only on the seed, the round and the prompt's number. A prompt that cannot
be answered, because its picture is damaged or it is too long, has a problem and no answers.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from onevision.conversation import Conversation
from onevision.errors import ConfigError, InputError
from onevision.eval.answers import AnswerFiles
from onevision.files import Line
from onevision.generate.answer import Model
from onevision.generate.reply import build_reply
from onevision.generate.request import Request
from onevision.generate.sampler import MAX_ANSWERS, SamplingOptions
from onevision.train.preference.data import Prompt

# How a critic is asked: in our words, for a score; or in LLaVA-Critic's, for a score or for the
# better of two answers.
CriticPrompt = Literal["general", "pointwise", "pairwise"]


@dataclass(frozen=True, kw_only=True)
class RoundsConfig:
    """How many answers are sampled, and how: the recipe of LLaVA-OneVision-Chat.

    Source: docs/LLaVA_OneVision_Chat.md of the reference, which does not say how long an answer
    may be. Raises ConfigError if a value is out of range.
    """

    num_rounds: int = 3
    # Answers per prompt, of which the best and the worst become a pair.
    num_answers: int = 5
    temperature: float = 0.7
    top_p: float = 0.9
    # A longer answer is cut off and is not a candidate.
    max_new_tokens: int = 1024
    # Prompts that are answered together.
    prompts_at_once: int = 8
    # How the critic is asked; None: pointwise in this process, general behind an address.
    critic_prompt: CriticPrompt | None = None

    def __post_init__(self) -> None:
        for name, least, most in (
            ("num_rounds", 1, 100),
            ("num_answers", 2, MAX_ANSWERS),
            ("max_new_tokens", 1, 2**20),
            ("prompts_at_once", 1, 1024),
        ):
            if not least <= vars(self)[name] <= most:
                raise ConfigError(f"{name} is {vars(self)[name]}; expected {least} to {most}")
        if not 0 < self.temperature <= 100:
            raise ConfigError(
                f"temperature is {self.temperature}; expected more than 0: answers that are all "
                "the same make no pair"
            )
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}; expected more than 0, at most 1")

    @property
    def sampling(self) -> SamplingOptions:
        """How the answers to one prompt are sampled, except for the seed."""
        return {
            "num_answers": self.num_answers,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_new_tokens": self.max_new_tokens,
        }


def sample_answers(
    model: Model,
    prompts: Sequence[Prompt],
    files: AnswerFiles,
    *,
    config: RoundsConfig,
    seed: str,
    on_progress: Callable[[int], object] = int,
) -> None:
    """Answers the prompts that have no line yet; calls `on_progress` with how many have one.

    Raises EngineError if generation fails, DataError if writing does.
    """
    done = {line["row"] for line in files.answers()}
    remaining = iter([row for row in range(len(prompts)) if row not in done])
    while rows := list(islice(remaining, config.prompts_at_once)):
        chosen = {row: prompts[row] for row in rows}
        files.add(_sample(model, chosen, config.sampling, seed=seed))
        done.update(rows)
        on_progress(len(done))


def _sample(
    model: Model, prompts: dict[int, Prompt], sampling: SamplingOptions, *, seed: str
) -> list[Line]:
    requests: dict[int, Request] = {}
    problems: dict[int, str] = {}
    for row, prompt in prompts.items():
        options = sampling | SamplingOptions(seed=_seed(f"{seed}/{row}"))
        try:
            inputs = model.prompt(Conversation([prompt.message]))
            requests[row] = model.engine.submit(inputs, model.sampling.override(options))
        except InputError as error:
            problems[row] = str(error)
    model.engine.run(list(requests.values()))
    return [
        {
            "row": row,
            "id": prompt.id,
            "answers": _answers(requests[row], model.arithmetic) if row in requests else [],
            "problem": problems.get(row),
        }
        for row, prompt in prompts.items()
    ]


def _answers(request: Request, arithmetic: str) -> list[Line]:
    numbers = range(len(request.answers))
    replies = [build_reply(request, number=number, arithmetic=arithmetic) for number in numbers]
    return [{"text": one.text, "finish_reason": one.finish_reason} for one in replies]


def _seed(words: str) -> int:
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:6], "big")
