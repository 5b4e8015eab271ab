import math
from collections import Counter

import pytest
import torch

from onevision.errors import InputError
from onevision.generate.sampler import Sampler, Sampling, restrict

LOGITS = torch.tensor([1.0, 3.0, 2.0, -1.0])


def draws(count=400, logits=LOGITS, **options):
    """Samples first tokens; the samplers differ only in their number."""
    sampling = Sampling(**{"seed": 5, **options})
    return Counter(Sampler(sampling, number=n).sample(logits).id for n in range(count))


def drawn(logits, said, **options):
    sampler = Sampler(Sampling(**options))
    for token_id in said:
        sampler.accept(token_id)
    return sampler.sample(torch.tensor(logits)).id


def test_greedy_takes_the_likeliest():
    assert Sampler(Sampling()).sample(LOGITS).id == 1


def test_the_repetition_penalty_divides_logits_of_earlier_tokens():
    """3 / 2 falls below 2; a negative score is multiplied."""
    assert drawn([1.0, 3.0, 2.0, -1.0], [1, 3], repetition_penalty=2.0) == 2
    assert drawn([-1.0, -3.0], [0], repetition_penalty=4.0) == 1


def test_presence_counts_once_and_frequency_each_time():
    logits = [1.0, 3.0, 2.0]
    assert drawn(logits, [1], presence_penalty=0.9) == 1
    assert drawn(logits, [1], presence_penalty=1.1) == 2
    assert drawn(logits, [1, 1, 1], presence_penalty=0.9) == 1
    assert drawn(logits, [1, 1, 1], frequency_penalty=0.4) == 2
    assert drawn(logits, [1, 1], frequency_penalty=0.4) == 1


def test_a_bias_is_added():
    assert drawn([1.0, 3.0, 2.0], [], logit_bias={0: 2.5}) == 0
    assert drawn([1.0, 3.0, 2.0], [], logit_bias={1: -100, 2: -100}) == 0


def test_an_answer_does_not_end_before_its_minimum_length():
    sampler = Sampler(Sampling(end_ids=(1,), min_new_tokens=2))
    assert [sampler.sample(LOGITS).id for _ in range(3)] == [2, 2, 1]


def test_top_k_top_p_and_min_p_restrict():
    assert set(draws(temperature=5.0)) == {0, 1, 2, 3}
    assert set(draws(temperature=5.0, top_k=2)) == {1, 2}
    assert set(draws(temperature=1.0, top_p=0.5)) == {1}
    assert set(draws(temperature=1.0, top_p=0.7)) == {1, 2}
    assert set(draws(temperature=1.0, min_p=0.3)) == {1, 2}  # e^-1 = 0.37, e^-2 = 0.14
    kept = restrict(LOGITS, Sampling(temperature=1.0, min_p=0.3))
    assert kept.tolist() == [-math.inf, 3.0, 2.0, -math.inf]


def test_samples_follow_the_probabilities():
    shares = LOGITS.softmax(-1)
    counts = draws(temperature=1.0, count=4000)
    for token_id, share in enumerate(shares.tolist()):
        assert abs(counts[token_id] / 4000 - share) < 4 * math.sqrt(share * (1 - share) / 4000)


def test_a_seed_repeats_and_numbers_differ():
    def twenty(number):
        sampler = Sampler(Sampling(temperature=2.0, seed=7), number=number)
        return [sampler.sample(LOGITS).id for _ in range(20)]

    assert twenty(0) == twenty(0) != twenty(1)


def test_logprobs_are_the_models_own():
    """Neither temperature nor penalties change what is reported."""
    sampler = Sampler(Sampling(temperature=0.5, seed=1, logprobs=2, presence_penalty=1.0))
    token = sampler.sample(LOGITS)
    expected = LOGITS.log_softmax(-1)
    assert token.logprob == pytest.approx(float(expected[token.id]))
    assert [token_id for token_id, _ in token.top] == [1, 2]
    assert token.top[0][1] == pytest.approx(float(expected[1]))


@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": 0},
        {"min_new_tokens": 600},
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_p": 1.5},
        {"top_k": -1},
        {"min_p": 1.1},
        {"presence_penalty": 2.5},
        {"frequency_penalty": -3},
        {"repetition_penalty": 0},
        {"repetition_penalty": float("inf")},
        {"logprobs": 21},
        {"num_answers": 0},
        {"logit_bias": {3: 101}},
        {"stop": ("",)},
        {"stop": ("x",) * 17},
        {"regex": "a", "json_schema": "{}"},
    ],
)
def test_values_out_of_range_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        Sampling(**options)
