"""A run with adapters: what learns, what is kept, and what is written at its end."""

import json
import os
import re
import shutil
import signal
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from onevision.checkpoint.load import inspect, load_network
from onevision.checkpoint.names import LLAVA_HF_5_6
from onevision.checkpoint.save import save
from onevision.errors import CheckpointError, ConfigError
from onevision.generate.answer import load
from onevision.model.llava import LlavaNetwork
from onevision.train.config import TrainConfig, list_changes, make_run_options
from onevision.train.lora.files import CONFIG, PREFIX, WEIGHTS
from onevision.train.lora.targets import apply_targets
from onevision.train.optim import freeze_parameters
from onevision.train.options import RunOptions
from onevision.train.report.journal import Callbacks
from onevision.train.run import run_stage
from onevision.train.snapshots import SnapshotReader, snapshots
from onevision.train.stage import Stage
from onevision.train.start import Starts
from onevision.values import apply_settings
from tests.conftest import randomise

STAGE = Stage(
    name="tuned",
    families={"scenes": 1.0},
    num_samples=12,
    max_questions=1,
    global_batch=3,
    max_tokens=600,
    learning_rate=1e-2,
    vision_learning_rate=1e-2,
)
LORA = RunOptions(
    precision="fp32", save_steps=2, keep=9, lora_rank=2, lora_alpha=4, lora_dropout=0.1
)
# DoRA over weights in few bits, which has all there is.
KINDS = {
    "full": {"lora_base": "full"},
    "int8": {"lora_base": "int8"},
    "int4": {"lora_base": "int4"},
    "dora": {"lora_base": "int8", "lora_dora": True},
    "dora over int4": {"lora_base": "int4", "lora_dora": True},
}
# One step without other processes, for what does not depend on how long a run is.
BRIEF = replace(STAGE, num_samples=3)
ALONE = replace(LORA, num_workers=0)


@pytest.fixture(scope="module")
def start(tmp_path_factory, micro_config, tokenizer):
    """A checkpoint with random weights."""
    path = tmp_path_factory.mktemp("start") / "checkpoint"
    save(randomise(LlavaNetwork(micro_config), std=0.1), micro_config, tokenizer, path)
    return path


@pytest.fixture
def train(start, micro_config, tokenizer):
    """Return a function that runs the stage in a directory, and its outcome."""

    def train(output, *, options=LORA, stage=STAGE, starts=None, stop_after=None, warned=None):
        def step(line):
            if line["step"] == stop_after:
                os.kill(os.getpid(), signal.SIGTERM)

        return run_stage(
            TrainConfig(stage=stage, target=micro_config, options=options),
            tokenizer=tokenizer,
            starts=starts or Starts(previous=(start,)),
            output=output,
            callbacks=Callbacks(
                on_step=step, on_warning=[].append if warned is None else warned.append
            ),
        )

    return train


def weights(path):
    return load_network(inspect(path), dtype=torch.float32).state_dict()


def last_tensors(output):
    reader = SnapshotReader(snapshots(output)[-1])
    return {name: reader.rows(name) for name in reader.names()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_adapters_learn_and_the_parts_without_any(train, start, tmp_path):
    train(tmp_path / "run")
    before, after = weights(start), weights(tmp_path / "run" / "checkpoint")
    still = {name for name in before if torch.equal(before[name], after[name])}
    moved = before.keys() - still
    assert {name.partition(".")[0] for name in moved} == {
        *("vision_encoder", "projector", "image_newline", "language_model")
    }
    below = {name for name in moved if name.startswith("language_model")}
    assert all(".blocks." in name and name.endswith(".weight") for name in below)
    assert not any("norm" in name for name in below)
    assert {"language_model.embedding.weight", "language_model.norm.weight"} <= still


def test_a_stage_that_trains_the_adapted_part_alone_moves_nothing_else(train, start, tmp_path):
    stage = replace(STAGE, trainable=("language_model",), vision_learning_rate=None)
    train(tmp_path / "run", stage=stage)
    before, after = weights(start), weights(tmp_path / "run" / "checkpoint")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.partition(".")[0] for name in moved} == {"language_model", "image_newline"}


def test_frozen_bases_have_no_moments(train, tmp_path):
    train(tmp_path / "run")
    names = last_tensors(tmp_path / "run")
    language = [n for n in names if n.startswith("exp_avg/language_model")]
    assert language and all(n.endswith(("lora_a", "lora_b")) for n in language)
    assert any(name.startswith("exp_avg/projector.") for name in names)


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_ends_with_the_same_bits(train, tmp_path, kind):
    options = replace(LORA, **KINDS[kind])
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(whole, options=options)
    assert train(cut, options=options, stop_after=2).checkpoint is None
    train(cut, options=options)
    assert same(last_tensors(whole), last_tensors(cut))
    assert same(weights(whole / "checkpoint"), weights(cut / "checkpoint"))
    held = {n.removeprefix("weight/") for n in last_tensors(cut) if n.startswith("weight/")}
    assert held and not any(name.startswith("buffer/") for name in last_tensors(cut))
    frozen = {name for name in held if name.startswith("language_model")}
    learned = ("lora_a", "lora_b", *(["magnitude"] if kind.startswith("dora") else []))
    assert {name.rpartition(".")[2] for name in frozen} == set(learned)


@pytest.mark.parametrize("base", ["full", "int8", "int4"])
def test_the_adapter_on_its_base_is_the_checkpoint(train, start, tmp_path, base):
    train(tmp_path / "run", options=replace(LORA, lora_base=base))
    path = tmp_path / "run" / "adapter"
    told, adapter = json.loads((path / CONFIG).read_text()), load_file(path / WEIGHTS)
    assert (told["r"], told["lora_alpha"], told["lora_dropout"]) == (2, 4, 0.1)
    assert told["base_model_name_or_path"] == str(start)
    merged, read = weights(tmp_path / "run" / "checkpoint"), set()
    for name, weight in weights(start).items():
        key = PREFIX + LLAVA_HF_5_6.translate(name)
        a, b = (f"{key.removesuffix('weight')}lora_{letter}.weight" for letter in "AB")
        if a in adapter:  # on the original weight, not on its rounded copy
            weight = weight + 4 / 2 * adapter[b] @ adapter[a]
        weight = adapter.get(key, weight)
        torch.testing.assert_close(weight, merged[name], atol=1e-6, rtol=1e-6)
        read |= {a, b, key} & adapter.keys()
    assert read == adapter.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_the_adapter_loads_on_its_base_and_on_no_other(train, start, tmp_path, kind):
    options = replace(ALONE, lora_rslora=True, **KINDS[kind])
    train(tmp_path / "run", options=options, stage=BRIEF)
    merged = weights(tmp_path / "run" / "checkpoint")
    info = inspect(start, adapter=tmp_path / "run" / "adapter")
    loaded = load_network(info, dtype=torch.float32).state_dict()
    assert loaded.keys() == merged.keys()
    for name, weight in merged.items():
        torch.testing.assert_close(loaded[name], weight, atol=1e-6, rtol=1e-6)
    with pytest.raises(CheckpointError, match=r"was trained on other weights than these, .*start"):
        inspect(tmp_path / "run" / "checkpoint", adapter=tmp_path / "run" / "adapter")
    skipped = inspect(
        tmp_path / "run" / "checkpoint", adapter=tmp_path / "run" / "adapter", verify=False
    )
    assert skipped.config == info.config


def test_a_run_does_not_resume_on_another_base(train, start, tmp_path, micro_config, tokenizer):
    copy = shutil.copytree(start, tmp_path / "start" / "checkpoint")
    starts = Starts(previous=(copy,))
    train(tmp_path / "run", starts=starts, options=ALONE, stop_after=2)
    save(randomise(LlavaNetwork(micro_config), std=0.2), micro_config, tokenizer, copy)
    with pytest.raises(ConfigError, match="base: it has changed"):
        train(tmp_path / "run", starts=starts, options=ALONE)


@pytest.mark.parametrize("targets", ["language", "attention", "all"])
def test_presets_train_what_they_say(train, start, tmp_path, targets):
    options = replace(ALONE, lora_targets=targets)
    train(tmp_path / "run", options=options, stage=apply_targets(BRIEF, targets))
    before, after = weights(start), weights(tmp_path / "run" / "checkpoint")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    sees = {"vision_encoder"} if targets == "all" else set()
    assert {name.partition(".")[0] for name in moved} == {
        *("projector", "image_newline", "language_model"), *sees
    }  # fmt: skip
    adapted = {name for name in moved if name.startswith(("language_model", "vision_encoder"))}
    assert all(".blocks." in name for name in adapted)
    assert all(".attention." in name for name in adapted) == (targets == "attention")


def test_a_tower_that_trains_whole_beside_adapters_is_told(train, tmp_path):
    warned = []
    train(tmp_path / "a", warned=warned, options=replace(ALONE, lora_rank=1), stage=BRIEF)
    assert any("vision_encoder (" in line and "lora_targets=language" in line for line in warned)
    options = replace(ALONE, lora_targets="language")
    warned.clear()
    train(tmp_path / "b", warned=warned, options=options, stage=apply_targets(BRIEF, "language"))
    assert not [line for line in warned if "trains whole" in line]
    with pytest.raises(ConfigError, match="lora_targets is 'all', but there are no adapters"):
        RunOptions(lora_targets="all")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["lora_rslora=true"], "lora_rslora is True, but there are no adapters"),
        (["lora_layers=attention"], "lora_layers is 'attention', but there are no adapters"),
        (["lora_alpha=32"], "lora_alpha is 32.0, but there are no adapters"),
        (["lora_base=int8"], "lora_base is 'int8', but there are no adapters"),
        (
            ["lora_rank=2", "lora_targets=all", "lora_layers=attention"],
            "lora_targets=all says where adapters are, and so does lora_layers; set one of them",
        ),
    ],
)
def test_settings_of_adapters_that_would_be_ignored_are_refused(settings, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        make_run_options(settings)


def test_the_merged_checkpoint_answers(train, tmp_path):
    outcome = train(tmp_path / "run")
    assert load(outcome.checkpoint).config.language.num_layers == 2


def test_without_adapters_no_adapter_is_written(train, tmp_path):
    train(tmp_path / "run", options=replace(LORA, lora_rank=0, lora_alpha=16.0, lora_dropout=0.0))
    assert not (tmp_path / "run" / "adapter").exists()


def test_adapters_that_do_not_fit_are_refused(train, tmp_path):
    frozen = replace(STAGE, trainable=("projector", "language_model"), vision_learning_rate=None)
    both = replace(LORA, lora_parts=("language_model", "vision_encoder"))
    with pytest.raises(ConfigError, match="lora_parts names vision_encoder, which stage tuned"):
        train(tmp_path / "run", stage=frozen, options=both)
    with pytest.raises(ConfigError, match="adapters lie on one checkpoint, but 0 were given"):
        train(tmp_path / "run", starts=Starts())
    with pytest.raises(ConfigError, match=r"LoraConfig.alpha is 0"):
        RunOptions(lora_rank=2, lora_alpha=0)
    with pytest.raises(ConfigError, match="lora_rank is -1; expected 0 or more"):
        RunOptions(lora_rank=-1)


def test_settings_can_be_written_on_a_command_line(micro_config):
    options = apply_settings(
        RunOptions(),
        ["lora_rank=8", "lora_parts=language_model,vision_encoder", "lora_base=int8"],
    )
    assert options.lora is not None
    assert (options.lora.rank, options.lora.base) == (8, "int8")
    assert options.lora.parts == ("language_model", "vision_encoder")
    with pytest.raises(ConfigError, match="lora_base is 'int2'; expected one of full, int8, int4"):
        apply_settings(RunOptions(), ["lora_base=int2"])
    old = TrainConfig(stage=STAGE, target=micro_config, options=RunOptions())
    assert list_changes(old, replace(old, options=replace(old.options, lora_rank=8))) == [
        "lora_rank: 0 -> 8"
    ]


def test_parts_learn_as_the_stage_says(micro_config):
    network = LlavaNetwork(micro_config)
    freeze_parameters(network, STAGE)
    assert network.image_newline is not None and network.image_newline.requires_grad
    assert not network.vision_encoder.post_norm.weight.requires_grad
