"""Records what engines and learners are given and compute, at any door."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from torch import Tensor

from onevision.generate.engine import Engine
from onevision.generate.request import Request
from onevision.train.feed import MicroBatch, sample_lengths
from onevision.train.learner import Learner


@dataclass(eq=False, kw_only=True)
class Seen:
    """One prompt as a path gave it to the network, and what followed."""

    ids: tuple[int, ...]
    pixels: bytes  # of pixel_values, float32
    answer: list[int]
    logprobs: list[float]  # of each id of the answer
    logits: list[Tensor] = field(default_factory=list)  # [vocab] per id; not from learners
    packed_with: int = 0  # other samples in the same row

    @property
    def key(self) -> tuple[tuple[int, ...], bytes]:
        return self.ids, self.pixels


class Recorder:
    """Watches `Engine` and `Learner`, which run as they would unwatched."""

    def __init__(self) -> None:
        self._requests: list[tuple[Request, list[Tensor]]] = []
        self._learned: list[Seen] = []

    def take(self) -> list[Seen]:
        """Returns what was seen since the last call."""
        answered = [_from_request(request, logits) for request, logits in self._requests]
        seen, self._requests, self._learned = [*answered, *self._learned], [], []
        return seen

    @contextmanager
    def watching(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            self._watch_engines(patch)
            self._watch_learners(patch)
            yield

    def _watch_engines(self, patch: pytest.MonkeyPatch) -> None:
        submit, start, extend = Engine.submit, Engine._start_answers, Engine._extend_all

        def watched_submit(engine, prompt, *arguments, **options):
            request = submit(engine, prompt, *arguments, **options)
            self._requests.append((request, []))
            return request

        def watched_start(engine, request, logits):
            self._logits_of(request).append(logits.clone())
            start(engine, request, logits)

        def watched_extend(engine, steps):
            steps = list(steps)
            rows = [(step, len(step.answer.ids), logits.clone()) for step, logits in steps]
            extend(engine, steps)
            for step, before, logits in rows:
                accepted = len(step.answer.ids) - before
                self._logits_of(step.request).extend(logits[:accepted])

        patch.setattr(Engine, "submit", watched_submit)
        patch.setattr(Engine, "_start_answers", watched_start)
        patch.setattr(Engine, "_extend_all", watched_extend)

    def _logits_of(self, request: Request) -> list[Tensor]:
        return next(logits for known, logits in self._requests if known is request)

    def _watch_learners(self, patch: pytest.MonkeyPatch) -> None:
        forward = Learner.forward

        def watched(learner, micro_batch, weights):
            terms = forward(learner, micro_batch, weights)
            self._learned += _from_micro_batch(micro_batch, terms.losses)
            return terms

        patch.setattr(Learner, "forward", watched)


def _from_request(request: Request, logits: list[Tensor]) -> Seen:
    prompt, answer = request.prompt, request.answers[0]
    return Seen(
        ids=tuple(prompt.input_ids[0].tolist()),
        pixels=prompt.pixel_values.numpy().tobytes(),
        answer=list(answer.ids),
        logprobs=[
            float(row.float().log_softmax(-1)[token])
            for row, token in zip(logits, answer.ids, strict=True)
        ],
        logits=logits,
    )


def _from_micro_batch(micro_batch: MicroBatch, losses: Tensor) -> Iterator[Seen]:
    """Yields the samples of a micro-batch: the prompt is what comes before the last labelled run.

    The labelled run of an answer begins with the first id that is predicted from an unlabelled
    position's successor, that is, after the control tokens of the assistant's head.
    """
    batch, begin, crop = micro_batch.batch, 0, 0
    lengths = sample_lengths(batch)
    tokens, visual = batch.input_ids.flatten(), batch.visual_mask.flatten()
    layouts = list(batch.layouts)
    for number, length in enumerate(lengths):
        inside = slice(begin, begin + length)
        num_visual, crops = int(visual[inside].sum()), 0
        while num_visual:
            layout = layouts.pop(0)
            num_visual, crops = num_visual - layout.num_tokens, crops + layout.num_crops
        own = micro_batch.owners == number
        ids = tokens[inside].tolist()
        start = _find_answer(ids)
        targets = dict(zip((batch.sources[own] - begin).tolist(),
                           zip(batch.targets[own].tolist(), (-losses[own]).tolist(), strict=True),
                           strict=True))  # fmt: skip
        labelled = [targets[place - 1] for place in range(start, length) if place - 1 in targets]
        yield Seen(
            ids=tuple(ids[:start]),
            pixels=batch.pixel_values[crop : crop + crops].numpy().tobytes(),
            answer=[target for target, _ in labelled],
            logprobs=[logprob for _, logprob in labelled],
            packed_with=len(lengths) - 1,
        )
        begin, crop = begin + length, crop + crops


def _find_answer(ids: list[int]) -> int:
    """Returns where the last answer begins: after the last start token, its role and its newline.

    Ids of `tiny`: 1 is <|im_start|>.
    """
    return max(place for place, token in enumerate(ids) if token == 1) + 3
