import json
from dataclasses import replace

import pytest
import torch

from onevision.accelerate.processor import can_multiply
from onevision.errors import ConfigError
from onevision.known_models import ONEVISION_7B, TINY
from onevision.train.config import (
    TrainConfig,
    list_changes,
    make_run_options,
    read_train_config,
    to_json_values,
    write_train_config,
)
from onevision.train.options import RunOptions
from onevision.train.stages import CURRICULA, Stage, stage_named
from onevision.values import apply_settings, split_settings

KNOWLEDGE = stage_named("knowledge", "7b")
DRAWN = stage_named("knowledge")


@pytest.mark.parametrize(
    ("setting", "name", "value"),
    [
        ("global_batch=64", "global_batch", 64),
        ("max_tokens=16_384", "max_tokens", 16384),
        ("learning_rate=1e-5", "learning_rate", 1e-5),
        ("learning_rate=1", "learning_rate", 1.0),
        ("aspects=True", "aspects", True),
        ("mixture=my data.yaml", "mixture", "my data.yaml"),
        ("template=none", "template", None),
        ("template=plain", "template", "plain"),
        ("resolution=one_crop", "resolution", "one_crop"),
        ("betas=0.9, 0.98", "betas", (0.9, 0.98)),
        ("starts_from=", "starts_from", ()),
        ("trainable=vision_encoder,projector", "trainable", ("vision_encoder", "projector")),
        (" warmup = 0.1 ", "warmup", 0.1),
    ],
)
def test_a_setting_is_read_by_the_kind_of_its_field(setting, name, value):
    stage = apply_settings(KNOWLEDGE, [setting])
    assert stage == replace(KNOWLEDGE, **{name: value})
    assert type(vars(stage)[name]) is type(value)


def test_a_mapping():
    stage = apply_settings(DRAWN, ["families=scenes:0.5, texts:1"])
    assert stage.families == {"scenes": 0.5, "texts": 1.0}


def test_settings_apply_together():
    stage = apply_settings(KNOWLEDGE, ["trainable=projector", "vision_learning_rate=none"])
    assert stage.trainable == ("projector",)
    with pytest.raises(ConfigError, match="expected none, since it is not among the trainable"):
        apply_settings(KNOWLEDGE, ["trainable=projector"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("learning_rat=1", "no key 'learning_rat'; did you mean 'learning_rate'"),
        ("zzz=1", "such as name, starts_from, trainable"),
        ("learning_rate", "--set learning_rate has no value; write it as key=value"),
        ("learning_rate=fast", "learning_rate is 'fast'; expected a number such as 1e-5"),
        ("learning_rate=inf", "learning_rate is 'inf'; expected a number such as 1e-5"),
        ("learning_rate=none", "learning_rate is 'none'; expected a number"),
        ("vision_learning_rate=", "is ''; expected a number such as 1e-5, or none"),
        ("epochs=1.5", "epochs is '1.5'; expected a whole number"),
        ("aspects=yes", "aspects is 'yes'; expected true or false"),
        ("template=vicuna", "template is 'vicuna'; expected one of plain, qwen_1_5, qwen_2_5"),
        ("betas=0.9", "betas is '0.9'; expected 2 values with commas between, each a number"),
        (
            "betas=0.9,x",
            "betas is '0.9,x'; expected 2 values with commas between, each a number",
        ),
        (
            "families=scenes",
            "families is 'scenes'; expected name:value pairs with commas between",
        ),
        ("global_batch=0", "global_batch is 0; expected more than 0"),
    ],
)
def test_what_does_not_fit_is_named(setting, message):
    with pytest.raises(ConfigError) as caught:
        apply_settings(DRAWN, [setting])
    assert message in str(caught.value)


def test_a_key_is_given_once():
    with pytest.raises(ConfigError, match="--set epochs is given twice"):
        apply_settings(KNOWLEDGE, ["epochs=2", "epochs=3"])


def test_settings_find_the_dataclass_that_has_them():
    assert split_settings(["seed=1", "epochs=2", "recompute=true"], Stage, RunOptions) == [
        ["epochs=2"],
        ["seed=1", "recompute=true"],
    ]
    with pytest.raises(ConfigError, match="no key 'sed'; did you mean 'seed'"):
        split_settings(["sed=1"], Stage, RunOptions)


@pytest.mark.parametrize("size", ["tiny", "7b", "llava-v1-7b"])
def test_settings_can_be_written_and_read_again(tmp_path, size):
    for number, stage in enumerate(CURRICULA[size].values()):
        settings = TrainConfig(
            stage=stage,
            target=TINY,
            options=RunOptions(seed=7, max_spike=2.5),
            starts=("a", "b"),
            tokenizer="t/tokenizer.json",
        )
        path = tmp_path / str(number) / "settings.json"
        write_train_config(settings, path)
        assert read_train_config(path) == settings
        assert json.loads(path.read_text()) == to_json_values(settings)


def test_damaged_settings_are_refused(tmp_path):
    path = tmp_path / "settings.json"
    good = TrainConfig(stage=KNOWLEDGE, target=TINY, options=RunOptions())

    def fault(change):
        values = to_json_values(good)
        change(values)
        path.write_text(json.dumps(values))
        with pytest.raises(ConfigError) as caught:
            read_train_config(path)
        return str(caught.value)

    assert "stage: no key 'epoch'; did you mean 'epochs'" in fault(
        lambda v: v["stage"].update(epoch=v["stage"].pop("epochs"))
    )
    assert "stage: missing warmup; start the run again" in fault(lambda v: v["stage"].pop("warmup"))
    assert "stage.epochs is '1'; expected a whole number" in fault(
        lambda v: v["stage"].update(epochs="1")
    )
    assert "stage.aspects is 1; expected true or false" in fault(
        lambda v: v["stage"].update(aspects=1)
    )
    assert "not settings of format_version 1" in fault(lambda v: v.update(format_version=2))
    path.write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        read_train_config(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_train_config(tmp_path / "none.json")


def test_what_decides_the_outcome_is_compared():
    old = TrainConfig(stage=KNOWLEDGE, target=TINY, options=RunOptions(), starts=("here",))
    assert list_changes(old, old) == []
    new = replace(
        old,
        stage=apply_settings(
            KNOWLEDGE,
            ["learning_rate=2e-5", "trainable=projector", "vision_learning_rate=none"],
        ),
        target=replace(TINY, language=replace(TINY.language, num_layers=7)),
        options=RunOptions(seed=3, device="cuda", save_seconds=5.0),
        starts=("there",),
    )
    assert list_changes(old, new) == [
        "trainable: vision_encoder,projector,language_model -> projector",
        "learning_rate: 1e-05 -> 2e-05",
        "vision_learning_rate: 2e-06 -> none",
        "target.language.num_layers: 6 -> 7",
        "seed: 0 -> 3",
    ]


def test_a_difference_names_what_is_on_one_side_only():
    old = TrainConfig(stage=DRAWN, target=TINY, options=RunOptions())
    new = replace(old, stage=apply_settings(DRAWN, ["families=scenes:1"]), target=TINY)
    assert list_changes(old, new) == [
        "families.scenes: 0.95 -> 1.0",
        "families.texts: 0.05 -> absent",
    ]
    bigger = list_changes(old, replace(old, target=ONEVISION_7B))
    assert "target.vision.num_layers: 6 -> 26" in bigger


def test_arithmetic_is_bf16_where_the_processor_has_it_or_when_asked_for():
    assert make_run_options([]).precision == ("bf16" if can_multiply(torch.bfloat16) else "fp32")
    assert make_run_options(["device=cuda"]).precision == "bf16"
    assert [make_run_options([f"precision={p}"]).precision for p in ("bf16", "fp32")] == [
        "bf16",
        "fp32",
    ]
