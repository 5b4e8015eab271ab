"""Answers to a prompt -> rows that share its media, with an advantage for every token.

media  prompt answer 0  prompt answer 1  ...       a branch each; labelled are the answers' tokens
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from onevision.batch import TrainingBatch
from onevision.config import InputConfig
from onevision.conversation import Conversation
from onevision.data.packing import PackedRow, share_prefix
from onevision.inputs.chat import IGNORE
from onevision.inputs.processor import Example, Processor
from onevision.train.feed import MicroBatch, pack_rows
from onevision.train.reinforce.rollouts import Group, SampledAnswer

# The columns of `AnswerBatch.figures`; all but the last are of whole answers, and 0 but for the
# last token of each.
ANSWER_FIGURES = ("answers", "reward", "stopped", "groups", "best", "informative")


@dataclass(frozen=True, kw_only=True)
class AnswerBatch(MicroBatch):
    """Answers to some prompts in one packed row; the terms of its loss are tokens [L]."""

    advantages: Tensor  # [L] fp32
    behaviour: Tensor  # [L] fp32, log-probabilities by the engine
    figures: Tensor  # [L, 6] fp32, the columns ANSWER_FIGURES
    proximal: Tensor | None  # [L] fp32, by the trainer; None: as the policy is now
    reference: Tensor | None  # [L] fp32, under the first weights; None: not needed

    def _part(self, batch: TrainingBatch, part: slice) -> Self:
        begin, end, _ = part.indices(len(self.samples))
        inside = (self.owners >= begin) & (self.owners < end)
        half = super()._part(batch, part)
        return replace(
            half,
            advantages=self.advantages[inside],
            behaviour=self.behaviour[inside],
            figures=self.figures[inside],
            proximal=None if self.proximal is None else self.proximal[inside],
            reference=None if self.reference is None else self.reference[inside],
        )


@dataclass(frozen=True, kw_only=True)
class AnswerRow:
    """Some of the answers to one prompt in a row, a branch each."""

    row: PackedRow
    place: int
    prompt: str  # its id
    numbers: tuple[int, ...]  # of the answers, in their group
    advantages: Tensor  # [L]
    behaviour: Tensor  # [L]
    figures: Tensor  # [L, 6]
    proximal: Tensor  # [L], or [0]
    reference: Tensor  # [L], or [0]


def make_rows(
    group: Group,
    conversation: Conversation,
    advantages: Sequence[float],
    *,
    processor: Processor,
    max_tokens: int,
) -> Iterator[AnswerRow]:
    """Yields rows of as many answers as fit into `max_tokens`; one at least. Raises MediaError."""
    start = processor.example(processor.outline(conversation, label_rule="strict"))
    scored = [
        (number, answer) for number, answer in enumerate(group.answers) if answer.reward is not None
    ]
    visual = int(start.visual_mask.nonzero().max()) + 1 if start.visual_mask.any() else 0
    some, length = list[tuple[int, SampledAnswer]](), visual
    for number, answer in scored:
        tail = len(start.input_ids) - visual + len(answer.ids)
        if some and length + tail > max_tokens:
            yield _make_row(start, group, some, advantages)
            some, length = list[tuple[int, SampledAnswer]](), visual
        some.append((number, answer))
        length += tail
    if some:
        yield _make_row(start, group, some, advantages)


def pack_answers(rows: Sequence[AnswerRow], config: InputConfig, *, name: str) -> AnswerBatch:
    """Packs rows of answers into one, without padding."""
    packed = pack_rows(
        [one.row for one in rows],
        config,
        samples=[f"{name}, {one.prompt}" for one in rows],
        sources=[0] * len(rows),
    )
    return AnswerBatch(
        **vars(packed),
        advantages=torch.cat([one.advantages for one in rows]),
        behaviour=torch.cat([one.behaviour for one in rows]),
        figures=torch.cat([one.figures for one in rows]),
        proximal=_cat_known([one.proximal for one in rows]),
        reference=_cat_known([one.reference for one in rows]),
    )


def _cat_known(columns: Sequence[Tensor]) -> Tensor | None:
    """Returns columns [L] as one; None if they are empty: they are not needed then."""
    whole = torch.cat(list(columns))
    return whole if len(whole) else None


def _continue(start: Example, ids: Sequence[int]) -> Example:
    """Returns a prompt with an answer's own tokens, labelled."""
    answer = torch.tensor(ids)
    return replace(
        start,
        input_ids=torch.cat([start.input_ids, answer]),
        labels=torch.cat([torch.full_like(start.labels, IGNORE), answer]),
        visual_mask=torch.cat([start.visual_mask, torch.zeros(len(ids), dtype=torch.bool)]),
    )


def fill(rows: Sequence[AnswerRow], most: int) -> Iterator[list[AnswerRow]]:
    """Yields as many rows at a time as fit into `most` tokens."""
    some, length = list[AnswerRow](), 0
    for row in rows:
        if some and length + len(row.row) > most:
            yield some
            some, length = list[AnswerRow](), 0
        some.append(row)
        length += len(row.row)
    if some:
        yield some


def _make_row(
    start: Example,
    group: Group,
    answers: Sequence[tuple[int, SampledAnswer]],
    advantages: Sequence[float],
) -> AnswerRow:
    known = [reward for reward in group.rewards if reward is not None]
    first = next(n for n, reward in enumerate(group.rewards) if reward is not None)
    figures = []
    for number, answer in answers:
        own, is_first = torch.zeros(len(answer.ids), len(ANSWER_FIGURES)), number == first
        assert answer.reward is not None, "answers without a reward are left out"
        own[-1] = torch.tensor(
            [
                *(1.0, answer.reward, float(answer.finish_reason == "stop")),
                *(float(is_first), is_first * max(known)),
                float(is_first and group.is_informative),
            ]
        )
        figures.append(own)
    return AnswerRow(
        row=share_prefix([_continue(start, answer.ids) for _, answer in answers]),
        place=group.place,
        prompt=group.id,
        numbers=tuple(number for number, _ in answers),
        behaviour=torch.tensor([p for _, answer in answers for p in answer.logprobs]),
        proximal=torch.tensor([p for _, answer in answers for p in answer.proximal]),
        reference=torch.tensor([p for _, answer in answers for p in answer.reference]),
        advantages=torch.cat(
            [torch.full((len(a.ids),), float(advantages[number])) for number, a in answers]
        ),
        figures=torch.cat(figures),
    )
