"""Answers -> the logits of each one's next token, in one pass; with drafts, of several tokens."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from onevision.errors import EngineError, OneVisionError
from onevision.generate.drafter import Drafter
from onevision.generate.graphed_decoder import GraphedDecoder, StepTaker, whole_decoder
from onevision.generate.kv_cache import KVCacheBatch
from onevision.generate.request import Answer, Request
from onevision.generate.sampler import Token
from onevision.generate.settings import MEMORY_SHARE, EngineSettings
from onevision.model.decoder import Decoder

# Rows of every pass in the deterministic mode; those left over are padding.
FIXED_ROWS = 8
# Most and fewest last tokens that prompt lookup searches for.
LONGEST_MATCH, SHORTEST_MATCH = 4, 2


@dataclass(kw_only=True)
class DecodeStep:
    """One answer's part of a pass: its last token, and draft tokens that may follow it."""

    request: Request
    answer: Answer
    ids: list[int]
    # The likeliest id after each of `ids`, if the answer needs nothing else.
    likeliest: list[int] = field(default_factory=list[int])

    @property
    def position(self) -> int:
        """Rotary position of the first of `ids`."""
        return self.request.num_positions + len(self.answer.ids) - 1


class BatchDecoder:
    """Extends answers, all in one pass."""

    def __init__(
        self,
        decoder: Decoder,
        settings: EngineSettings,
        drafter: Drafter | None = None,
        new_step_taker: Callable[[], StepTaker] | None = None,
    ) -> None:
        self.decoder, self.drafter = decoder, drafter
        self.drafted_tokens = self.accepted_tokens = 0
        self.deterministic, self.draft_tokens = settings.deterministic, settings.draft_tokens
        self.graphed_decoder: GraphedDecoder | None = None
        if settings.decodes_in_fixed_shapes(decoder.device.type):
            taker = new_step_taker() if new_step_taker is not None else whole_decoder(decoder)
            most = _static_bytes(decoder.device, settings)
            self.graphed_decoder = GraphedDecoder(taker, max_bytes=most)

    @property
    def graphed_steps(self) -> int:
        """Passes taken in the fixed shapes of CUDA graphs."""
        return 0 if self.graphed_decoder is None else self.graphed_decoder.num_steps

    def step(
        self, answers: Sequence[tuple[Request, Answer]]
    ) -> Iterator[tuple[DecodeStep, Tensor]]:
        """Yields a step of every answer, with the logits [n, vocab] after each of its tokens.

        They are valid until the next call.
        """
        steps = self._plan(answers)
        for group in self._group_by_pass(steps):
            yield from zip(group, fetch_logits(group, *self._run(group)), strict=True)

    def sample(self, step: DecodeStep, logits: Tensor) -> list[Token]:
        """Samples the tokens of a step as `sample_step` does, and counts drafts."""
        tokens = sample_step(step, logits)
        drafted, accepted = len(step.ids) - 1, len(tokens) - 1
        self.drafted_tokens += drafted
        self.accepted_tokens += accepted
        step.answer.drafted_tokens += drafted
        step.answer.accepted_tokens += accepted
        return tokens

    def _plan(self, answers: Sequence[tuple[Request, Answer]]) -> list[DecodeStep]:
        if self.drafter is not None:
            drafts = self.drafter.propose(answers)
        else:
            drafts = [self._look_up(request, answer) for request, answer in answers]
        most = FIXED_ROWS - 1 if self.deterministic else None
        return [
            DecodeStep(request=request, answer=answer, ids=[answer.ids[-1], *draft[:most]])
            for (request, answer), draft in zip(answers, drafts, strict=True)
        ]

    def _look_up(self, request: Request, answer: Answer) -> list[int]:
        if not (self.draft_tokens and request.sampling.is_plain):
            return []
        most = request.sampling.max_new_tokens - len(answer.ids) - 1
        known = request.prompt.input_ids[0].tolist() + answer.ids
        return prompt_lookup(known, min(self.draft_tokens, most))

    def _group_by_pass(self, steps: Sequence[DecodeStep]) -> Iterator[Sequence[DecodeStep]]:
        """Yields all steps as one pass, or in the deterministic mode as many as fit its rows."""
        if not self.deterministic:
            yield steps
            return
        group: list[DecodeStep] = []
        for step in steps:
            if sum(len(other.ids) for other in [*group, step]) > FIXED_ROWS:
                yield group
                group = []
            group.append(step)
        yield group

    def _run(self, steps: Sequence[DecodeStep]) -> tuple[Tensor, list[int]]:
        """Returns logits [rows, vocab], and the first row of each step."""
        counts = [len(step.ids) for step in steps]
        caches = [s.answer.kv_cache for s in steps if s.answer.kv_cache is not None]
        graphed = self.graphed_decoder
        if graphed is not None and max(counts) == 1 and graphed.fits(caches):
            ids = [step.ids[0] for step in steps]
            return graphed.run(caches, ids, positions=[step.position for step in steps])
        ids = [token_id for step in steps for token_id in step.ids]
        positions = [step.position + i for step in steps for i in range(len(step.ids))]
        padding = [0] * (FIXED_ROWS - len(ids) if self.deterministic else 0)
        device = self.decoder.device
        x = self.decoder.embedding(torch.tensor([ids + padding], device=device))  # [1, S, D]
        batch = KVCacheBatch(caches, counts, one_by_one=self.deterministic)
        hidden = self.decoder(x, torch.tensor([positions + padding], device=device), cache=batch)
        batch.advance()
        firsts = list(accumulate(counts, initial=0))[:-1]
        return self.decoder.head(hidden[0])[: len(ids)], firsts


def _static_bytes(device: torch.device, settings: EngineSettings) -> int:
    """Returns the most memory that a static cache may take on a device."""
    if device.type != "cuda":
        return settings.kv_limit
    memory = torch.cuda.get_device_properties(device).total_memory
    return min(settings.kv_limit, int(memory * MEMORY_SHARE))


def prompt_lookup(ids: Sequence[int], count: int) -> list[int]:
    """Returns up to `count` draft tokens: those that followed the last tokens earlier in `ids`.

    Answers often repeat their prompt. A draft costs one more row in a pass whose time goes into
    reading weights, and is kept only if the model itself generates the same token.
    """
    for length in range(min(LONGEST_MATCH, len(ids) - 1), SHORTEST_MATCH - 1, -1):
        tail = list(ids[-length:])
        for begin in range(len(ids) - length - 1, -1, -1):
            if ids[begin] == tail[0] and list(ids[begin : begin + length]) == tail:
                return list(ids[begin + length : begin + length + count])
    return []


def fetch_logits(
    steps: Sequence[DecodeStep], logits: Tensor, firsts: Sequence[int]
) -> list[Tensor]:
    """Returns the rows of `logits` [rows, vocab] of every step, which begin at `firsts`.

    What the host needs crosses from the device in one transfer for all steps: the likeliest ids of
    the answers that need nothing else, and the logits of the others.
    """
    own = [logits[first : first + len(s.ids)] for s, first in zip(steps, firsts, strict=True)]
    plain = [step.answer.sampler.is_plain for step in steps]
    if any(plain):
        likeliest = logits.argmax(-1).tolist()
        for step, first, is_plain in zip(steps, firsts, plain, strict=True):
            step.likeliest = likeliest[first : first + len(step.ids)] if is_plain else []
    if logits.device.type == "cpu" or all(plain):
        return own
    needed = [rows for rows, is_plain in zip(own, plain, strict=True) if not is_plain]
    fetched = iter(torch.cat(needed).float().cpu().split([len(rows) for rows in needed]))
    return [rows if is_plain else next(fetched) for rows, is_plain in zip(own, plain, strict=True)]


def sample_step(step: DecodeStep, logits: Tensor) -> list[Token]:
    """Samples the tokens of a step from `logits` [n, vocab]: one, and one per correct draft.

    Raises EngineError if no token can be sampled.
    """
    cache, answer = step.answer.kv_cache, step.answer
    assert cache is not None
    tokens: list[Token] = []
    for i, draft in enumerate([*step.ids[1:], None]):
        if step.likeliest:
            tokens.append(answer.sampler.accept(step.likeliest[i]))
        else:
            tokens.append(sample_token(answer, logits[i]))
        if tokens[-1].id != draft or tokens[-1].id in step.request.sampling.end_ids:
            break
    cache.length += len(tokens) - len(step.ids)  # drops wrong drafts
    return tokens


def sample_token(answer: Answer, logits: Tensor) -> Token:
    """Samples the next token of an answer from `logits` [vocab]. Raises EngineError, InputError."""
    try:
        return answer.sampler.sample(logits)
    except OneVisionError:
        raise
    except RuntimeError as error:
        raise EngineError(f"no token can be sampled: {error}") from error
