"""What benchmarks/train.py compares is the same for both ways."""

import pytest

from benchmarks.train_samples import ONEVISION_MIXED_16, draw, shape_named
from benchmarks.train_ways import padded
from onevision.anyres import VideoLayout

HALF = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def config():
    return shape_named("benchmark")


@pytest.fixture(scope="module")
def examples(config):
    return draw(0, config)


def test_a_step_sees_the_mix_in_any_order(config, examples):
    answers = sorted(sample.answer for sample in ONEVISION_MIXED_16)
    for drawn in (examples, draw(1, config)):
        assert sorted(int((e.labels >= 0).sum()) for e in drawn) == answers


def test_padding_keeps_labels_and_crops(examples):
    batch = padded(examples, mean=HALF, std=HALF)
    assert int((batch["labels"] >= 0).sum()) == sum(s.answer for s in ONEVISION_MIXED_16)
    longest = max(len(e.input_ids) for e in examples)
    assert batch["input_ids"].shape == (len(examples), longest)
    videos = [e for e in examples if any(isinstance(la, VideoLayout) for la in e.layouts)]
    assert len(batch["pixel_values_videos"]) == len(videos) == 3
    assert batch["batch_num_images"].sum() == len(batch["pixel_values"]) == 12
