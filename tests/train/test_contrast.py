import math
from dataclasses import replace

import pytest
import torch

from onevision.checkpoint.load import inspect, load_network
from onevision.errors import ConfigError
from onevision.inputs.processor import Processor
from onevision.known_models import TINY
from onevision.model.decoder import Decoder
from onevision.train.config import TrainConfig
from onevision.train.objectives.contrast import ContrastHead, read_captions, sigmoid_loss
from onevision.train.objectives.words import FamilyFeed
from onevision.train.options import RunOptions
from onevision.train.run import run_stage
from onevision.train.snapshots import SnapshotReader, snapshots
from onevision.train.stage import stage_config
from onevision.train.stages import stage_named
from onevision.train.start import Starts
from tests.train.runs import MICRO


def test_the_loss_by_hand():
    """Two pairs at right angles, t = 2, b = -1: logits 1 on the diagonal, -1 beside it."""
    units = torch.eye(2)
    loss = sigmoid_loss(units, units, log_scale=torch.tensor(2.0).log(), bias=torch.tensor(-1.0))
    alike = math.log(1 + math.exp(-1))  # -log sigmoid(1)
    apart = math.log(1 + math.exp(-1))  # -log sigmoid(-1 * -1)
    assert loss.item() == pytest.approx((2 * alike + 2 * apart) / 2)


def test_it_begins_as_the_paper_says():
    head = ContrastHead(vision_width=8, language_width=8)
    assert head.log_scale.exp().item() == pytest.approx(10)
    assert head.bias.item() == -10


def test_words_beyond_a_captions_end_count_nothing():
    torch.manual_seed(0)
    head = ContrastHead(vision_width=8, language_width=6)
    patches, hidden = torch.randn(3, 4, 8), torch.randn(3, 5, 6)
    lengths = torch.tensor([5, 2, 3])
    before = head(patches, hidden, lengths)
    hidden[1, 2:] = 99.0
    assert torch.equal(head(patches, hidden, lengths), before)


def test_captions_are_the_labelled_words_of_each_row(tokenizer):
    stage = stage_named("vision")
    config = stage_config(stage, TINY)
    feed = FamilyFeed(stage, Processor(config.inputs, tokenizer), seed=0)
    rows = [feed.row(index)[1] for index in range(3)]
    (one,) = feed.micro_batches(range(3))
    hidden, lengths = read_captions(Decoder(config.language), one.batch)
    assert sorted(lengths.tolist()) == sorted(int((row.labels >= 0).sum()) for row in rows)
    assert hidden.shape == (3, int(lengths.max()), config.language.hidden_size)


def test_pairs_are_learned():
    torch.manual_seed(0)
    head = ContrastHead(vision_width=16, language_width=16, width=16)
    patches, hidden = torch.randn(8, 3, 16), torch.randn(8, 2, 16)
    lengths = torch.full((8,), 2)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = head(patches, hidden, lengths)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("objective", ["sigmoid", "both"])
def test_a_vision_stage_may_learn_by_contrast_and_leaves_no_head(objective, tokenizer, tmp_path):
    stage = replace(
        stage_named("vision"), num_samples=24, global_batch=8, vision_objective=objective
    )
    outcome = run_stage(
        TrainConfig(stage=stage, target=MICRO, options=RunOptions(save_steps=2, precision="fp32")),
        tokenizer=tokenizer,
        starts=Starts(),
        output=tmp_path / "run",
    )
    network = load_network(inspect(outcome.checkpoint))
    assert not [name for name, _ in network.named_parameters() if "contrast" in name]
    (snapshot,) = snapshots(tmp_path / "run")[-1:]
    names = SnapshotReader(snapshot).names()
    assert "exp_avg/vision_encoder.contrast.log_scale" in names


def test_a_later_stage_does_not_learn_by_contrast():
    with pytest.raises(ConfigError, match="vision_objective is 'both'; expected caption"):
        replace(stage_named("knowledge"), vision_objective="both")
