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


@pytest.mark.parametrize("num_processes", [2, 3, 4])
def test_every_process_gets_as_many_packs_of_the_same_steps(num_processes):
    """Steps of one to five packs, over two epochs; the samples of a step stay."""
    sizes = np.random.default_rng(0).integers(10, 60, size=(2, 64))
    for batch, max_tokens in ((8, 2000), (8, 200), (16, 150)):
        options = {"num_steps": 128 // batch, "global_batch": batch, "max_tokens": max_tokens}
        alone = dealt(*sizes, **options)
        assert dealt(*sizes, **options, num_processes=num_processes) == alone
        deal = deal_packs([*sizes], seed=0, **options, num_processes=num_processes)
        for step in range(options["num_steps"]):
            packs = [deal.locate(number) for number in deal.packs_of(step)]
            assert len(packs) % num_processes == 0
            tokens = [int(sizes[e][deal.epochs[e][n]].sum()) for e, n in packs]
            assert tokens == [int(deal.epochs[e].num_tokens[n]) for e, n in packs]
            assert max(tokens) <= max_tokens


def test_a_single_pack_is_halved_by_tokens():
    deal = deal_packs(
        [np.array([50, 10, 10, 10, 10, 10])],
        **{"num_steps": 1, "global_batch": 6, "max_tokens": 300, "seed": 0, "num_processes": 2},
    )
    assert [deal.epochs[0][n].tolist() for n in deal.packs_of(0)] == [[0], [1, 2, 3, 4, 5]]
    assert deal.epochs[0].num_tokens.tolist() == [50, 50]


def test_fewer_samples_than_processes_leave_some_without():
    options = {"num_steps": 2, "global_batch": 3, "max_tokens": 300, "num_processes": 4}
    assert [len(step) for step in dealt([10] * 6, **options)] == [3, 3]
