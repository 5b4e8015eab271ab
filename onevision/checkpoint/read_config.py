"""Foreign config.json + tensor shapes -> ModelConfig.

Sizes come from the tensors, rules from the config; nothing comes from a name. What a config leaves
out has the default of the code that wrote it; what contradicts the tensors is an error.
"""

import math
import re
from ast import literal_eval
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onevision.anyres import AnyRes, ImageRule, SingleCrop, VideoRule
from onevision.checkpoint.names import Names
from onevision.config import (
    InputConfig,
    LanguageConfig,
    ModelConfig,
    ProjectorConfig,
    VisionConfig,
)
from onevision.errors import CheckpointError

Values = Mapping[str, Any]  # Any: foreign JSON

# Heads and picture size of known towers by (width, patches); a config without `vision_config`
# does not say them, and shapes cannot.
KNOWN_TOWERS = {(1152, 729): (16, 384), (1152, 196): (16, 224), (768, 196): (12, 224)}
# What the network does and a config could ask otherwise; another value is refused.
FIXED: Values = {
    "hidden_act": "silu",
    "mm_resampler_type": None,
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "multimodal_projector_bias": True,
    "projector_hidden_act": "gelu",
    "rope_scaling": None,
    "use_sliding_window": False,
    "vision_feature_layer": -1,
    "vision_feature_select_strategy": "full",
}
# The id of <image> in the reference and in transformers.
IMAGE_TOKEN_ID = 151646


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """What the tensors alone say of a model."""

    vision: VisionConfig
    num_projector_layers: int
    vocab_size: int
    language_width: int
    language_hidden: int
    num_language_layers: int
    kv_width: int
    has_head: bool
    has_newline: bool


def read_config(
    values: Values, preprocessor: Values, shapes: Mapping[str, tuple[int, ...]], names: Names
) -> ModelConfig:
    """Build the config of a foreign checkpoint. Raises CheckpointError."""
    text = values.get("text_config", values)
    for key, expected in FIXED.items():
        for said in (values.get(key, expected), text.get(key, expected)):
            if said != expected:
                raise CheckpointError(f"{key} is {said!r}; only {expected!r} is supported")
    found = _read_shapes(values, shapes, names)
    language = _language(values, text, found)
    crop_size, patch_size = found.vision.image_size, found.vision.patch_size
    image, video = _rules(values, names, crop_size=crop_size, patch_size=patch_size)
    token_id = values.get("image_token_index", values.get("image_token_id", IMAGE_TOKEN_ID))
    return ModelConfig(
        vision=found.vision,
        projector=ProjectorConfig(num_layers=found.num_projector_layers),
        language=language,
        image_newline=found.has_newline,
        inputs=InputConfig(
            image=image,
            multi_image=SingleCrop(
                crop_size=crop_size, patch_size=patch_size, newline=found.has_newline
            ),
            video=video,
            image_mean=_triple(preprocessor.get("image_mean", (0.5, 0.5, 0.5))),
            image_std=_triple(preprocessor.get("image_std", (0.5, 0.5, 0.5))),
            # A tokenizer without <image> may number further; any row of the embedding will do.
            image_token_id=min(int(token_id), language.vocab_size - 1),
        ),
    )


def _read_shapes(values: Values, shapes: Mapping[str, tuple[int, ...]], names: Names) -> Shapes:
    def shape(ours: str) -> tuple[int, ...]:
        key = names.foreign(ours)
        if key not in shapes:
            raise CheckpointError(f"tensor {key} is missing; the checkpoint is incomplete")
        return shapes[key]

    def count(pattern: str) -> int:
        numbers = range(1000)
        return next(n for n in numbers if names.foreign(pattern.format(n)) not in shapes)

    width, _, patch_size, _ = shape("vision_encoder.patch_embedding.weight")
    num_patches = shape("vision_encoder.position_embedding.weight")[0]
    num_heads, image_size = _tower(values, width=width, num_patches=num_patches, patch=patch_size)
    vision = VisionConfig(
        hidden_size=width,
        intermediate_size=shape("vision_encoder.blocks.0.mlp.up.weight")[0],
        num_layers=count("vision_encoder.blocks.{}.mlp.up.weight"),
        num_heads=num_heads,
        image_size=image_size,
        patch_size=patch_size,
        layer_norm_eps=values.get("vision_config", {}).get("layer_norm_eps", 1e-6),
    )
    said = values.get("vision_config", {})
    _compare(said, {"hidden_size": width, "num_hidden_layers": vision.num_layers})
    return Shapes(
        vision=vision,
        num_projector_layers=count("projector.layers.{}.weight"),
        vocab_size=shape("language_model.embedding.weight")[0],
        language_width=shape("language_model.embedding.weight")[1],
        language_hidden=shape("language_model.blocks.0.mlp.up.weight")[0],
        num_language_layers=count("language_model.blocks.{}.mlp.up.weight"),
        kv_width=shape("language_model.blocks.0.attention.key.weight")[0],
        has_head=names.head in shapes,
        has_newline=names.newline in shapes,
    )


def _tower(values: Values, *, width: int, num_patches: int, patch: int) -> tuple[int, int]:
    """Return the attention heads and the picture size of the vision encoder."""
    config = values.get("vision_config")
    if config is not None:
        # LlavaOnevisionConfig's own default tower is so400m.
        return config.get("num_attention_heads", 16), config.get("image_size", 384)
    if (width, num_patches) not in KNOWN_TOWERS:
        raise CheckpointError(
            f"config.json does not describe its vision encoder of width {width} with {num_patches} "
            "patches; add a `vision_config` with num_attention_heads and image_size"
        )
    num_heads, image_size = KNOWN_TOWERS[width, num_patches]
    assert (image_size // patch) ** 2 == num_patches
    return num_heads, image_size


def _language(values: Values, text: Values, found: Shapes) -> LanguageConfig:
    num_heads = text.get("num_attention_heads", 32)
    rope = text.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        raise CheckpointError(f"rope_type is {rope['rope_type']!r}; only 'default' is supported")
    tied = bool(text.get("tie_word_embeddings") or values.get("tie_word_embeddings"))
    if not tied and not found.has_head:
        raise CheckpointError(
            "the output head (lm_head.weight) is missing, and the config does not tie it to the "
            "embedding; set tie_word_embeddings if it should"
        )
    language = LanguageConfig(
        vocab_size=found.vocab_size,
        hidden_size=found.language_width,
        intermediate_size=found.language_hidden,
        num_layers=found.num_language_layers,
        num_heads=num_heads,
        num_kv_heads=found.kv_width * num_heads // found.language_width,
        max_positions=text.get(
            "max_position_embeddings", values.get("tokenizer_model_max_length", 32768)
        ),
        rope_theta=float(rope.get("rope_theta", text.get("rope_theta", 1e4))),
        rms_norm_eps=text.get("rms_norm_eps", 1e-6),
        tie_embeddings=tied and not found.has_head,
    )
    _compare(
        text,
        {
            "hidden_size": language.hidden_size,
            "intermediate_size": language.intermediate_size,
            "num_hidden_layers": language.num_layers,
            "num_key_value_heads": language.num_kv_heads,
            "head_dim": language.head_size,
            "vocab_size": language.vocab_size,
        },
    )
    return language


def _compare(said: Values, sizes: Mapping[str, int]) -> None:
    """Refuse a config whose sizes are not those of the tensors."""
    wrong = {k: (said[k], size) for k, size in sizes.items() if said.get(k, size) != size}
    if wrong:
        what = "; ".join(f"{k} is {found}, tensors say {is_}" for k, (found, is_) in wrong.items())
        raise CheckpointError(f"config.json contradicts the tensors: {what}")


def _rules(
    values: Values, names: Names, *, crop_size: int, patch_size: int
) -> tuple[ImageRule, VideoRule]:
    """Read how images and videos are cut."""
    video = VideoRule(
        crop_size=crop_size,
        patch_size=patch_size,
        pool=values.get("mm_spatial_pool_mode", "bilinear"),
        newline=values.get("mm_newline_position", "one_token"),
    )
    mode = values.get("vision_aspect_ratio") or values.get("image_aspect_ratio") or "square"
    # transformers has no such key, and one merge; the reference's default is "flat".
    merge = values.get(
        "mm_patch_merge_type", "spatial_unpad" if names.layout == "llava-hf" else "flat"
    )
    if merge not in ("spatial_unpad", "flat"):
        raise CheckpointError(f"mm_patch_merge_type {merge!r} is not supported")
    if mode in ("square", "pad"):
        fit = "pad" if mode == "pad" else "squash"
        newline = merge == "spatial_unpad"
        image = SingleCrop(crop_size=crop_size, patch_size=patch_size, fit=fit, newline=newline)
        return image, video
    match = re.fullmatch(r"anyres(?:_max_(\d+))?", mode)
    if not match or merge == "flat":
        raise CheckpointError(f"image mode {mode!r} with merge {merge!r} is not supported")
    heights_first = "vision_aspect_ratio" in values  # transformers writes (height, width)
    grids = _grids(values.get("image_grid_pinpoints"), crop_size, heights_first=heights_first)
    most = max(cols for cols, _ in grids)
    complete = AnyRes(crop_size=crop_size, patch_size=patch_size, max_grid=most)
    if set(grids) == set(complete.all_grids):
        grids = None
    return AnyRes(
        crop_size=crop_size,
        patch_size=patch_size,
        max_grid=most,
        max_crops=int(match[1]) if match[1] else None,
        grids=grids,
    ), video


def _grids(
    pinpoints: object, crop_size: int, *, heights_first: bool
) -> tuple[tuple[int, int], ...]:
    """Read sizes in pixels, or the range text "(1x1),...,(6x6)", as (columns, rows)."""
    if isinstance(pinpoints, str) and "x" in pinpoints:
        numbers = [(int(a), int(b)) for a, b in re.findall(r"\((\d+)x(\d+)\)", pinpoints)]
        if not numbers:
            raise CheckpointError(f"image_grid_pinpoints is {pinpoints!r}; expected (1x1),...")
        (left, top), (right, bottom) = numbers[0], numbers[-1]
        cols, rows = range(left, right + 1), range(top, bottom + 1)
        return tuple((c, r) for c in cols for r in rows)
    if isinstance(pinpoints, str):
        pinpoints = literal_eval(pinpoints)
    if not isinstance(pinpoints, Sequence) or not pinpoints:
        raise CheckpointError(f"image_grid_pinpoints is {pinpoints!r}; expected a list of sizes")
    if any(math.remainder(size, crop_size) for pair in pinpoints for size in pair):
        raise CheckpointError(f"image_grid_pinpoints are not multiples of {crop_size} pixels")
    pairs = [(a // crop_size, b // crop_size) for a, b in pinpoints]
    return tuple((b, a) if heights_first else (a, b) for a, b in pairs)


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)
