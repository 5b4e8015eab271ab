"""What covers each patch: the labels and the loss by hand, and a stage that learns from them."""

import math
from dataclasses import replace

import pytest
import torch

from onevision.checkpoint.load import inspect, load_network
from onevision.errors import ConfigError
from onevision.inputs.processor import Processor
from onevision.model.llava import LlavaNetwork
from onevision.science.micro import LETTERS
from onevision.synth.sample import Region
from onevision.train.feed import MicroBatch
from onevision.train.objectives.patches import (
    PatchFeed,
    PatchLearner,
    label_names,
    label_patches,
    patch_batch,
)
from onevision.train.report.metrics import read_metrics
from onevision.train.snapshots import SnapshotReader, snapshots
from onevision.train.stage import stage_config
from onevision.train.stages import stage_named
from tests.conftest import randomise
from tests.train.runs import MICRO, Told

STAGE = replace(LETTERS, num_samples=40, global_batch=8)
CONFIG = stage_config(STAGE, MICRO)


def box(name, left, top, right, bottom):
    return Region(name=name, left=left, top=top, right=right, bottom=bottom)


def labels(*regions, width=4, height=4):
    return label_patches(regions, ("A", "K"), width=width, height=height, side=2).tolist()


def feed_of(tokenizer, stage=STAGE):
    return PatchFeed(stage, Processor(CONFIG.inputs, tokenizer), seed=0)


def test_a_patch_is_told_what_covers_it():
    assert labels(box("K", 2, 0, 4, 2)) == [0, 2, 0, 0]
    assert labels(box("A", 0, 0, 4, 4)) == [1, 1, 1, 1]
    assert labels() == [0, 0, 0, 0]


def test_a_picture_that_is_no_square_is_squashed():
    """The same letter at the right of a wide picture: its patches are as wide as half of it."""
    assert labels(box("K", 20, 0, 40, 2), width=40) == [0, 2, 0, 0]


def test_what_covers_most_wins_and_slivers_count_nothing():
    assert labels(box("A", 0, 0, 1.2, 2), box("K", 1.2, 0, 2, 2)) == [1, 0, 0, 0]
    assert labels(box("K", 1.2, 0, 2, 2), box("A", 0, 0, 1.2, 2)) == [1, 0, 0, 0]
    assert labels(box("K", 1.9, 0, 4, 2)) == [0, 2, 0, 0]  # a twentieth of the left patch


def test_what_reaches_out_of_the_picture_covers_what_is_inside():
    assert labels(box("K", -9, -9, 1, 1)) == [2, 0, 0, 0]
    assert labels(box("K", -9, -9, -1, -1)) == [0, 0, 0, 0]


def test_the_loss_by_hand():
    """A layer of zeros finds all names alike: every patch costs log 3."""
    network = randomise(LlavaNetwork(CONFIG), std=0.05)
    learner = PatchLearner(network, names=("A", "K"))
    layer = network.vision_encoder.get_submodule("namer")
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    batch = patch_batch(torch.rand(1, 3, 56, 56), torch.tensor([[0] * 15 + [2]]))
    weights = torch.zeros(16)
    weights[-1] = 0.5
    micro_batch = MicroBatch(
        batch=batch, owners=torch.zeros(16).long(), samples=("one",), sources=(0,)
    )
    loss, losses, _ = learner(micro_batch, weights)
    assert losses.tolist() == pytest.approx([math.log(3)] * 16)
    assert loss.item() == pytest.approx(0.5 * math.log(3))
    loss.backward()
    # Softmax less the target, of the one patch that counts.
    assert layer.bias.grad.tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 6 - 1 / 2])


def test_a_step_is_a_function_of_its_number(tokenizer):
    feed = feed_of(tokenizer)
    (first, *_), (again, *_) = list(feed.steps(3)), list(feed.steps(3))
    whole = list(feed.steps(0))[3]
    for one in (again[0], whole[0]):
        assert torch.equal(one.batch.pixel_values, first[0].batch.pixel_values)
        assert torch.equal(one.batch.targets, first[0].batch.targets)
    assert first[0].batch.pixel_values.shape == (8, 3, 56, 56)
    assert first[0].owners.tolist() == [n for n in range(8) for _ in range(16)]
    assert set(first[0].batch.targets.tolist()) > {0}


def test_processes_share_a_step(tokenizer):
    shares = [
        PatchFeed(STAGE, Processor(CONFIG.inputs, tokenizer), seed=0, rank=rank, ranks=2)
        for rank in (0, 1)
    ]
    parts = [next(feed.steps(0))[0].samples for feed in shares]
    whole = next(feed_of(tokenizer).steps(0))[0].samples
    assert (parts[0], parts[1]) == (whole[::2], whole[1::2])


def test_other_families_and_other_parts_are_refused():
    with pytest.raises(ConfigError, match="families are scenes"):
        label_names(replace(STAGE, families={"scenes": 1.0}))
    with pytest.raises(ConfigError, match="trains the vision encoder alone"):
        label_names(replace(stage_named("vision"), families=STAGE.families))
    assert label_names(replace(STAGE, families={"glimpses": 1, "capitals": 1})) == tuple("AEKOTX")


def test_labels_lie_where_the_ink_is(tokenizer):
    """Of a patch that is told a letter some pixels are dark, of nearly all others none."""
    stage = replace(STAGE, families={"capitals": 1.0}, num_samples=64, global_batch=64)
    ((one,),) = feed_of(tokenizer, stage).steps(0)
    patches = one.batch.pixel_values.mean(1).unfold(1, 14, 14).unfold(2, 14, 14)
    dark = (patches.amin((-1, -2)) < 0).flatten()
    told = one.batch.targets > 0
    assert dark[told].float().mean() > 0.9
    assert dark[~told].float().mean() < 0.05


def test_a_stage_learns_leaves_no_layer_and_goes_on_to_the_same_weights(nursery, tmp_path):
    told = Told(output=tmp_path / "whole", stage=STAGE)
    nursery.train(told)
    network = load_network(inspect(told.output / "checkpoint"))
    assert not [name for name, _ in network.named_parameters() if "namer" in name]
    names = SnapshotReader(snapshots(told.output)[-1]).names()
    assert "exp_avg/vision_encoder.namer.weight" in names
    assert "momentum_buffer/vision_encoder.blocks.0.mlp.up.weight" in names
    parts = told.but(output=tmp_path / "parts")
    nursery.train(parts.but(stop_after=2))
    nursery.train(parts)
    other = load_network(inspect(parts.output / "checkpoint"))
    for name, value in network.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    # Forwards once and backwards twice, of the encoder alone.
    lines = read_metrics(told.output / "metrics.jsonl")
    assert {line["flops"] for line in lines} == {3 * 8 * MICRO.vision.flops}
    assert {line["samples"] for line in lines[-1:]} == {40}
