"""Logits [vocab] of the next token -> its id: greedy or at random, with penalties and limits."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self, TypedDict

import torch
from torch import Tensor

from onevision.errors import InputError
from onevision.generate.choice import draw, restrict
from onevision.generate.option_types import check_types, to_plain

# Most alternatives reported with each token.
MAX_TOP_LOGPROBS = 20
MAX_STOPS, MAX_STOP_CHARACTERS = 16, 256
MAX_ANSWERS = 128
# Below this temperature the likeliest token is taken: logits divided by less may overflow.
LEAST_TEMPERATURE = 1e-6
# Repetition penalties are applied within these bounds, and what they give as well, for the same
# reason: divided by `LEAST_TEMPERATURE` it is still finite in fp32.
LEAST_PENALTY, LARGEST_LOGIT = 1e-30, 1e30


class SamplingOptions(TypedDict, total=False):
    """The fields of Sampling, all optional: what `ask` and `stream` accept."""

    max_new_tokens: int
    min_new_tokens: int
    end_ids: tuple[int, ...]
    end_texts: tuple[str, ...]
    stop: tuple[str, ...]
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[int, float]
    logprobs: int | None
    num_answers: int
    seed: int | None
    choices: tuple[str, ...]
    regex: str | None
    json_schema: str | None


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to sample answers; greedy by default. Raises InputError for values out of range."""

    # Most tokens of one answer, and fewest before it may end.
    max_new_tokens: int = 512
    min_new_tokens: int = 0
    # Token ids that end an answer.
    end_ids: tuple[int, ...] = ()
    # Strings that end an answer in chat formats that have no token for it ("###").
    end_texts: tuple[str, ...] = ()
    # Further strings that end an answer. Neither kind becomes part of it.
    stop: tuple[str, ...] = ()
    # 0 takes the likeliest token; above, tokens are sampled, more evenly the higher it is.
    temperature: float = 0.0
    # Sample from the likeliest tokens that together have this probability; 1 is all.
    top_p: float = 1.0
    # Sample from this many likeliest tokens; 0 is all.
    top_k: int = 0
    # Sample from tokens at least this share as likely as the likeliest; 0 is all.
    min_p: float = 0.0
    # Divides the logits of tokens already in the answer (multiplies negative ones); 1 is off.
    # FIDELITY: the prompt's own tokens are not counted, as in the reference.
    repetition_penalty: float = 1.0
    # Subtracted from the logits of tokens already in the answer, once or per occurrence.
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    # Added to the logits of these token ids.
    logit_bias: Mapping[int, float] = field(default_factory=dict[int, float])
    # Report each token's log-probability and those of so many likeliest; None reports none.
    logprobs: int | None = None
    # Answers to one prompt, which is prefilled once.
    num_answers: int = 1
    # Makes sampling repeatable for the same prompt; None takes a new seed each time.
    seed: int | None = None
    # The answer is one of these, or matches this regular expression, or is JSON of this schema.
    choices: tuple[str, ...] = ()
    regex: str | None = None
    json_schema: str | None = None

    def __post_init__(self) -> None:
        check_types(vars(self))
        for name, least, most in (
            ("max_new_tokens", 1, math.inf),
            ("min_new_tokens", 0, self.max_new_tokens),
            ("temperature", 0, 100),
            ("top_k", 0, math.inf),
            ("min_p", 0, 1),
            ("presence_penalty", -2, 2),
            ("frequency_penalty", -2, 2),
            ("num_answers", 1, MAX_ANSWERS),
        ):
            value = vars(self)[name]
            if not least <= value <= most:
                raise InputError(f"{name} is {value}; expected {least} to {most}")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}; expected more than 0, at most 1")
        if not (math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0):
            raise InputError(f"repetition_penalty is {self.repetition_penalty}; expected above 0")
        if self.logprobs is not None and not 0 <= self.logprobs <= MAX_TOP_LOGPROBS:
            raise InputError(f"logprobs is {self.logprobs}; expected 0 to {MAX_TOP_LOGPROBS}")
        if len(self.stop) > MAX_STOPS or not all(
            0 < len(words) <= MAX_STOP_CHARACTERS for words in self.stop
        ):
            raise InputError(
                f"stop holds {len(self.stop)} strings; expected at most {MAX_STOPS} of 1 to "
                f"{MAX_STOP_CHARACTERS} characters"
            )
        for token_id, bias in self.logit_bias.items():
            if not -100 <= bias <= 100:
                raise InputError(f"logit_bias of {token_id} is {bias}; expected -100 to 100")
        forms = (self.choices or None, self.regex, self.json_schema)
        if sum(form is not None for form in forms) > 1:
            raise InputError("more than one of choices, regex, json_schema is given; expected one")

    @property
    def stops(self) -> tuple[str, ...]:
        """All strings that end an answer."""
        return (*self.end_texts, *self.stop)

    @property
    def is_plain(self) -> bool:
        """Whether each token is simply the likeliest one, with nothing to adjust or report."""
        return (
            self.temperature == 0
            and self.repetition_penalty == 1
            and not (self.presence_penalty or self.frequency_penalty or self.logit_bias)
            and self.logprobs is None
            and not self.min_new_tokens
            and not self.is_constrained
        )

    @property
    def is_constrained(self) -> bool:
        """Whether the answer must match a form."""
        return bool(self.choices) or self.regex is not None or self.json_schema is not None

    def override(self, options: SamplingOptions) -> Self:
        """Returns these values with some replaced. Raises InputError for an unknown option."""
        unknown = sorted(set(options) - set(vars(self)))
        if unknown:
            raise InputError(f"unknown option {unknown[0]!r}; expected some of {list(vars(self))}")
        plain = {name: to_plain(value) for name, value in options.items()}
        values: dict[str, Any] = {**vars(self), **plain}  # Any: checked by __post_init__
        return type(self)(**values)


@dataclass(frozen=True, kw_only=True)
class Token:
    """One token of an answer; log-probabilities, if asked for, are the model's own."""

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()  # (id, log-probability), likeliest first


class Constraint(Protocol):
    """What an answer must match; see `constrain.py`."""

    @property
    def is_complete(self) -> bool:
        """Whether the answer matches and nothing may follow."""
        ...

    def allowed(self) -> Tensor:
        """Returns a mask [vocab], True for the ids that may come next."""
        ...

    def accept(self, token_id: int) -> None:
        """Advances past a token of the answer."""
        ...

    def copy(self) -> "Constraint":
        """Returns another in the same state."""
        ...


class Sampler:
    """Samples the tokens of one answer. Its state is the answer's own, whatever else is running."""

    def __init__(
        self, sampling: Sampling, *, number: int = 0, constraint: Constraint | None = None
    ) -> None:
        self.sampling, self.constraint = sampling, constraint
        self.is_plain = sampling.is_plain
        self.counts: dict[int, int] = {}  # of each id in the answer
        self.num_tokens = 0
        self.generator: torch.Generator | None = None
        if sampling.temperature > 0:
            seed = int.from_bytes(os.urandom(7)) if sampling.seed is None else sampling.seed
            self.generator = torch.Generator().manual_seed((seed + number) % 2**63)

    def sample(self, logits: Tensor) -> Token:
        """Chooses the next token by `logits` [vocab]."""
        if self.is_plain:
            return self.accept(int(logits.argmax()))
        scores = self._adjust(logits.float().cpu())
        if self.sampling.temperature < LEAST_TEMPERATURE:
            token_id = int(scores.argmax())
        else:
            own = self.sampling
            kept = restrict(
                scores / own.temperature, top_k=own.top_k, min_p=own.min_p, top_p=own.top_p
            )
            token_id = draw(kept.softmax(-1), generator=self.generator)
        return self._with_logprobs(self.accept(token_id), logits)

    def fork(self) -> "Sampler":
        """Returns another one that will sample the same tokens from the same logits."""
        constraint = None if self.constraint is None else self.constraint.copy()
        other = Sampler(replace(self.sampling, logprobs=None), constraint=constraint)
        other.counts, other.num_tokens = dict(self.counts), self.num_tokens
        if self.generator is not None and other.generator is not None:
            other.generator.set_state(self.generator.get_state())
        return other

    def accept(self, token_id: int) -> Token:
        """Takes a token as the next one of the answer."""
        self.num_tokens += 1
        self.counts[token_id] = self.counts.get(token_id, 0) + 1
        if self.constraint is not None:
            self.constraint.accept(token_id)
        return Token(id=token_id)

    @property
    def must_end(self) -> bool:
        """Whether the answer ends without an end token: it is complete, and no token ends it."""
        constraint = self.constraint
        return constraint is not None and not self.sampling.end_ids and constraint.is_complete

    def _adjust(self, scores: Tensor) -> Tensor:
        """Returns logits [vocab] with penalties and biases, -inf for tokens that are ruled out."""
        sampling = self.sampling
        has_penalty = sampling.repetition_penalty != 1 or (
            sampling.presence_penalty or sampling.frequency_penalty
        )
        if has_penalty and self.counts:
            scores = self._penalise(scores.clone())
        if sampling.logit_bias:
            ids = torch.tensor(list(sampling.logit_bias))
            scores = scores.index_add(
                0, ids, torch.tensor(list(sampling.logit_bias.values()), dtype=scores.dtype)
            )
        if self.constraint is not None:
            scores = scores.masked_fill(~self.constraint.allowed(), -math.inf)
        if self.num_tokens < sampling.min_new_tokens:
            ends = torch.tensor(sampling.end_ids, dtype=torch.int64)
            without_ends = scores.index_fill(0, ends, -math.inf)
            # A form that is complete leaves nothing but the end, however short the answer is.
            if without_ends.max() > -math.inf:
                scores = without_ends
        return scores

    def _penalise(self, scores: Tensor) -> Tensor:
        ids, counts = torch.tensor(list(self.counts)), torch.tensor(list(self.counts.values()))
        penalty = min(max(self.sampling.repetition_penalty, LEAST_PENALTY), LARGEST_LOGIT)
        own = scores[ids]
        own = torch.where(own > 0, own / penalty, own * penalty)
        own = own.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
        own -= self.sampling.presence_penalty + self.sampling.frequency_penalty * counts
        scores[ids] = own
        return scores

    def _with_logprobs(self, token: Token, logits: Tensor) -> Token:
        """Adds the log-probabilities that were asked for."""
        if self.sampling.logprobs is None:
            return token
        logprobs = logits.float().log_softmax(-1)
        best = logprobs.topk(min(self.sampling.logprobs, len(logprobs)))
        top = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        return replace(token, logprob=float(logprobs[token.id]), top=top)
