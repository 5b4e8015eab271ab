"""Logits of the next token -> its id."""

import math
from dataclasses import dataclass
from typing import Any, Self, TypedDict

import torch
from torch import Tensor

from onevision.errors import InputError


class SamplingOptions(TypedDict, total=False):
    """The fields of Sampling, to override some of them."""

    max_new_tokens: int
    end_ids: tuple[int, ...]
    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    seed: int | None


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How answers are drawn. The default is greedy."""

    # The most tokens of one answer.
    max_new_tokens: int = 512
    # Ids that end an answer.
    end_ids: tuple[int, ...] = ()
    # 0 takes the likeliest token; above, tokens are drawn, the flatter the higher.
    temperature: float = 0.0
    # Draw among the likeliest tokens that together have this probability; 1 is all.
    top_p: float = 1.0
    # Draw among this many likeliest tokens; 0 is all.
    top_k: int = 0
    # Divides the scores of tokens already in the answer (multiplies negative ones); 1 is off.
    # FIDELITY: the prompt's own tokens are not counted, as in the reference.
    repetition_penalty: float = 1.0
    # Draws are a function of this and the prompt; None takes a new one each time.
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, least, most in (
            ("max_new_tokens", 1, math.inf),
            ("temperature", 0, 100),
            ("top_k", 0, math.inf),
        ):
            value = vars(self)[name]
            if not least <= value <= most:
                raise InputError(f"{name} is {value}; expected {least} to {most}")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}; expected more than 0, at most 1")
        if not (math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0):
            raise InputError(f"repetition_penalty is {self.repetition_penalty}; expected above 0")

    def override(self, options: SamplingOptions) -> Self:
        """Return these settings with some replaced. Raises InputError for an unknown one."""
        unknown = sorted(set(options) - set(vars(self)))
        if unknown:
            raise InputError(f"unknown option {unknown[0]!r}; expected some of {list(vars(self))}")
        values: dict[str, Any] = {**vars(self), **options}  # Any: checked by __post_init__
        return type(self)(**values)


def choose(
    logits: Tensor, seen: Tensor, sampling: Sampling, generator: torch.Generator | None
) -> Tensor:
    """Choose one id a row from `logits` [B, vocab]; `seen` [B, vocab] marks ids already given."""
    logits = logits.float()
    if sampling.repetition_penalty != 1.0:
        penalty = sampling.repetition_penalty
        penalised = torch.where(logits > 0, logits / penalty, logits * penalty)
        logits = torch.where(seen, penalised, logits)
    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = _restrict(logits / sampling.temperature, sampling).softmax(-1)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]


def _restrict(logits: Tensor, sampling: Sampling) -> Tensor:
    if sampling.top_k:
        least = logits.topk(min(sampling.top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < least, -math.inf)
    if sampling.top_p < 1:
        ranked, order = logits.sort(descending=True)
        before = ranked.softmax(-1).cumsum(-1) - ranked.softmax(-1)
        drop = (before >= sampling.top_p).scatter(-1, order, before >= sampling.top_p)
        logits = logits.masked_fill(drop, -math.inf)
    return logits
