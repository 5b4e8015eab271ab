"""The arms of capabilities: the same operations, and the world in one of them alone."""

from dataclasses import replace

import pytest

from onevision.checkpoint.load import inspect
from onevision.inputs.processor import Processor
from onevision.science.capabilities.arms import (
    ARMS,
    COSTS,
    STAGE,
    TAUGHT_SHARE,
    arm_stage,
    arm_trials,
)
from onevision.science.capabilities.capability import CAPABILITIES
from onevision.science.micro import SEEDS
from onevision.synth.families import FAMILIES
from onevision.train.cost.plan import batch_flops
from onevision.train.objectives.words import FamilyFeed
from onevision.train.stage import stage_config
from onevision.train.start import find_start

TARGET = inspect(find_start("tiny")).config
WORLDS = {one.world for one in CAPABILITIES.values()}


@pytest.mark.parametrize("name", CAPABILITIES)
def test_parts_never_show_the_task(name):
    one = CAPABILITIES[name]
    transfer, taught = (arm_stage(one, arm) for arm in ARMS)
    assert not WORLDS & set(transfer.families)
    assert set(transfer.families) <= set(FAMILIES)
    assert set(taught.families) - set(transfer.families) == {one.world}
    assert sum(transfer.families.values()) == pytest.approx(1)
    assert taught.families[one.world] == TAUGHT_SHARE
    for family, share in transfer.families.items():
        assert taught.families[family] == pytest.approx(share * (1 - TAUGHT_SHARE))


def test_arms_begin_alike_and_differ_in_data_alone():
    trials = arm_trials(tuple(CAPABILITIES.values()), TARGET)
    assert len(trials) == 9 * 2 * len(SEEDS) == len({trial.name for trial in trials})
    assert {trial.start_arms for trial in trials} == {()}
    stages = [trial.stage for trial in trials]
    assert len({(s.learning_rate, s.global_batch, s.max_questions, s.name) for s in stages}) == 1


def measure(family, tokenizer, *, seed, count):
    """Counts the operations of a family's samples in batches of their own; returns the mean."""
    stage = replace(STAGE, families={family: 1.0}, num_samples=count)
    config = stage_config(stage, TARGET)
    feed = FamilyFeed(stage, Processor(config.inputs, tokenizer), seed=seed)
    counted = sum(
        batch_flops(stage, config, micro.batch, lora=None)
        for share in feed.steps(0)
        for micro in share
    )
    return counted / count / 1e9


def operations(one, arm, costs):
    """Returns the operations of an arm, from what a sample of each family costs."""
    stage = arm_stage(one, arm)
    return stage.num_samples * sum(share * costs[f] for f, share in stage.families.items())


@pytest.mark.parametrize("name", CAPABILITIES)
def test_both_arms_take_the_same_operations(name):
    one = CAPABILITIES[name]
    transfer, taught = (operations(one, arm, COSTS) for arm in ARMS)
    assert taught == pytest.approx(transfer, rel=0.01)
    assert taught / 1e3 == pytest.approx(60, rel=0.4), "tera-operations, as the page says"


@pytest.mark.parametrize("family", ["pairs", "taps", "referred"])
def test_a_sample_costs_what_the_table_says(family, tokenizer):
    """Of few samples, so to a few standard errors; the slow test counts more of all."""
    assert measure(family, tokenizer, seed=1, count=64) == pytest.approx(COSTS[family], rel=0.12)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_both_arms_take_the_same_operations_when_counted_again(tokenizer):
    families = {family for one in CAPABILITIES.values() for family in (one.world, *one.parts)}
    costs = {family: measure(family, tokenizer, seed=1, count=512) for family in sorted(families)}
    for one in CAPABILITIES.values():
        transfer, taught = (operations(one, arm, costs) for arm in ARMS)
        assert taught == pytest.approx(transfer, rel=0.03), one.name


def test_mixed_batches_cost_as_much_as_batches_of_a_family(tokenizer):
    """Samples of similar length are padded together, so what else is in a step costs little."""
    stage = arm_stage(CAPABILITIES["S9"], "transfer")
    config = stage_config(stage, TARGET)
    feed = FamilyFeed(stage, Processor(config.inputs, tokenizer), seed=0)
    shares = [share for _, share in zip(range(6), feed.steps(0), strict=False)]
    counted = sum(batch_flops(stage, config, m.batch, lora=None) for share in shares for m in share)
    expected = sum(share * COSTS[family] for family, share in stage.families.items())
    assert counted / len(shares) / stage.global_batch / 1e9 == pytest.approx(expected, rel=0.08)
