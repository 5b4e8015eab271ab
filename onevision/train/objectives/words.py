"""Conversations -> the loss of their answers' words: what most stages learn by.

The feed is either procedural (families in given shares, sampled on demand) or a mixture on disk.
The loss is `loss.py`, taken by the plain `Learner`.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from onevision.conversation import Conversation, Message, Text, Video
from onevision.data.packing import PackedRow, share_prefix
from onevision.errors import InputError
from onevision.inputs.processor import Processor
from onevision.synth.families import family_named
from onevision.synth.sample import Sample, rng_for
from onevision.train.context.learner import ContextLearner
from onevision.train.feed import Feed, MicroBatch, pad_rows
from onevision.train.learner import Learner
from onevision.train.mixture_feed import MixtureFeed, open_mixture_feed
from onevision.train.objectives.objective import LearnerMaker, Objective, RunContext
from onevision.train.stage import Stage
from onevision.train.tensor.learner import TensorLearner

DESCRIBE = {
    "nothing": ("Make up a description.", "Describe something."),
    "picture": ("Describe the picture.", "What does the picture show?"),
    "pictures": ("Describe the pictures.", "What do the pictures show?"),
    "video": ("Describe the video.", "What happens in the video?"),
}
# Share of the samples that learn their whole caption in addition to its aspects.
CAPTIONED = 0.5


def make_words(run: RunContext) -> Objective:
    """Returns next-token cross-entropy over the words of the stage's answers."""
    feed = open_feed(run)
    held_out = feed.held_out if isinstance(feed, MixtureFeed) else None
    make_learner: LearnerMaker = Learner
    if run.processes.context > 1:
        make_learner = partial(ContextLearner, processes=run.processes)
    if run.processes.tensor > 1:
        make_learner = partial(TensorLearner, processes=run.processes)
    return Objective(feed=feed, make_learner=make_learner, held_out=held_out)


class FamilyFeed:
    """Samples of procedural families, made when they are needed."""

    def __init__(
        self, stage: Stage, processor: Processor, *, seed: int, rank: int = 0, ranks: int = 1
    ) -> None:
        assert stage.num_samples is not None, "a stage of families has a number of samples"
        self.stage, self.processor, self.seed = stage, processor, seed
        self.rank, self.ranks = rank, ranks
        self.num_samples = stage.num_samples * stage.epochs
        self.num_steps, self.sources = stage.num_steps(), tuple(stage.families)
        self.fingerprints: Mapping[str, str] = {}

    def steps(self, first: int) -> Iterator[list[MicroBatch]]:
        """Yields this process's share of every step from `first` to the last."""
        for step in range(first, self.num_steps):
            begin = step * self.stage.global_batch
            end = min(begin + self.stage.global_batch, self.num_samples)
            yield self.micro_batches(range(begin + self.rank, end, self.ranks))

    def micro_batches(self, indices: Sequence[int]) -> list[MicroBatch]:
        """Makes samples and puts those of similar length together, padded."""
        made = [(index, *self.row(index)) for index in indices]
        made.sort(key=lambda one: len(one[2]))
        groups: list[list[tuple[int, str, PackedRow]]] = []
        for one in made:
            if not groups or (len(groups[-1]) + 1) * len(one[2]) > self.stage.max_tokens:
                groups.append([])
            groups[-1].append(one)
        return [
            pad_rows(
                [row for _, _, row in group],
                self.processor.config,
                samples=[f"{family} {index}" for index, family, _ in group],
                sources=[self.sources.index(family) for _, family, _ in group],
            )
            for group in groups
        ]

    def row(self, index: int) -> tuple[str, PackedRow]:
        """Returns family and row of a sample, which depend on stage, seed and index alone."""
        stage = self.stage
        rng = rng_for("train", f"rows/{stage.name}/{self.seed}", index)
        family, sample = choose_sample(stage, rng)
        questions = rng.sample(sample.questions, min(stage.max_questions, len(sample.questions)))
        turns = [(q.question, q.answer) for q in questions]
        if not stage.aspects or not sample.aspects or rng.random() < CAPTIONED:
            turns.append((rng.choice(DESCRIBE[_media_kind(sample)]), sample.caption))
        if stage.aspects:
            turns += [("", aspect) for aspect in sample.aspects]
        talks = [
            Conversation([Message("user", [*sample.media, Text(q)]), Message("assistant", a)])
            for q, a in turns
        ]
        return family, share_prefix(
            self.processor.examples_sharing_media(talks, template=stage.template)
        )


def open_feed(run: RunContext, *, family_feed: type[FamilyFeed] = FamilyFeed) -> Feed:
    """Returns this process's feed of the stage's families or mixture; every process calls it.

    `family_feed` makes the samples of families. Raises InputError if the stage names no data,
    DataError if they cannot be used or do not fit the options' manifest.
    """
    stage, options, processes = run.config.stage, run.config.options, run.processes
    if not stage.families:
        return open_mixture_feed(run)
    if options.manifest is not None:
        raise InputError(
            f"stage {stage.name} makes its own samples, so there is nothing to pin; leave out "
            "--manifest, or give --mixture FILE"
        )
    return family_feed(
        stage, run.processor, seed=options.seed, rank=processes.reader, ranks=processes.count
    )


def choose_sample(stage: Stage, rng: random.Random) -> tuple[str, Sample]:
    """Chooses a family by its share at random, and makes one of its samples."""
    family = rng.choices(list(stage.families), weights=list(stage.families.values()))[0]
    return family, family_named(family)("train", rng.randrange(10**9))


def _media_kind(sample: Sample) -> str:
    if not sample.media:
        return "nothing"
    if isinstance(sample.media[0], Video):
        return "video"
    return "picture" if len(sample.media) == 1 else "pictures"
