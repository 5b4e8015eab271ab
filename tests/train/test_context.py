"""Processes that divide every sequence learn what one learns from the whole."""

from dataclasses import replace

import pytest
import torch

from onevision.config import LanguageConfig
from onevision.train.preference.loss import PreferenceConfig
from onevision.train.snapshots import SnapshotReader, snapshots
from tests.train.runs import MICRO, SHORT, Told, lines, loss_values

pytestmark = pytest.mark.distributed


def gradients(output):
    """Return the gradient of the first step: a tenth of it is AdamW's first moment then."""
    reader = SnapshotReader(snapshots(output)[0])
    return {
        name.partition("/")[2]: 10 * reader.rows(name)
        for name in reader.names()
        if name.startswith("exp_avg/")
    }


def assert_same_gradients(one, other):
    assert one.keys() == other.keys()
    largest = max(float(gradient.abs().max()) for gradient in one.values())
    for name, gradient in one.items():
        torch.testing.assert_close(other[name], gradient, atol=1e-5 * largest, rtol=1e-5, msg=name)


@pytest.fixture
def mixed(mixture_file, tmp_path):
    """A run of three steps on packs of images, pairs, videos and text, alone."""
    stage = replace(
        SHORT.learning_from(str(mixture_file)),
        resolution="target",
        global_batch=32,
        max_grad_norm=1e9,
    )
    return Told(output=tmp_path / "one", stage=stage).but(num_workers=0, save_steps=1, keep=9)


@pytest.mark.parametrize("sharing", ["replicate", "shard"])
def test_two_processes_learn_the_packs_of_one(nursery, tmp_path, mixed, sharing):
    nursery.train(mixed)
    two = mixed.but(output=tmp_path / "two", context=2, sharing=sharing)
    nursery.train(two, 2)
    assert loss_values(two.output) == pytest.approx(loss_values(mixed.output), rel=1e-5)
    assert_same_gradients(gradients(mixed.output), gradients(two.output))
