import json
from dataclasses import replace

import pytest
import torch

from onevision.checkpoint.load import inspect, load_network
from onevision.errors import ConfigError
from onevision.inputs.processor import Processor
from onevision.known_models import TINY
from onevision.model.llava import LlavaNetwork
from onevision.train.feed import batches, row_of
from onevision.train.optim import make_optimizer, set_learning_rate
from onevision.train.replicas import Replicas
from onevision.train.stages import STAGES, STARTS_FROM, stage_config, stage_named
from onevision.train.start import start_network
from onevision.train.trainer import train

SHORT = {"num_samples": 6, "batch_tokens": 1500}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tokenizer):
    """All six stages, a few samples each."""
    root = tmp_path_factory.mktemp("runs")
    for name, stage in STAGES.items():
        starts = [root / start / "checkpoint" for start in STARTS_FROM[name]]
        train(replace(stage, **SHORT), TINY, tokenizer=tokenizer, starts=starts, output=root / name)
    return root


def weights(root, name):
    return load_network(inspect(root / name / "checkpoint")).state_dict()


def test_the_stages_hand_over_to_one_another(runs):
    final = inspect(runs / "onevision" / "checkpoint")
    assert final.config == TINY
    lines = (runs / "onevision" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["samples"] >= 6


def test_align_trains_the_projector_alone(runs):
    align, vision, language = (weights(runs, name) for name in ("align", "vision", "language"))
    for name, tensor in align.items():
        if name.startswith("vision_encoder."):
            assert torch.equal(tensor, vision[name])
        if name.startswith("language_model."):
            assert torch.equal(tensor, language[name])


def test_the_newline_begins_after_align(runs):
    assert "image_newline" not in weights(runs, "align")
    assert weights(runs, "knowledge")["image_newline"].shape == (256,)


def test_later_stages_train_everything(runs):
    before, after = weights(runs, "knowledge"), weights(runs, "single_image")
    same = {n for n, t in before.items() if torch.equal(t, after[n])}
    assert same == {"vision_encoder.post_norm.weight", "vision_encoder.post_norm.bias"}


def test_the_same_seed_gives_the_same_batches(tokenizer):
    stage = stage_named("onevision")
    processor = Processor(TINY.inputs, tokenizer)
    (count, a), (_, b) = (
        next(batches(stage, processor, seed=1, replicas=Replicas())) for _ in range(2)
    )
    assert torch.equal(a.input_ids, b.input_ids)
    assert torch.equal(a.pixel_values, b.pixel_values)
    assert a.input_ids.numel() <= stage.batch_tokens or count == 1
    other = row_of(stage, processor, seed=2, index=0)
    assert not torch.equal(row_of(stage, processor, seed=1, index=0).input_ids, other.input_ids)


def test_every_part_has_its_rate():
    network = LlavaNetwork(TINY)
    stage = replace(
        stage_named("onevision"), learning_rate=1e-3, vision_learning_rate=2e-4, warmup=0.1
    )
    optimizer = make_optimizer(network, stage)
    set_learning_rate(optimizer, progress=0.1, warmup=0.1)
    assert {g["name"]: g["lr"] for g in optimizer.param_groups} == {
        "vision_encoder": 2e-4,
        "projector": 1e-3,
        "language_model": 1e-3,
    }
    newline = next(g for g in optimizer.param_groups if g["name"] == "language_model")["params"][-1]
    assert newline is network.image_newline
    set_learning_rate(optimizer, progress=0.05, warmup=0.1)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)
    set_learning_rate(optimizer, progress=1.0, warmup=0.1)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0)


def test_starts_that_do_not_fit_are_refused(runs, small_config):
    with pytest.raises(ConfigError, match="stage align starts from vision and language; 0"):
        start_network(STAGES["align"], stage_config(STAGES["align"], TINY), [])
    other = stage_config(STAGES["knowledge"], small_config)
    with pytest.raises(ConfigError, match="does not fit this model"):
        start_network(STAGES["knowledge"], other, [runs / "align" / "checkpoint"])
    with pytest.raises(ConfigError, match="no stage 'alining'"):
        stage_named("alining")
