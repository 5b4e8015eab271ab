"""The arms of capabilities: the same operations, and the world in one of them alone."""


import pytest

from onevision.checkpoint.load import inspect
from onevision.science.capabilities.arms import ARMS, TAUGHT_SHARE, arm_stage, arm_trials
from onevision.science.capabilities.capability import CAPABILITIES
from onevision.science.micro import SEEDS
from onevision.synth.families import FAMILIES
from onevision.train.start import find_start

TARGET = inspect(find_start("tiny")).config
WORLDS = {one.world for one in CAPABILITIES.values()}
NUM_COUNTED = 8


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
