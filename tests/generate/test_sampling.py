import pytest
import torch

from onevision.errors import InputError
from onevision.generate.sampling import Sampling, choose

LOGITS = torch.tensor([[1.0, 3.0, 2.0, -1.0]])
NOTHING = torch.zeros(1, 4, dtype=torch.bool)


def draws(sampling, logits=LOGITS, count=400):
    generator = torch.Generator().manual_seed(0)
    return {int(choose(logits, NOTHING, sampling, generator)) for _ in range(count)}


def test_greedy_takes_the_likeliest():
    assert choose(LOGITS, NOTHING, Sampling(), None).tolist() == [1]


def test_the_penalty_counts_what_was_said():
    """3 / 2 falls below 2; a negative score is multiplied."""
    seen = torch.tensor([[False, True, False, True]])
    assert choose(LOGITS, seen, Sampling(repetition_penalty=2.0), None).tolist() == [2]
    negative = torch.tensor([[-1.0, -3.0]])
    said = torch.tensor([[True, False]])
    assert choose(negative, said, Sampling(repetition_penalty=4.0), None).tolist() == [1]


def test_top_k_and_top_p_restrict():
    assert draws(Sampling(temperature=5.0)) == {0, 1, 2, 3}
    assert draws(Sampling(temperature=5.0, top_k=2)) == {1, 2}
    assert draws(Sampling(temperature=1.0, top_p=0.5)) == {1}
    assert draws(Sampling(temperature=1.0, top_p=0.7)) == {1, 2}


def test_a_seed_repeats():
    sampling = Sampling(temperature=2.0)
    first, second = (
        [
            int(choose(LOGITS, NOTHING, sampling, generator))
            for generator in [torch.Generator().manual_seed(7)]
            for _ in range(20)
        ]
        for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": 0},
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_p": 1.5},
        {"top_k": -1},
        {"repetition_penalty": 0},
        {"repetition_penalty": float("inf")},
    ],
)
def test_impossible_values_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        Sampling(**options)
