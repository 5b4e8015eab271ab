"""Answers -> one more token of each, in one pass; or several, where guesses turn out right."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from onevision.errors import EngineError, OneVisionError
from onevision.generate.kv_cache import Pass
from onevision.generate.prompt_lookup import guess
from onevision.generate.replay import Replayer
from onevision.generate.request import Answer, Request
from onevision.generate.sampler import Token
from onevision.generate.settings import MEMORY_SHARE, EngineSettings
from onevision.model.decoder import Decoder

# Rows of a pass in the deterministic mode, filled up with nothing: always so many.
FIXED_ROWS = 8


@dataclass(kw_only=True)
class Turn:
    """An answer's part of a pass: its last token, and guesses of those after it."""

    request: Request
    answer: Answer
    ids: list[int]
    # The likeliest id after each of `ids`, where the answer asks for nothing else.
    likeliest: list[int] = field(default_factory=list[int])

    @property
    def position(self) -> int:
        """Of the first of `ids`."""
        return self.request.num_tokens + len(self.answer.ids) - 1


class Writer:
    """Goes on with answers; its decoder may be a quantised copy of the one that reads."""

    def __init__(self, decoder: Decoder, settings: EngineSettings) -> None:
        self.decoder, self.settings = decoder, settings
        self.replayer: Replayer | None = None
        if decoder.device.type == "cuda" and settings.replays:
            memory = torch.cuda.get_device_properties(decoder.device).total_memory
            most = min(settings.kv_limit, int(memory * MEMORY_SHARE))
            self.replayer = Replayer(decoder, max_bytes=most)

    def write(self, answers: Sequence[tuple[Request, Answer]]) -> Iterator[tuple[Turn, Tensor]]:
        """Run one step of every answer; give the logits [n, vocab] after each of its tokens.

        They are good until the next step.
        """
        turns = [self._turn(request, answer) for request, answer in answers]
        for together in self._passes(turns):
            yield from zip(together, fetched(together, *self._run(together)), strict=True)

    def _turn(self, request: Request, answer: Answer) -> Turn:
        ids = answer.ids[-1:]
        if self.settings.draft_tokens and request.sampling.is_plain:
            most = request.sampling.max_new_tokens - len(answer.ids) - 1
            known = request.prompt.input_ids[0].tolist() + answer.ids
            ids = ids + guess(known, min(self.settings.draft_tokens, most))
        return Turn(request=request, answer=answer, ids=ids)

    def _passes(self, turns: Sequence[Turn]) -> Iterator[Sequence[Turn]]:
        """Split turns by pass: all in one, or as many as fit the fixed number of rows."""
        if not self.settings.deterministic:
            yield turns
            return
        together: list[Turn] = []
        for turn in turns:
            if sum(len(t.ids) for t in [*together, turn]) > FIXED_ROWS:
                yield together
                together = []
            together.append(turn)
        yield together

    def _run(self, turns: Sequence[Turn]) -> tuple[Tensor, list[int]]:
        """Return logits [rows, vocab], and the row after the first token of each turn."""
        counts = [len(turn.ids) for turn in turns]
        spans = [turn.answer.span for turn in turns if turn.answer.span is not None]
        if self.replayer is not None and max(counts) == 1 and self.replayer.fits(spans):
            return self.replayer.run(spans, [turn.ids[0] for turn in turns])
        ids = [token_id for turn in turns for token_id in turn.ids]
        positions = [turn.position + i for turn in turns for i in range(len(turn.ids))]
        fill = FIXED_ROWS - len(ids) if self.settings.deterministic else 0
        device = self.decoder.device
        x = self.decoder.embedding(torch.tensor([ids + [0] * fill], device=device))
        cache = Pass(spans, counts, one_by_one=self.settings.deterministic)
        places = torch.tensor([positions + [0] * fill], device=device)
        hidden = self.decoder(x, places, cache=cache)
        cache.advance()
        firsts = list(accumulate(counts, initial=0))[:-1]
        return self.decoder.head(hidden[0])[: len(ids)], firsts


def fetched(turns: Sequence[Turn], logits: Tensor, firsts: Sequence[int]) -> list[Tensor]:
    """Return the rows of `logits` [rows, vocab] of every turn, which begin at `firsts`.

    What the host looks at comes to it in one transfer for all turns: the likeliest ids, where that
    is all an answer needs, and from a GPU the logits of the others.
    """
    own = [logits[first : first + len(t.ids)] for t, first in zip(turns, firsts, strict=True)]
    plain = [turn.answer.drawer.is_plain for turn in turns]
    if any(plain):
        likeliest = logits.argmax(-1).tolist()
        for turn, first, is_plain in zip(turns, firsts, plain, strict=True):
            turn.likeliest = likeliest[first : first + len(turn.ids)] if is_plain else []
    if logits.device.type == "cpu" or all(plain):
        return own
    asked = [rows for rows, is_plain in zip(own, plain, strict=True) if not is_plain]
    near = iter(torch.cat(asked).float().cpu().split([len(rows) for rows in asked]))
    return [rows if is_plain else next(near) for rows, is_plain in zip(own, plain, strict=True)]


def draw(turn: Turn, logits: Tensor) -> list[Token]:
    """Draw the tokens of a turn by its `logits` [n, vocab]: one, and one more a right guess.

    Raises EngineError where no token can be drawn.
    """
    span, answer = turn.answer.span, turn.answer
    assert span is not None
    drawn: list[Token] = []
    for i, guessed in enumerate([*turn.ids[1:], None]):
        if turn.likeliest:
            drawn.append(answer.drawer.take(turn.likeliest[i]))
        else:
            drawn.append(draw_one(answer, logits[i]))
        if drawn[-1].id != guessed or drawn[-1].id in turn.request.sampling.end_ids:
            break
    span.end += len(drawn) - len(turn.ids)  # wrong guesses were never read
    return drawn


def draw_one(answer: Answer, logits: Tensor) -> Token:
    """Draw the next token of an answer by `logits` [vocab]. Raises EngineError, InputError."""
    try:
        return answer.drawer.draw(logits)
    except OneVisionError:
        raise
    except RuntimeError as error:
        raise EngineError(f"no token can be drawn: {error}") from error
