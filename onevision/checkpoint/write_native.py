"""ModelConfig and tokenizer -> the JSON files of a checkpoint of OneVision-1.5 or 2."""

from typing import Any

from onevision.checkpoint.names import ONEVISION_1_5, ONEVISION_2
from onevision.checkpoint.read_native import VIDEO_MAX_KEY, VIDEO_MIN_KEY, WINDOW_KEY
from onevision.checkpoint.read_rules import TEMPLATE_KEY
from onevision.checkpoint.write_config import (
    activation_name,
    native_layout,
    text_values,
    transformer,
)
from onevision.checkpoint.write_files import (
    BICUBIC,
    chat_template,
    to_json,
    tokenizer_values,
)
from onevision.config import FORMAT_VERSION, ModelConfig
from onevision.errors import CheckpointError
from onevision.inputs.tokenizer import IMAGE_PAD, VIDEO_PAD, VISION_END, VISION_START, Tokenizer
from onevision.native import Native

# By layout: the classes that prepare input, and videos.
PROCESSORS = {
    ONEVISION_1_5.layout: ("Qwen2_5_VLProcessor", "Qwen2VLVideoProcessor"),
    ONEVISION_2.layout: ("LlavaOnevision2Processor", "LlavaOnevision2VideoProcessor"),
}
PROJECTOR_EPSILON = 1e-5
NEEDED = (VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD)


def native_files(config: ModelConfig, tokenizer: Tokenizer, *, layout: str) -> dict[str, str]:
    """Returns the files by name. Raises CheckpointError for another kind of model."""
    image, video = config.inputs.image, config.inputs.video
    if not (isinstance(image, Native) and isinstance(video, Native)):
        raise CheckpointError(
            f"{layout} reads pictures at native resolution, this model has {image}; "
            "write it as llava-hf, lmms-lab or onevision"
        )
    if layout != (fitting := native_layout(config)):
        raise CheckpointError(
            f"{layout} has another vision encoder; write this model as {fitting} or onevision"
        )
    added = tokenizer.added_tokens
    if missing := [token for token in NEEDED if token not in added]:
        raise CheckpointError(
            f"{tokenizer.name}: no added tokens {', '.join(missing)}; {layout} needs "
            "them: use the tokenizer that came with the weights"
        )
    processor, video_processor = PROCESSORS[layout]
    common = {"processor_class": processor}
    images = common | _image_processor(config, image, kind="image", name="Qwen2VLImageProcessor")
    videos = common | _image_processor(config, video, kind="video", name=video_processor)
    template = chat_template(config.inputs.template)
    values = _config_2 if layout == ONEVISION_2.layout else _config
    return {
        "config.json": to_json(_ids(config, tokenizer, video) | values(config)),
        "tokenizer.json": tokenizer.definition,
        "tokenizer_config.json": to_json(tokenizer_values(config, tokenizer) | common),
        "preprocessor_config.json": to_json(images),
        "video_preprocessor_config.json": to_json(videos),
        "chat_template.json": to_json({"chat_template": template}),
    }


def _ids(config: ModelConfig, tokenizer: Tokenizer, video: Native) -> dict[str, Any]:  # JSON
    """Returns what both members have at the top, and our own keys."""
    return {
        "format_version": FORMAT_VERSION,
        "image_token_id": tokenizer.id_of(IMAGE_PAD),
        "video_token_id": tokenizer.id_of(VIDEO_PAD),
        "vision_start_token_id": tokenizer.id_of(VISION_START),
        "vision_end_token_id": tokenizer.id_of(VISION_END),
        "tie_word_embeddings": config.language.tie_embeddings,
        VIDEO_MIN_KEY: video.min_pixels,
        VIDEO_MAX_KEY: video.max_pixels,
        WINDOW_KEY: video.window,
        TEMPLATE_KEY: config.inputs.template,
    }


def _config_2(config: ModelConfig) -> dict[str, Any]:  # JSON
    language, vision = config.language, transformer(config)
    if config.projector.layer_norm_eps != vision.layer_norm_eps:
        raise CheckpointError(
            f"{ONEVISION_2.layout} has one epsilon for the norms of vision encoder and projector, "
            f"this model {vision.layer_norm_eps:g} and {config.projector.layer_norm_eps:g}; write "
            "it as onevision"
        )
    kind = "qwen2" if language.attention_bias else "llama"
    return {
        "architectures": ["LlavaOnevision2ForConditionalGeneration"],
        "model_type": "llava_onevision2",
        "text_config": text_values(language, config.inputs.template)
        | {
            "model_type": "qwen3" if language.head_norms else kind,
            "head_dim": language.head_size,
            "attention_bias": language.attention_bias,
        },
        "vision_config": {
            "model_type": "onevision_encoder",
            "num_hidden_layers": vision.num_layers,
            "hidden_size": vision.hidden_size,
            "intermediate_size": vision.intermediate_size,
            "num_attention_heads": vision.num_heads,
            "num_channels": 3,
            "image_size": 448,
            "patch_size": vision.patch_size,
            "spatial_merge_size": config.projector.merge,
            "temporal_patch_size": 1,
            "frame_windows_size": 4,
            "layer_norm_type": "layer_norm",
            "layer_norm_eps": vision.layer_norm_eps,
            "rope_theta": 1e4,
            "use_head": False,
            "hidden_act": activation_name(vision.activation),
            "out_hidden_size": language.hidden_size,
        },
    }


def _config(config: ModelConfig) -> dict[str, Any]:  # JSON
    language, vision = config.language, transformer(config)
    if config.projector.layer_norm_eps != PROJECTOR_EPSILON:
        raise CheckpointError(
            f"{ONEVISION_1_5.layout} has an epsilon of {PROJECTOR_EPSILON:g} in its projector's "
            f"norm, this model {config.projector.layer_norm_eps:g}; write it as onevision"
        )
    return {
        "architectures": ["LLaVAOneVision1_5_ForConditionalGeneration"],
        "model_type": "llavaonevision1_5",
        "vocab_size": language.vocab_size,
        "text_config": text_values(language, config.inputs.template)
        | {
            "model_type": "LLaVAOneVision1_5_text",
            "head_dim": language.head_size,
            "attention_bias": language.attention_bias,
        },
        "vision_config": {
            "model_type": "rice_vit",
            "depth": vision.num_layers,
            "embed_dim": vision.hidden_size,
            "hidden_size": vision.hidden_size,
            "intermediate_size": vision.intermediate_size,
            "num_heads": vision.num_heads,
            "in_channels": 3,
            "patch_size": vision.patch_size,
            "spatial_merge_size": config.projector.merge,
            "temporal_patch_size": 1,
            "layer_norm_eps": vision.layer_norm_eps,
            "hidden_act": activation_name(vision.activation),
            "text_hidden_size": language.hidden_size,
        },
    }


def _image_processor(
    config: ModelConfig, rule: Native, *, kind: str, name: str
) -> dict[str, Any]:  # JSON
    return {
        f"{kind}_processor_type": name,
        "do_convert_rgb": True,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": list(config.inputs.image_mean),
        "image_std": list(config.inputs.image_std),
        "resample": BICUBIC,
        "rescale_factor": 1 / 255,
        "min_pixels": rule.min_pixels,
        "max_pixels": rule.max_pixels,
        "size": {"shortest_edge": rule.min_pixels, "longest_edge": rule.max_pixels},
        "patch_size": rule.patch_size,
        "merge_size": rule.merge,
        "temporal_patch_size": 1,
    }
