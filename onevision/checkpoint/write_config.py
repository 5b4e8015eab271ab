"""ModelConfig -> the config.json of another layout."""

from typing import Any

from onevision.anyres import AnyRes, ImageRule, SingleCrop
from onevision.config import FORMAT_VERSION, LanguageConfig, ModelConfig, VisionConfig
from onevision.errors import CheckpointError


def lmms_lab_config(config: ModelConfig) -> dict[str, Any]:
    """Write a config.json as the reference does (its keys, and a `vision_config` of our own)."""
    language, rule = config.language, config.inputs.image
    values = _text_values(language) | {
        "format_version": FORMAT_VERSION,
        "architectures": ["LlavaQwenForCausalLM"],
        "model_type": "llava",
        "image_token_index": config.inputs.image_token_id,
        "mm_hidden_size": config.vision.hidden_size,
        "mm_projector_type": f"mlp{config.projector.num_layers}x_gelu",
        "mm_patch_merge_type": "spatial_unpad" if config.image_newline else "flat",
        "mm_newline_position": config.inputs.video.newline,
        "mm_spatial_pool_mode": config.inputs.video.pool,
        "mm_resampler_type": None,
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": _tower_name(config.vision),
        "use_mm_proj": True,
        "image_crop_resolution": None,
        "image_split_resolution": None,
        "tokenizer_model_max_length": language.max_positions,
        "tokenizer_padding_side": "right",
        "vision_config": _vision_values(config.vision),
    }
    return values | _mode_values(rule, heights_first=False, key="image_aspect_ratio")


def hf_rule(config: ModelConfig) -> AnyRes:
    """Return the image rule of a model that transformers can express. Raises CheckpointError."""
    rule, video = config.inputs.image, config.inputs.video
    usual = (config.projector.num_layers, video.newline, video.pool, config.image_newline)
    expected = (2, "one_token", "bilinear", True)
    if not isinstance(rule, AnyRes) or rule.max_crops is None or usual != expected:
        raise CheckpointError(
            "transformers' LlavaOnevision knows AnyRes with a budget, two projector layers, "
            f"bilinear videos with one newline, and image_newline; this model has {rule}, {usual}; "
            "write it as lmms-lab or onevision"
        )
    return rule


def llava_hf_config(config: ModelConfig, *, image_id: int, video_id: int) -> dict[str, Any]:
    """Write a config.json as transformers' LlavaOnevisionConfig. Raises CheckpointError."""
    rule = hf_rule(config)
    values = {
        "format_version": FORMAT_VERSION,
        "architectures": ["LlavaOnevisionForConditionalGeneration"],
        "model_type": "llava_onevision",
        "image_token_index": image_id,
        "video_token_index": video_id,
        "multimodal_projector_bias": True,
        "projector_hidden_act": "gelu",
        "tie_word_embeddings": config.language.tie_embeddings,
        "text_config": _text_values(config.language) | {"model_type": "qwen2"},
        "vision_config": _vision_values(config.vision),
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
    }
    return values | _mode_values(rule, heights_first=True, key="vision_aspect_ratio")


def _mode_values(rule: ImageRule, *, heights_first: bool, key: str) -> dict[str, Any]:
    if isinstance(rule, SingleCrop):
        return {key: "pad" if rule.fit == "pad" else "square", "image_grid_pinpoints": None}
    mode = "anyres" if rule.max_crops is None else f"anyres_max_{rule.max_crops}"
    pairs = [(c * rule.crop_size, r * rule.crop_size) for c, r in rule.all_grids]
    if heights_first:
        pairs = [(height, width) for width, height in pairs]
        pairs = sorted(pairs) if rule.grids is None else pairs
    return {key: mode, "image_grid_pinpoints": [list(pair) for pair in pairs]}


def _text_values(language: LanguageConfig) -> dict[str, Any]:
    return {
        "hidden_size": language.hidden_size,
        "intermediate_size": language.intermediate_size,
        "num_hidden_layers": language.num_layers,
        "num_attention_heads": language.num_heads,
        "num_key_value_heads": language.num_kv_heads,
        "vocab_size": language.vocab_size,
        "max_position_embeddings": language.max_positions,
        "rope_theta": language.rope_theta,
        "rope_scaling": None,
        "rms_norm_eps": language.rms_norm_eps,
        "tie_word_embeddings": language.tie_embeddings,
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "use_cache": True,
    }


def _vision_values(vision: VisionConfig) -> dict[str, Any]:
    return {
        "model_type": "siglip_vision_model",
        "hidden_size": vision.hidden_size,
        "intermediate_size": vision.intermediate_size,
        "num_hidden_layers": vision.num_layers,
        "num_attention_heads": vision.num_heads,
        "image_size": vision.image_size,
        "patch_size": vision.patch_size,
        "layer_norm_eps": vision.layer_norm_eps,
        "hidden_act": "gelu_pytorch_tanh",
        "vision_use_head": False,
    }


def _tower_name(vision: VisionConfig) -> str:
    """Name the tower as the reference does; it recognises SigLIP by this word."""
    if vision == VisionConfig():
        return "google/siglip-so400m-patch14-384"
    return f"siglip-{vision.hidden_size}-patch{vision.patch_size}-{vision.image_size}"
