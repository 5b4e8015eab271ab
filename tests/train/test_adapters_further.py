"""Adapters of one run that another run trains further, on the same base."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from onevision.errors import CheckpointError, ConfigError
from onevision.train.lora.files import CONFIG, WEIGHTS
from onevision.train.start import Starts
from tests.train import test_adapters_run
from tests.train.test_adapters_run import ALONE, BRIEF, same, weights

start, train = test_adapters_run.start, test_adapters_run.train  # fixtures
CALM = replace(ALONE, lora_dropout=0.0)
KINDS = {"plain": CALM, "dora": replace(CALM, lora_dora=True)}


def first_loss(output):
    return json.loads((output / "metrics.jsonl").read_text().splitlines()[0])["loss"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_begins_where_the_one_before_ended(train, tmp_path, kind):
    options = KINDS[kind]
    first, second, merged = (tmp_path / name for name in ("first", "second", "merged"))
    train(first, options=options, stage=BRIEF)
    train(second, options=replace(options, lora_from=str(first)), stage=BRIEF)
    train(merged, options=options, stage=BRIEF,
          starts=Starts(previous=(first / "checkpoint",)))  # fmt: skip
    assert first_loss(second) == pytest.approx(first_loss(merged), rel=1e-5)
    assert first_loss(second) != pytest.approx(first_loss(first), rel=1e-4)
    before, after = (load_file(run / "adapter" / WEIGHTS) for run in (first, second))
    assert before.keys() == after.keys()
    assert all(before[name].shape == after[name].shape for name in before)
    assert not any(torch.equal(before[name], after[name]) for name in before if "lora_" in name)


def test_a_stage_of_whole_pictures_begins_with_adapters_of_single_crops(train, tmp_path):
    """It has `image_newline`, which the other one lacks."""
    first = tmp_path / "first"
    train(first, options=CALM, stage=replace(BRIEF, resolution="one_crop"))
    train(tmp_path / "second", options=replace(CALM, lora_from=str(first)), stage=BRIEF)
    before, after = (load_file(tmp_path / run / "adapter" / WEIGHTS) for run in ("first", "second"))
    assert {name.rpartition(".")[2] for name in after.keys() - before.keys()} == {"image_newline"}


def test_a_resumed_run_ends_with_the_same_bits(train, tmp_path):
    first = tmp_path / "first"
    train(first, options=CALM, stage=BRIEF)
    options = replace(CALM, lora_from=str(first / "adapter"))
    stage = replace(BRIEF, num_samples=9)
    whole, cut, other = tmp_path / "whole", tmp_path / "cut", tmp_path / "other"
    train(whole, options=options, stage=stage)
    assert train(cut, options=options, stage=stage, stop_after=2).checkpoint is None
    train(cut, options=options, stage=stage)
    assert same(weights(whole / "checkpoint"), weights(cut / "checkpoint"))
    train(other, options=options, stage=stage, stop_after=2)
    file = first / "adapter" / WEIGHTS
    save_file({name: x + 1 for name, x in load_file(file).items()}, file)
    with pytest.raises(ConfigError, match="adapters"):
        train(other, options=options, stage=stage)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lora_rank": 4}, "has lora_rank=2, this run 4; set lora_rank=2"),
        ({"lora_alpha": 8.0}, "lora_alpha"),
        ({"lora_rslora": True}, "has lora_rslora=false, this run true"),
        ({"lora_dora": True}, "lora_dora"),
        ({"lora_layers": "attention"}, "down_proj.lora_A.weight, which this run does not train"),
        ({"lora_base": "int8"}, "needs a network that is whole"),
    ],
)
def test_adapters_of_other_settings_are_refused(train, tmp_path, changes, said):
    train(tmp_path / "first", options=CALM, stage=BRIEF)
    options = replace(CALM, lora_from=str(tmp_path / "first"), **changes)
    with pytest.raises(ConfigError, match=said):
        train(tmp_path / "second", options=options, stage=BRIEF)


def test_adapters_of_another_base_are_refused(train, tmp_path):
    train(tmp_path / "first", options=CALM, stage=BRIEF)
    options = replace(CALM, lora_from=str(tmp_path / "first"))
    starts = Starts(previous=(tmp_path / "first" / "checkpoint",))
    with pytest.raises(CheckpointError, match="trained on other weights"):
        train(tmp_path / "second", options=options, stage=BRIEF, starts=starts)


def test_adapters_with_ranks_of_their_own_are_refused(train, tmp_path):
    train(tmp_path / "first", options=CALM, stage=BRIEF)
    path = tmp_path / "first" / "adapter" / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rank_pattern": {"q_proj": 1}}))
    options = replace(CALM, lora_from=str(tmp_path / "first"))
    with pytest.raises(ConfigError, match="rank_pattern"):
        train(tmp_path / "second", options=options, stage=BRIEF)
