import json
from dataclasses import replace

import pytest

from onevision.anyres import AnyRes, SingleCrop, VideoRule
from onevision.config import InputConfig, LanguageConfig, ModelConfig, VisionConfig
from onevision.errors import ConfigError
from onevision.known_models import ARCHITECTURES, TINY


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_config_survives_its_json(name):
    config = ARCHITECTURES[name]
    assert ModelConfig.from_dict(json.loads(config.to_json())) == config


def test_explicit_grids_survive_their_json():
    inputs = replace(
        TINY.inputs, image=AnyRes(crop_size=98, max_crops=None, grids=((1, 2), (2, 1)))
    )
    config = replace(TINY, inputs=inputs)
    assert ModelConfig.from_dict(json.loads(config.to_json())) == config


def test_a_typo_is_an_error():
    values = json.loads(TINY.to_json())
    values["vision"]["num_layer"] = values["vision"].pop("num_layers")
    with pytest.raises(
        ConfigError, match="config: vision: no key 'num_layer'; did you mean 'num_layers'"
    ):
        ModelConfig.from_dict(values)


def test_a_wrong_type_is_an_error():
    values = json.loads(TINY.to_json())
    values["language"]["vocab_size"] = "many"
    with pytest.raises(
        ConfigError, match="config: language.vocab_size is 'many'; expected a whole"
    ):
        ModelConfig.from_dict(values)


def test_an_unknown_rule_is_an_error():
    values = json.loads(TINY.to_json())
    values["inputs"]["image"]["rule"] = "Mosaic"
    with pytest.raises(
        ConfigError, match="image.rule is 'Mosaic'; expected one of AnyRes, SingleCrop"
    ):
        ModelConfig.from_dict(values)


def test_another_format_version_is_an_error():
    values = json.loads(TINY.to_json()) | {"format_version": 99}
    with pytest.raises(ConfigError, match="format_version 99"):
        ModelConfig.from_dict(values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VisionConfig(num_heads=7), "not a multiple of num_heads"),
        (lambda: LanguageConfig(num_layers=0), "num_layers is 0"),
        (lambda: LanguageConfig(num_kv_heads=3), "not a multiple of num_kv_heads"),
        (lambda: InputConfig(video=VideoRule(crop_size=98)), "differ in crop"),
        (lambda: InputConfig(image_std=(0.5, 0.0, 0.5)), "image_std"),
        (lambda: replace(TINY, vision=VisionConfig()), "do not fit a vision encoder"),
        (lambda: ModelConfig(inputs=InputConfig(image_token_id=200000)), "outside the vocabulary"),
    ],
)
def test_contradictions_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_tiny_keeps_the_papers_ratios():
    rules = TINY.inputs
    assert (rules.image.side**2, rules.video.pooled_side**2) == (49, 16)
    assert isinstance(rules.multi_image, SingleCrop)
    assert TINY.language.max_positions == 8192


def test_a_config_of_version_1_has_the_defaults_it_was_written_under():
    values = json.loads(TINY.to_json()) | {"format_version": 1}
    for part, names in (
        (values["vision"], ("activation", "class_token", "num_spare_layers")),
        (values["language"], ("attention_bias", "rope_factor", "sliding_window")),
        (values["inputs"]["image"], ("merge",)),
        (values["inputs"]["video"], ("fit", "pool_first")),
    ):
        for name in names:
            del part[name]
    assert ModelConfig.from_dict(values) == TINY
    with pytest.raises(ConfigError, match="inputs.image: missing merge"):
        values["format_version"] = 2
        ModelConfig.from_dict({**json.loads(TINY.to_json()), "inputs": values["inputs"]})


def test_an_unknown_choice_is_an_error():
    values = json.loads(TINY.to_json())
    values["inputs"]["template"] = "vicuna"
    with pytest.raises(ConfigError, match=r"template is 'vicuna'; expected one of plain, qwen_1_5"):
        ModelConfig.from_dict(values)
