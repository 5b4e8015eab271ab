"""Prompts -> the steps of a run: sampled answers in rows that share their media, with advantages.

    rollout 0            rollout 1
    step 0 1 2 3         step 4 5 6 7        `steps_per_rollout` = 4
    sampled before 0     sampled before 4, by the weights after 3

A step's answers are sampled when it is asked for, not earlier, so they are the current model's.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from torch import Tensor

from onevision.batch import TrainingBatch
from onevision.errors import DataError
from onevision.inputs.processor import Processor
from onevision.train.feed import MicroBatch
from onevision.train.parallel import Processes
from onevision.train.reinforce.config import ReinforceConfig
from onevision.train.reinforce.data import RewardedPrompt, fingerprint
from onevision.train.reinforce.loss import group_advantages, normalise_batch
from onevision.train.reinforce.rollouts import Group, Scored, read_rollout, write_rollout
from onevision.train.reinforce.rows import AnswerRow, fill, make_rows, pack_answers
from onevision.train.stage import Stage

MAX_NAMED = 5  # prompts that an error names


class AnswerSource(Protocol):
    """Samples answers by the network as it stands."""

    def sample(
        self,
        prompts: Sequence[tuple[int, RewardedPrompt]],
        *,
        name: str,
        num_answers: int | None = None,
    ) -> list[Group]:
        """As `rollouts.Sampler.sample`."""
        ...


class Scores(Protocol):
    """Log-probabilities of the tokens of a batch [L] under given weights, without gradient."""

    def __call__(self, batch: TrainingBatch) -> Tensor:
        """Returns them in fp32, on the CPU."""
        ...


class ReinforceFeed:
    """The prompts of one file, in another order every epoch, answered as they are needed.

    Raises DataError if a prompt leaves no room for an answer.
    """

    def __init__(
        self,
        stage: Stage,
        processor: Processor,
        prompts: Sequence[RewardedPrompt],
        *,
        name: str,
        config: ReinforceConfig,
        answers: AnswerSource,
        max_positions: int,
        seed: int,
        output: Path,
        processes: Processes,
        proximal: Scores | None = None,
        reference: Scores | None = None,
    ) -> None:
        self.stage, self.processor, self.prompts, self.config = stage, processor, prompts, config
        self.answers, self.seed, self.output, self.processes = answers, seed, output, processes
        self.proximal, self.reference = proximal, reference
        self.sources = (name,)
        self.fingerprints = {name: fingerprint(prompts)}
        self.num_steps = stage.num_steps(len(prompts))
        self._check_lengths(min(max_positions, stage.max_tokens))

    def steps(self, first: int) -> Iterator[list[MicroBatch]]:
        """Yields this process's share of every step from `first` to the last."""
        size, groups = self.config.steps_per_rollout, dict[int, Group]()
        for step in range(first, self.num_steps):
            if step == first or step % size == 0:
                groups = self._groups(step // size, resumed=step % size > 0)
            yield self._batches(step, groups)

    def places(self, step: int) -> range:
        """Returns this process's places in the order of all epochs that a step learns from."""
        begin = step * self.stage.global_batch
        end = min(begin + self.stage.global_batch, len(self.prompts) * self.stage.epochs)
        return range(begin + self.processes.rank, end, self.processes.count)

    def prompt_at(self, place: int) -> RewardedPrompt:
        """Returns the prompt at a place of all epochs; it depends on the seed alone."""
        epoch, within = divmod(place, len(self.prompts))
        return self.prompts[_order(len(self.prompts), f"prompts/{self.seed}/{epoch}")[within]]

    def _groups(self, number: int, *, resumed: bool) -> dict[int, Group]:
        """Samples a rollout, or reads it back if the run resumes within it."""
        size = self.config.steps_per_rollout
        steps = range(number * size, min((number + 1) * size, self.num_steps))
        places = [place for step in steps for place in self.places(step)]
        if resumed:
            groups = read_rollout(self.output, number=number, places=places)
        else:
            asked = [(place, self.prompt_at(place)) for place in places]
            sampled = self.answers.sample(asked, name=f"{number}")
            groups = self._add_scores(sampled, steps)
            write_rollout(groups, self.output, number=number, rank=self.processes.rank)
        return {group.place: group for group in groups}

    def _add_scores(self, groups: Sequence[Group], steps: range) -> list[Group]:
        """Adds the trainer's log-probabilities, packed as the steps will be."""
        scores: dict[Scored, Scores | None] = {
            "proximal": self.proximal,
            "reference": self.reference,
        }
        found = {(g.place, n): one for g in groups for n, one in enumerate(g.answers)}
        by_place = {group.place: group for group in groups}
        for step in steps if any(scores.values()) else ():
            own = [by_place[place] for place in self.places(step)]
            rows = [row for g in own for row in self._rows(g, [0.0] * len(g.answers))]
            for some in fill(rows, self.stage.max_tokens):
                batch = pack_answers(some, self.processor.config, name=self.sources[0])
                keys = [(row.place, number) for row in some for number in row.numbers]
                lengths = [len(found[key].ids) for key in keys]
                for name, score in scores.items():
                    if score is not None:
                        for key, part in zip(keys, score(batch.batch).split(lengths), strict=True):
                            found[key] = found[key].with_scores(name, part.tolist())
        return [
            replace(g, answers=tuple(found[g.place, n] for n in range(len(g.answers))))
            for g in groups
        ]

    def _batches(self, step: int, groups: dict[int, Group]) -> list[MicroBatch]:
        """Returns the micro-batches of a step; every process calls it."""
        config, own = self.config, [groups[place] for place in self.places(step)]
        advantages = [
            group_advantages(group.rewards, bias=config.reward_bias, scale=config.reward_scale)
            for group in own
        ]
        if config.normalise_batch:
            advantages = self._normalise(own, advantages)
        rows = [
            row
            for group, values in zip(own, advantages, strict=True)
            for row in self._rows(group, values)
        ]
        return [
            pack_answers(some, self.processor.config, name=self.sources[0])
            for some in fill(rows, self.stage.max_tokens)
        ]

    def _normalise(
        self, groups: Sequence[Group], advantages: Sequence[Sequence[float]]
    ) -> list[list[float]]:
        """Normalises advantages over the tokens of all processes."""
        known = [
            (value, len(answer.ids))
            for group, values in zip(groups, advantages, strict=True)
            for answer, value in zip(group.answers, values, strict=True)
            if answer.reward is not None
        ]
        count, total, squares = self.processes.sum(
            float(sum(length for _, length in known)),
            sum(value * length for value, length in known),
            sum(value**2 * length for value, length in known),
        )
        return [
            [normalise_batch(one, count=count, total=total, squares=squares) for one in values]
            for values in advantages
        ]

    def _rows(self, group: Group, advantages: Sequence[float]) -> Iterator[AnswerRow]:
        return make_rows(
            group,
            self.prompt_at(group.place).conversation,
            advantages,
            processor=self.processor,
            max_tokens=self.stage.max_tokens,
        )

    def _check_lengths(self, most: int) -> None:
        """Refuses prompts that leave no room; reads only words and the headers of media."""
        long = [
            f"{prompt.id!r} ({length:,})"
            for prompt in self.prompts
            if (length := self.processor.outline(prompt.conversation).num_tokens) >= most
        ]
        if long:
            more = f" and {len(long) - MAX_NAMED} more" if len(long) > MAX_NAMED else ""
            raise DataError(
                f"{self.sources[0]}: {len(long)} of {len(self.prompts)} prompts leave no room for "
                f"an answer within {most:,} tokens: {', '.join(long[:MAX_NAMED])}{more}; shorten "
                "or remove them"
            )


@lru_cache(maxsize=2)
def _order(count: int, seed: str) -> list[int]:
    return random.Random(seed).sample(range(count), count)
