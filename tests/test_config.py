import json
from dataclasses import replace

import pytest

from onevision.anyres import AnyRes, SingleCrop, VideoRule
from onevision.config import (
    FORMAT_VERSION,
    InputConfig,
    LanguageConfig,
    ModelConfig,
    ProjectorConfig,
    VisionConfig,
)
from onevision.errors import ConfigError
from onevision.known_models import ARCHITECTURES, TINY
from tests.native import NATIVE, NATIVE_2


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


def test_a_config_of_version_2_has_a_transformer_for_an_encoder():
    values = json.loads(TINY.to_json()) | {"format_version": 2}
    assert values["vision"].pop("rule") == "VisionConfig"
    assert ModelConfig.from_dict(values) == TINY
    with pytest.raises(ConfigError, match=r"vision.rule is None; expected one of VisionConfig, C"):
        ModelConfig.from_dict(values | {"format_version": FORMAT_VERSION})


def test_a_config_of_version_3_has_no_blocks_in_its_projector():
    values = json.loads(TINY.to_json()) | {"format_version": 3}
    for name in ("num_blocks", "block_width", "block_heads"):
        del values["projector"][name]
    assert ModelConfig.from_dict(values) == TINY
    with pytest.raises(ConfigError, match="projector: missing num_blocks"):
        ModelConfig.from_dict(values | {"format_version": FORMAT_VERSION})


def test_blocks_before_merging_or_after_pooling_are_refused():
    with pytest.raises(ConfigError, match="num_blocks 2 with merge 2"):
        ProjectorConfig(num_blocks=2, merge=2)
    with pytest.raises(ConfigError, match="block_width 250 is not a multiple of block_heads 4"):
        ProjectorConfig(num_blocks=2, block_width=250)
    pooled = replace(TINY.inputs, video=replace(TINY.inputs.video, pool="average", pool_first=True))
    with pytest.raises(ConfigError, match="must not pool first"):
        replace(TINY, projector=ProjectorConfig(num_blocks=1), inputs=pooled)


def test_a_config_of_version_3_knows_no_time():
    values = json.loads(NATIVE.to_json()) | {"format_version": 3}
    del values["vision"]["rotary_time"], values["projector"]["layer_norm_eps"]
    for rule in (values["inputs"][name] for name in ("image", "multi_image", "video")):
        del rule["frame_numbers"], rule["window"]
    assert ModelConfig.from_dict(values) == NATIVE
    with pytest.raises(ConfigError, match="missing"):
        ModelConfig.from_dict(values | {"format_version": 4})


def test_an_encoder_that_knows_time_is_told_the_numbers_of_frames():
    silent = replace(NATIVE_2.inputs, video=replace(NATIVE_2.inputs.video, frame_numbers=False))
    with pytest.raises(ConfigError, match="frame_numbers is False, but the vision encoder turns"):
        replace(NATIVE_2, inputs=silent)
    with pytest.raises(ConfigError, match="onevision_2 divides a video into frames"):
        replace(TINY.inputs, template="onevision_2")
    with pytest.raises(ConfigError, match="a class token or else rotary_time"):
        replace(NATIVE_2.vision, class_token=True)
    with pytest.raises(ConfigError, match="heads of a multiple of 32"):
        replace(NATIVE_2.vision, num_heads=4)


def test_an_unknown_choice_is_an_error():
    values = json.loads(TINY.to_json())
    values["inputs"]["template"] = "vicuna"
    with pytest.raises(ConfigError, match=r"template is 'vicuna'; expected one of plain, qwen_1_5"):
        ModelConfig.from_dict(values)
