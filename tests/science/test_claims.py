"""Means, intervals and verdicts over seeds, by hand."""

import math

import pytest

from onevision.science.claims import Results, estimate, where
from onevision.science.study import TrialRecord


def row(scenario, family, right, *, asked=10, blind=2, constant=3):
    return {"scenario": scenario, "family": family, "asked": asked, "right": right,
            "blind": blind, "constant": constant}  # fmt: skip


def record(arm, seed, answers, **changes):
    values = {"rehearsal": False, "samples": 8, "tokens": 100, "operations": 1e6,
              "train_seconds": 2.0, "exam_seconds": 1.0} | changes  # fmt: skip
    return TrialRecord(arm=arm, seed=seed, answers=answers, **values)


def test_three_seeds_have_students_interval():
    value = estimate([0.1, 0.2, 0.3])
    assert value.value == pytest.approx(0.2)
    assert value.high - value.value == pytest.approx(4.303 * 0.1 / math.sqrt(3))
    assert value.low == pytest.approx(2 * value.value - value.high)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.10, 0.11, 0.12], "holds"),
        ([-0.10, -0.11, -0.12], "does not hold"),
        ([-0.1, 0.1, 0.3], "cannot tell"),
        ([0.5], "cannot tell"),
    ],
)
def test_a_verdict_is_as_sure_as_the_interval(values, verdict):
    assert estimate(values).verdict == verdict


def test_differences_are_taken_within_seeds():
    results = Results(
        [
            *(record("a", seed, [row("video", "f", 4 + seed)]) for seed in range(3)),
            *(record("b", seed, [row("video", "f", 2 + seed)]) for seed in range(3)),
            record("a", 9, [row("video", "f", 10)]),  # has no other side
        ]
    )
    gap = results.difference("a", "b", where(scenario="video"))
    assert (gap.value, gap.low, gap.num_seeds) == (pytest.approx(0.2), pytest.approx(0.2), 3)
    assert results.seeds("a", "b") == [0, 1, 2]


def test_a_skill_is_measured_against_the_better_of_blind_and_constant():
    answers = [row("video", "f", 8, blind=2, constant=5), row("video", "g", 1, blind=4)]
    results = Results([record("a", seed, answers) for seed in range(2)])
    skills = {skill.family: skill for skill in results.skills("a")}
    assert skills["f"].gain.value == pytest.approx(0.3)
    assert skills["g"].gain.value == pytest.approx(-0.3)
    assert skills["f"].asked == 20
    assert (skills["f"].gain.verdict, skills["f"].verdict) == ("holds", "cannot tell")  # too few
    # Of the whole scenario: 9 of 20 right, 6 blind, 8 by constant answers.
    assert results.gain("a", where(scenario="video")).value == pytest.approx(0.05)
