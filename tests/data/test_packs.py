import numpy as np
import pytest

from onevision.data.packs import pack
from onevision.errors import DataError


def onevision_like_lengths(count, *, seed=0):
    """Lengths as at 0.5B geometry: text, single images by AnyRes, image sets, 32-frame videos."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(4, size=count, p=(0.08, 0.31, 0.39, 0.22))
    text = rng.lognormal(5, 0.7, count).astype(int) + 40
    visual = np.select(
        [kinds == 1, kinds == 2, kinds == 3],
        [rng.integers(1500, 8766, count), 730 * rng.integers(2, 9, count), np.full(count, 6273)],
        0,
    )
    return np.minimum(visual + text, 16384)


@pytest.mark.parametrize("max_tokens", (32768, 16384))
def test_packs_are_nearly_full(max_tokens):
    lengths = onevision_like_lengths(30000)
    packs = pack(lengths, max_tokens=max_tokens)
    assert packs.fill >= 0.97
    assert sorted(packs.positions) == list(range(30000))
    sums = [lengths[packs[number]].sum() for number in range(len(packs))]
    assert sums == packs.num_tokens.tolist()
    assert max(sums) <= max_tokens


def test_packs_are_a_function_of_the_lengths():
    lengths = onevision_like_lengths(2000)
    a, b = pack(lengths, max_tokens=16384), pack(lengths.tolist(), max_tokens=16384)
    assert a.positions.tolist() == b.positions.tolist()
    assert a.starts.tolist() == b.starts.tolist()


def test_a_window_stays_near_its_place():
    """Samples of the first window are seen before those of the third: the shuffle survives."""
    packs = pack(onevision_like_lengths(30000), max_tokens=16384)
    where = np.empty(30000, dtype=int)
    for number in range(len(packs)):
        where[packs[number]] = number
    assert where[:8192].max() < where[16384:24576].min()


def test_small_packs_can_be_checked_by_hand():
    packs = pack([6, 5, 5, 4], max_tokens=10)
    held = sorted(sorted(packs[n].tolist()) for n in range(len(packs)))
    assert held == [[0, 3], [1, 2]]
    assert packs.fill == 1.0


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match="sample 1 of the order has 11 tokens, a pack holds 10"):
        pack([3, 11], max_tokens=10)


def test_no_samples_make_no_packs():
    assert len(pack([], max_tokens=10)) == 0
