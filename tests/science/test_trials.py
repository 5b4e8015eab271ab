"""The table of trials: what is compared, and that both sides have the same operations."""

from functools import cache

import pytest

from onevision.errors import InputError
from onevision.inputs.processor import Processor
from onevision.science.micro import MICRO, RULES, SEEDS
from onevision.science.trials import CLAIMS, all_trials, trials_for_claim
from onevision.train.cost.plan import batch_flops
from onevision.train.objectives.words import FamilyFeed
from onevision.train.stage import stage_config

TRIALS = all_trials()
ARMS = {trial.arm: trial for trial in TRIALS if trial.seed == SEEDS[0]}


@cache
def operations(arm: str, tokenizer) -> float:
    """Count the first steps of an arm, padding and the vision encoder included, and extrapolate.

    Tokens alone would not do: a crop costs its encoder, however few of its tokens are kept.
    """
    stage = ARMS[arm].stage
    config = stage_config(stage, ARMS[arm].target)
    feed, num_steps = FamilyFeed(stage, Processor(config.inputs, tokenizer), seed=0), 8
    counted = sum(
        batch_flops(stage, config, micro.batch, lora=None)
        for _, share in zip(range(num_steps), feed.steps(0), strict=False)
        for micro in share
    )
    return counted * stage.num_samples / min(num_steps * stage.global_batch, feed.num_samples)


def test_every_arm_is_there_for_three_seeds():
    assert len(SEEDS) >= 3
    assert len(TRIALS) == len(SEEDS) * len(ARMS) == len({trial.name for trial in TRIALS})
    assert {arm for arms in CLAIMS.values() for arm in arms} <= set(ARMS)


def test_a_trial_comes_after_those_it_starts_from():
    done = set()
    for trial in TRIALS:
        assert done.issuperset(trial.start_names)
        done.add(trial.name)


def test_the_onevision_stage_and_its_control_cost_the_same(tokenizer):
    ratio = operations("onevision", tokenizer) / operations("continued", tokenizer)
    assert ratio == pytest.approx(1, abs=0.03)


def test_the_control_begins_where_the_onevision_stage_does_and_sees_other_samples():
    assert ARMS["onevision"].start_arms == ARMS["continued"].start_arms == ("single_image",)
    # A feed draws by the stage's name, so another name is other samples of the same families.
    assert ARMS["continued"].stage.name != ARMS["single_image"].stage.name
    assert ARMS["continued"].stage.families == ARMS["single_image"].stage.families


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "higher_9"])
def test_every_image_rule_costs_the_same(rule, tokenizer):
    ratio = operations(rule, tokenizer) / operations("higher_9", tokenizer)
    assert ratio == pytest.approx(1, abs=0.03)


def test_image_rules_differ_in_nothing_but_the_rule_and_the_number_of_samples():
    for name, rule in RULES.items():
        trial = ARMS[name]
        assert trial.target.inputs.image == rule
        assert (trial.target.vision, trial.target.language) == (MICRO.vision, MICRO.language)
        assert trial.stage.families == {"capitals": 1.0}
        assert trial.start_arms == ("reader",)


def test_a_claim_needs_its_arms_and_their_beginnings_alone():
    named = {trial.name for trial in trials_for_claim(TRIALS, "transfer")}
    assert named == {
        f"seed-{seed}/{arm}"
        for seed in SEEDS
        for arm in ("vision", "language", "align", "knowledge", "single_image")
    }
    assert {t.arm for t in trials_for_claim(TRIALS, "resolution")} == {"letters", "reader", *RULES}


def test_an_unknown_claim_is_refused():
    with pytest.raises(InputError, match="no claim 'speed'; expected one of stages"):
        trials_for_claim(TRIALS, "speed")


def test_a_rehearsal_differs_in_the_number_of_samples_alone():
    for real, rehearsed in zip(TRIALS, all_trials(rehearsal=True), strict=True):
        assert (real.name, real.target, real.start_arms) == (
            rehearsed.name,
            rehearsed.target,
            rehearsed.start_arms,
        )
        assert rehearsed.stage.num_samples == 16
