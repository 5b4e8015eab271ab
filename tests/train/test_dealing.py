"""Which samples a step holds: every step some, of small batches as many as are asked."""

from itertools import pairwise

import numpy as np
import pytest

from onevision.train.dealing import deal_packs


def dealt(*lengths, **options):
    """Returns the (epoch, position) of the samples of each step."""
    arrays = [np.array(one) for one in lengths]
    deal = deal_packs(arrays, seed=0, **options)
    places = [[deal.locate(n) for n in deal.packs_of(s)] for s in range(options["num_steps"])]
    return [[(e, p) for e, n in step for p in deal.epochs[e][n].tolist()] for step in places]


@pytest.mark.parametrize("batch", [1, 4, 7])
def test_small_batches_of_short_samples_hold_what_is_asked(batch):
    num_steps = -(-64 // batch)
    steps = dealt([10] * 64, num_steps=num_steps, global_batch=batch, max_tokens=300)
    assert [len(step) for step in steps[:-1]] == [batch] * (num_steps - 1)
    assert sorted(place for step in steps for place in step) == [(0, p) for p in range(64)]


def test_a_step_over_the_end_of_an_epoch_takes_from_both():
    steps = dealt([10] * 6, [10] * 6, num_steps=3, global_batch=4, max_tokens=300)
    assert [len(step) for step in steps] == [4, 4, 4]
    assert [{epoch for epoch, _ in step} for step in steps] == [{0}, {0, 1}, {1}]


def test_a_batch_that_needs_several_packs_gets_them():
    lengths = [10, 10, 10, 10, 200, 200, 10, 10, 10, 10, 10, 10]
    steps = dealt(lengths, num_steps=6, global_batch=2, max_tokens=300)
    assert [len(step) for step in steps] == [2] * 6


def test_packs_that_reach_for_all_steps_are_dealt_evenly():
    options = {"num_steps": 4, "global_batch": 2, "max_tokens": 30}
    deal = deal_packs([np.array([20] * 8)], seed=0, **options)
    assert [*map(len, map(deal.packs_of, range(4)))] == [2, 2, 2, 2]
    assert all(a < b for a, b in pairwise(deal.starts.tolist()))
