"""A micro-batch that memory does not hold is taken in halves, and teaches the same."""

from dataclasses import replace

import pytest
import torch

from onevision.data.packing import share_prefix
from onevision.inputs.processor import Example, Processor
from onevision.model.llava import LlavaNetwork
from onevision.train.feed import middle, pack_rows, pad_rows, sample_lengths
from onevision.train.learner import Learner
from onevision.train.loss import weighted_loss
from onevision.train.objectives.contrast import ContrastLearner
from onevision.train.objectives.words import FamilyFeed
from onevision.train.optim import make_optimizer
from onevision.train.options import RunOptions
from onevision.train.parallel import Processes
from onevision.train.trainer import Trainer
from tests.conftest import randomise
from tests.train.runs import MICRO, SHORT

STAGE = replace(SHORT, families={"scenes": 0.5, "texts": 0.3, "pairs": 0.2}, max_tokens=2000)


@pytest.fixture
def feed(tokenizer):
    return FamilyFeed(STAGE, Processor(MICRO.inputs, tokenizer), seed=0)


def made(feed, collate):
    """Make one micro-batch of five samples, padded or packed."""
    drawn = [feed.row(index) for index in range(5)]
    return collate(
        [row for _, row in drawn],
        feed.processor.config,
        samples=[f"{family} {n}" for n, (family, _) in enumerate(drawn)],
        sources=[feed.sources.index(family) for family, _ in drawn],
    )


def learned(network, parts):
    """Return losses and gradients of micro-batches, each target counting one more than before."""
    network.zero_grad()
    losses, first = [], 1.0
    for one in parts:
        weights = torch.arange(first, first + len(one.owners)) / 100
        loss, own = weighted_loss(network, one.batch, weights)
        loss.backward()
        losses, first = [*losses, own], first + len(one.owners)
    return torch.cat(losses), [p.grad for p in network.parameters() if p.grad is not None]


@pytest.mark.parametrize("collate", [pad_rows, pack_rows])
def test_halves_teach_what_the_whole_does(feed, collate):
    whole = made(feed, collate)
    first, second = whole.halves()
    assert first.samples + second.samples == whole.samples
    assert 0 < len(first.samples) < 5
    for part in (first, second):
        assert part.batch.visual_mask.sum() == sum(la.num_tokens for la in part.batch.layouts)
        assert len(part.owners) == len(part.batch.targets)
        assert {*part.owners.tolist()} <= {*range(len(part.samples))}
    network = randomise(LlavaNetwork(MICRO), std=0.05).train()
    losses, gradients = learned(network, [whole])
    in_halves, of_halves = learned(network, [first, second])
    torch.testing.assert_close(in_halves, losses)
    for a, b in zip(of_halves, gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_one_sample_has_no_halves(feed):
    assert feed.micro_batches([0])[0].halves() is None


def test_halves_are_cut_near_the_middle(feed):
    lengths = [10, 50, 10, 20]
    rows = [share_prefix([_words(length)]) for length in lengths]
    batch = pack_rows(rows, feed.processor.config, samples="abcd", sources=[0] * 4).batch
    assert batch.mask.lengths == tuple(lengths)
    assert middle(batch) == 2  # 60 | 30 is no nearer than 10 | 80 would be


def _words(length):
    return Example(
        input_ids=torch.arange(length),
        visual_mask=torch.zeros(length, dtype=torch.bool),
        labels=torch.arange(length),
        crops=torch.zeros(0, 3, 56, 56, dtype=torch.uint8),
        layouts=(),
    )


class LittleMemory(Learner):
    """Runs out of memory over more than two samples."""

    def __init__(self, network, **given):
        super().__init__(network, **given)
        self.large = False

    def forward(self, micro_batch, weights):
        self.large = len(sample_lengths(micro_batch.batch)) > 2
        if self.large:
            raise torch.OutOfMemoryError("no room\nfor all of this")
        return super().forward(micro_batch, weights)


class LittleMemoryBackwards(LittleMemory):
    """Runs out of it on the way back, when most gradients are there already."""

    def __init__(self, network, **given):
        super().__init__(network, **given)
        network.language_model.embedding.weight.register_hook(self._at_last)

    def forward(self, micro_batch, weights):
        self.large = len(sample_lengths(micro_batch.batch)) > 2
        return Learner.forward(self, micro_batch, weights)

    def _at_last(self, gradient):
        if self.large:
            raise torch.OutOfMemoryError("no room")
        return gradient


@pytest.fixture
def make_trainer(feed):
    def make(kind, **options):
        network = randomise(LlavaNetwork(MICRO), std=0.05).train()
        heard = []
        trainer = Trainer(
            STAGE,
            kind(network),
            make_optimizer(network, STAGE),
            feed,
            processes=Processes(),
            options=RunOptions(precision="fp32", **options),
            on_split=lambda step, one: heard.append((step, len(one.samples))),
        )
        return trainer, heard

    return make


@pytest.mark.parametrize("loss_mean", ["tokens", "micro_batches"])
@pytest.mark.parametrize("kind", [LittleMemory, LittleMemoryBackwards])
def test_a_step_that_memory_does_not_hold_is_the_same_step(make_trainer, kind, loss_mean):
    whole, heard = make_trainer(Learner, loss_mean=loss_mean)
    expected = next(whole.steps())
    assert heard == []
    little, heard = make_trainer(kind, loss_mean=loss_mean)
    found = next(little.steps())
    assert heard == [(1, 4)]
    for name in ("loss", "grad_norm"):
        assert vars(found)[name] == pytest.approx(vars(expected)[name], rel=1e-5)
    for name in ("loss_per_source", "samples", "tokens", "supervised_tokens"):
        assert vars(found)[name] == pytest.approx(vars(expected)[name])
    for a, b in zip(little.parameters, whole.parameters, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


class NoMemory(Learner):
    def forward(self, micro_batch, weights):
        raise torch.OutOfMemoryError("no room")


def test_a_sample_that_memory_does_not_hold_is_named(make_trainer):
    trainer, heard = make_trainer(NoMemory)
    said = r"^(scenes|texts|pairs) \d+: [\d,]+ tokens, [\d,]+ of them labelled, \d+ crops; no room"
    with pytest.raises(torch.OutOfMemoryError, match=said):
        next(trainer.steps())
    assert [count for _, count in heard] == [4, 2]


def test_pictures_that_stand_against_one_another_are_not_divided(make_trainer):
    class Contrast(NoMemory):
        divisible = ContrastLearner.divisible

    trainer, heard = make_trainer(Contrast)
    with pytest.raises(torch.OutOfMemoryError, match="^4 samples: "):
        next(trainer.steps())
    assert heard == []
