"""The prefix cache keeps what was used last, and costs a request the same however much it keeps."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onevision.generate.kv_cache import KVCache
from onevision.generate.prefix_cache import BLOCK_TOKENS, PrefixCache

looks = 0


@pytest.fixture(scope="module")
def config(micro_config):
    return micro_config.language


class Counted(KVCache):
    """A KV cache that counts how often its owners are looked at."""

    @property
    def ref_count(self):
        global looks
        looks += 1
        return self._owners

    @ref_count.setter
    def ref_count(self, number):
        self._owners = number


def cache_of(config, blocks):
    cache = Counted(config, blocks * BLOCK_TOKENS, dtype=torch.float32, device=torch.device("cpu"))
    cache.length = cache.capacity
    return cache


def add(prefixes, config, name, blocks=1):
    """Adds a cache that a request owns, and returns it."""
    cache = cache_of(config, blocks)
    prefixes.add([b"%d.%d" % (name, block) for block in range(blocks)], cache)
    return cache


def release(prefixes, cache, most=2**40):
    cache.ref_count -= 1
    prefixes.shrink(most)


def test_a_request_costs_the_same_however_many_prefixes_are_kept(config):
    prefixes, costs = PrefixCache(), []
    for name in range(600):
        before = looks
        release(prefixes, add(prefixes, config, name))
        costs.append(looks - before)
    assert len(prefixes) == 600
    assert set(costs[1:]) == {costs[0]}


def test_what_was_found_last_is_kept(config):
    prefixes = PrefixCache()
    for name in range(3):
        release(prefixes, add(prefixes, config, name))
    assert prefixes.find([b"0.0"], limit=BLOCK_TOKENS, multiple=1) is not None
    prefixes.shrink(2 * prefixes.idle_bytes // 3)
    kept = [name for name in range(3)
            if prefixes.find([b"%d.0" % name], limit=BLOCK_TOKENS, multiple=1)]  # fmt: skip
    assert kept == [0, 2]


def test_what_a_request_owns_is_not_evicted(config):
    prefixes = PrefixCache()
    owned = add(prefixes, config, 0)
    prefixes.shrink(0)
    assert len(prefixes) == 1 and prefixes.idle_bytes == 0
    release(prefixes, owned, most=0)
    assert len(prefixes) == 0
    assert owned.ref_count == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 12))
def test_idle_bytes_are_those_of_caches_that_only_the_prefix_cache_owns(config, seed, most):
    rng, prefixes, owned, every = random.Random(seed), PrefixCache(), [], []
    unit = cache_of(config, 1).num_bytes
    for name in range(30):
        owned.append(add(prefixes, config, name, blocks=rng.randrange(1, 4)))
        every.append(owned[-1])
        if rng.random() < 0.7:
            one = owned.pop(rng.randrange(len(owned)))
            one.length -= rng.randrange(2) * BLOCK_TOKENS
            if one.length:
                one.trim()
            release(prefixes, one, most=most * unit)
        kept = [cache for cache in every if cache.ref_count == 1 and cache not in owned]
        assert prefixes.idle_bytes == sum(cache.num_bytes for cache in kept) <= most * unit
