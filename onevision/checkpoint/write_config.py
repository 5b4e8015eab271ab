"""ModelConfig -> the config.json of another layout."""

from dataclasses import dataclass
from typing import Any

from onevision.anyres import AnyRes, SingleCrop, VideoRule
from onevision.checkpoint.names import ONEVISION_1_5, ONEVISION_2
from onevision.checkpoint.read_rules import POOL_FIRST_KEY, TEMPLATE_KEY
from onevision.checkpoint.read_sizes import HF_ACTIVATIONS, WHOLE_SIGLIP, LanguageKind
from onevision.checkpoint.tower import tower_name
from onevision.config import (
    FORMAT_VERSION,
    Activation,
    ConvNetConfig,
    LanguageConfig,
    ModelConfig,
    VisionConfig,
)
from onevision.errors import CheckpointError
from onevision.native import Native

# Classes of the reference.
CLASSES: dict[LanguageKind, str] = {
    "llama": "LlavaLlamaForCausalLM",
    "mistral": "LlavaMistralForCausalLM",
    "qwen2": "LlavaQwenForCausalLM",
}


@dataclass(frozen=True, kw_only=True)
class HfModel:
    """A model of the family in transformers: the names of its classes."""

    model_type: str
    # How the names of its classes begin.
    prefix: str
    # That of its image processor, if it is another model's.
    image_prefix: str | None = None
    takes_videos: bool = False

    @property
    def architecture(self) -> str:
        """The class of the model."""
        return f"{self.prefix}ForConditionalGeneration"

    @property
    def processor(self) -> str:
        """The class that prepares conversations."""
        return f"{self.prefix}Processor"

    @property
    def image_processor(self) -> str:
        """The class that prepares images."""
        return f"{self.image_prefix or self.prefix}ImageProcessor"

    @property
    def video_processor(self) -> str | None:
        """The class that prepares videos; None if the model takes none."""
        return f"{self.prefix}VideoProcessor" if self.takes_videos else None


HF_LLAVA = HfModel(model_type="llava", prefix="Llava")
HF_NEXT = HfModel(model_type="llava_next", prefix="LlavaNext")
HF_NEXT_VIDEO = HfModel(
    model_type="llava_next_video",
    prefix="LlavaNextVideo",
    image_prefix="LlavaNext",
    takes_videos=True,
)
HF_ONEVISION = HfModel(model_type="llava_onevision", prefix="LlavaOnevision", takes_videos=True)


def transformer(config: ModelConfig) -> VisionConfig:
    """Returns the vision encoder's sizes. Raises CheckpointError for what other layouts lack."""
    if config.projector.num_blocks:
        raise CheckpointError(
            "other layouts have no transformer blocks in the projector; write it as onevision"
        )
    if isinstance(config.vision, ConvNetConfig):
        raise CheckpointError(
            "other layouts have no convolutional vision encoder; write the model as onevision"
        )
    return config.vision


def lmms_lab_config(config: ModelConfig) -> dict[str, Any]:
    """Returns a config.json with the reference's keys, and two of our own.

    Raises CheckpointError for a model that the reference cannot express.
    """
    language, rule, video = config.language, config.inputs.image, config.inputs.video
    if isinstance(rule, Native) or isinstance(video, Native):
        raise native_refused("lmms-lab", config)
    vision = transformer(config)
    if vision.num_spare_layers and not vision.class_token:
        raise CheckpointError(
            f"the reference runs every block of a SigLIP, {vision.num_spare_layers} of this one "
            "are spare; write it as llava-hf or onevision"
        )
    if (vision.hidden_size, vision.num_layers) == WHOLE_SIGLIP and not vision.class_token:
        raise CheckpointError(
            "the reference runs 26 of the 27 blocks of SigLIP-so400m, this model all of them; "
            "write it as llava-hf or onevision"
        )
    num_layers = config.projector.num_layers
    values = text_values(language, config.inputs.template) | {
        "format_version": FORMAT_VERSION,
        "architectures": [CLASSES[language_kind(config)]],
        "model_type": "llava",
        "image_token_index": config.inputs.image_token_id,
        "mm_hidden_size": vision.hidden_size,
        "mm_projector_type": "linear" if num_layers == 1 else f"mlp{num_layers}x_gelu",
        "mm_patch_merge_type": _merge(rule),
        "mm_newline_position": video.newline,
        "mm_spatial_pool_mode": video.pool,
        "mm_resampler_type": "spatial_pool" if video.pool_first else None,
        **_time_values(video),
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -1 - vision.num_spare_layers if vision.class_token else -2,
        "mm_vision_tower": tower_name(vision),
        "use_mm_proj": True,
        "image_crop_resolution": None,
        "image_split_resolution": None,
        "tokenizer_model_max_length": language.max_positions,
        "tokenizer_padding_side": "right",
        TEMPLATE_KEY: config.inputs.template,
        "vision_config": _vision_values(vision),
    }
    return values | _mode_values(rule, heights_first=False, key="image_aspect_ratio")


def _time_values(video: VideoRule) -> dict[str, Any]:
    """Returns LLaVA-Video's keys; frames are always sampled evenly ("force_sample")."""
    values: dict[str, Any] = {}
    if video.time_instruction:
        values |= {"add_time_instruction": True, "force_sample": True}
    if video.slow_every is not None:
        values |= {"add_faster_video": True, "faster_token_stride": video.slow_every}
    return values


def language_kind(config: ModelConfig) -> LanguageKind:
    """Returns the kind of language model: biases mean Qwen, a window or its template Mistral."""
    if config.language.attention_bias:
        return "qwen2"
    windowed = config.language.sliding_window is not None
    return "mistral" if windowed or config.inputs.template == "mistral_instruct" else "llama"


def hf_model(config: ModelConfig) -> HfModel:
    """Returns the model of transformers that computes the same.

    Raises CheckpointError if there is none.
    """
    rule, video, newline = config.inputs.image, config.inputs.video, config.image_newline
    if isinstance(video, Native):
        raise native_refused("llava-hf", config)
    two_layers = config.projector.num_layers == 2
    windowed_qwen = config.language.attention_bias and config.language.sliding_window is not None
    if two_layers and not windowed_qwen and video.slow_every is None:
        if isinstance(rule, SingleCrop) and not newline:
            return HF_LLAVA
        if isinstance(rule, AnyRes) and rule.merge == "spatial_unpad" and newline:
            if rule.max_crops is None:
                pools = video.pool_first and video.newline == "no_token"
                return HF_NEXT_VIDEO if pools else HF_NEXT
            if (video.newline, video.pool) == ("one_token", "bilinear"):
                return HF_ONEVISION
    raise CheckpointError(
        "transformers knows two projector layers with: one crop and no image_newline (Llava), "
        "AnyRes without a budget (LlavaNext), or with one and bilinear videos that end with a "
        f"newline (LlavaOnevision); this model has {config.projector}, {rule}, {video}, "
        f"image_newline={newline}; write it as lmms-lab or onevision"
    )


def llava_hf_config(
    config: ModelConfig, *, image_id: int, video_id: int, vocab_size: int
) -> dict[str, Any]:
    """Returns a config.json as transformers writes it. Raises CheckpointError."""
    model, rule, video = hf_model(config), config.inputs.image, config.inputs.video
    assert not isinstance(rule, Native), "`hf_model` has refused it"
    assert not isinstance(video, Native), "`hf_model` has refused it"
    vision = transformer(config)
    values = {
        "format_version": FORMAT_VERSION,
        "architectures": [model.architecture],
        "model_type": model.model_type,
        "image_token_index": image_id,
        "multimodal_projector_bias": True,
        "projector_hidden_act": "gelu",
        "tie_word_embeddings": config.language.tie_embeddings,
        "text_config": text_values(config.language, config.inputs.template)
        | {"model_type": language_kind(config), "vocab_size": vocab_size},
        "vision_config": _vision_values(vision),
        "vision_feature_layer": -1 - vision.num_spare_layers,
        "vision_feature_select_strategy": "default" if vision.class_token else "full",
        TEMPLATE_KEY: config.inputs.template,
        **_time_values(video),
    }
    if model.video_processor is not None:
        values["video_token_index"] = video_id
    if model is HF_NEXT_VIDEO:
        values |= {"spatial_pool_mode": video.pool, "spatial_pool_stride": 2}
    if model is HF_LLAVA:
        values["image_seq_length"] = vision.num_patches
    if model is not HF_ONEVISION:  # keys that transformers ignores and we read
        values["mm_newline_position"] = video.newline
        values["mm_spatial_pool_mode"] = video.pool
        values[POOL_FIRST_KEY] = video.pool_first
    key = "vision_aspect_ratio" if model is HF_ONEVISION else "image_aspect_ratio"
    return values | _mode_values(rule, heights_first=True, key=key)


def config_pinpoints(config: ModelConfig) -> list[list[int]]:
    """Returns a model's grids as transformers lists them: [height, width] in pixels."""
    rule = config.inputs.image
    assert not isinstance(rule, Native), "`hf_model` has refused it"
    values = _mode_values(rule, heights_first=True, key="mode")
    return values["image_grid_pinpoints"]


def _merge(rule: AnyRes | SingleCrop) -> str:
    if isinstance(rule, AnyRes):
        return rule.merge
    return "spatial_unpad" if rule.newline else "flat"


def _mode_values(rule: AnyRes | SingleCrop, *, heights_first: bool, key: str) -> dict[str, Any]:
    if isinstance(rule, SingleCrop):
        return {key: "pad" if rule.fit == "pad" else "square", "image_grid_pinpoints": None}
    mode = "anyres" if rule.max_crops is None else f"anyres_max_{rule.max_crops}"
    pairs = [(c * rule.crop_size, r * rule.crop_size) for c, r in rule.all_grids]
    if heights_first:
        pairs = [(height, width) for width, height in pairs]
        pairs = sorted(pairs) if rule.grids is None else pairs
    return {key: mode, "image_grid_pinpoints": [list(pair) for pair in pairs]}


def text_values(language: LanguageConfig, template: str) -> dict[str, Any]:
    """Returns the sizes of a language model, by the keys of its released configs."""
    scaled = language.rope_factor != 1
    values: dict[str, Any] = {
        "hidden_size": language.hidden_size,
        "intermediate_size": language.intermediate_size,
        "num_hidden_layers": language.num_layers,
        "num_attention_heads": language.num_heads,
        "num_key_value_heads": language.num_kv_heads,
        "vocab_size": language.vocab_size,
        "max_position_embeddings": round(language.max_positions / language.rope_factor),
        "rope_theta": language.rope_theta,
        "rope_scaling": {"type": "linear", "factor": language.rope_factor} if scaled else None,
        "rms_norm_eps": language.rms_norm_eps,
        "tie_word_embeddings": language.tie_embeddings,
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "use_cache": True,
    }
    if language.attention_bias:
        return values | {"use_sliding_window": False}
    mistral = language.sliding_window is not None or template == "mistral_instruct"
    return values | ({"sliding_window": language.sliding_window} if mistral else {})


def native_layout(config: ModelConfig) -> str:
    """Returns the layout of a model of native resolution: of those that know time, or not."""
    return (ONEVISION_2 if transformer(config).rotary_time else ONEVISION_1_5).layout


def native_refused(layout: str, config: ModelConfig) -> CheckpointError:
    """Returns the error for a layout that has no models of native resolution."""
    return CheckpointError(
        f"{layout} has no models that read pictures at native resolution; "
        f"write this one as {native_layout(config)} or onevision"
    )


def activation_name(activation: Activation) -> str:
    """Returns transformers' name of an activation."""
    return next(theirs for theirs, ours in HF_ACTIVATIONS.items() if ours == activation)


def _vision_values(vision: VisionConfig) -> dict[str, Any]:
    values: dict[str, Any] = {
        "model_type": "clip_vision_model" if vision.class_token else "siglip_vision_model",
        "hidden_size": vision.hidden_size,
        "intermediate_size": vision.intermediate_size,
        "num_hidden_layers": vision.num_layers + vision.num_spare_layers,
        "num_attention_heads": vision.num_heads,
        "image_size": vision.image_size,
        "patch_size": vision.patch_size,
        "layer_norm_eps": vision.layer_norm_eps,
        "hidden_act": activation_name(vision.activation),
    }
    return values if vision.class_token else values | {"vision_use_head": False}
