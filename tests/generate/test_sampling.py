import math
from collections import Counter

import pytest
import torch

from onevision.errors import InputError
from onevision.generate import choice
from onevision.generate.choice import draw, restrict
from onevision.generate.sampler import Sampler, Sampling

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
    assert restrict(LOGITS, min_p=0.3).tolist() == [-math.inf, 3.0, 2.0, -math.inf]


@pytest.mark.parametrize("spread", [0.01, 1.0, 20.0])  # flat: more than the few are needed
@pytest.mark.parametrize("top_p", [1e-9, 0.3, 0.9, 0.9999])
def test_top_p_keeps_what_sorting_all_tokens_keeps(monkeypatch, spread, top_p):
    monkeypatch.setattr(choice, "FEW", (8, 30))
    logits = spread * torch.randn(200, generator=torch.Generator().manual_seed(1))
    logits[:3] = -math.inf  # ruled out before
    ranked, order = logits.double().sort(descending=True)
    shares = ranked.softmax(-1)
    expected = {int(i) for i in order[shares.cumsum(-1) - shares < top_p]} | {int(order[0])}
    kept = restrict(logits, top_p=top_p)
    assert {int(i) for i in kept.isfinite().nonzero()} == expected - {0, 1, 2}
    assert torch.equal(kept[kept.isfinite()], logits[kept.isfinite()])


def test_a_token_without_probability_is_never_drawn(monkeypatch):
    shares = torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0])
    generator = torch.Generator().manual_seed(0)
    assert {draw(shares, generator=generator) for _ in range(200)} == {1, 3}
    for numbers, expected in (([0, 0, 0, 0.1, 0], 3), ([1 - 2**-53, 0.5, 0.9, 0.4, 0], 1)):
        chosen = torch.tensor(numbers, dtype=torch.float64)
        monkeypatch.setattr(torch, "rand", lambda *_, chosen=chosen, **__: chosen.clone())
        assert draw(shares, generator=None) == expected


def test_near_distributions_mostly_draw_the_same():
    """What drafts of sampled tokens live by: at least (1 - d) / (1 + d), arXiv 2408.07978."""
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(50, generator=generator)
    second = first * (1 + 0.3 * torch.rand(50, generator=generator))
    first, second = first / first.sum(), second / second.sum()
    distance = float((first - second).abs().sum() / 2)
    same = 0
    for seed in range(2000):
        one, other = (torch.Generator().manual_seed(seed) for _ in range(2))
        same += draw(first, generator=one) == draw(second, generator=other)
    assert same / 2000 > (1 - distance) / (1 + distance) - 0.02


def test_rare_tokens_are_drawn_as_often_as_they_should():
    """With random numbers of 24 bits hardly one could win; together they are one in 2,500."""
    shares = torch.full((20_000,), 2e-8)
    shares[0] = 1 - 4e-4
    generator = torch.Generator().manual_seed(0)
    drawn = [draw(shares, generator=generator) for _ in range(12_000)]
    assert 2 <= sum(token_id > 0 for token_id in drawn) <= 12  # 4.8 are expected


def test_probabilities_that_are_no_numbers_are_an_error():
    with pytest.raises(RuntimeError, match="NaN"):
        draw(torch.tensor([0.5, math.nan, 0.5]), generator=None)


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
