"""A foreign config.json -> an error that names the first value of the wrong kind."""

import math
from collections.abc import Mapping
from typing import Any

from onevision.errors import CheckpointError

Values = Mapping[str, Any]  # Any: foreign JSON

# null counts as absent, except for these: what a missing one stands for is another model.
SECTIONS = ("text_config", "vision_config")
OBJECTS = ("rope_parameters", "rope_scaling")
COUNTS = (
    "depth", "embed_dim", "faster_token_stride", "head_dim", "hidden_size", "image_size",
    "image_token_id", "intermediate_size", "max_position_embeddings",
    "mm_hidden_size", "num_attention_heads", "num_heads", "num_hidden_layers",
    "num_key_value_heads", "out_hidden_size", "patch_size", "sliding_window",
    "spatial_merge_size", "temporal_patch_size", "text_hidden_size",
    "tokenizer_model_max_length", "video_max_pixels", "video_min_pixels", "video_window",
    "vocab_size",
)  # fmt: skip
NUMBERS = ("layer_norm_eps", "rms_norm_eps", "rope_theta")
TEXTS = (
    "hidden_act", "image_aspect_ratio", "mm_newline_position", "mm_patch_merge_type",
    "mm_projector_type", "mm_spatial_pool_mode", "model_type", "projector_hidden_act",
    "spatial_pool_mode", "vision_aspect_ratio",
)  # fmt: skip
TRUTHS = (
    *("add_faster_video", "add_time_instruction"),
    *("tie_word_embeddings", "spatial_pool_first"),
)
# Far above every model; transformers writes 10^30 for "no limit" in tokenizers alone.
MAX_COUNT = 1 << 31


def check_kinds(values: Values) -> None:
    """Raises CheckpointError for a value of the wrong kind, at the top or in a section."""
    for key in SECTIONS:
        if key in values and not isinstance(values[key], dict):
            raise CheckpointError(f"config.json: {key} is {values[key]!r}; expected an object")
    for prefix, part in (("", values), *((f"{k}.", values.get(k, {})) for k in SECTIONS)):
        for key, value in part.items():
            expected = None if value is None else _describe_expected(key, value)
            if expected:
                raise CheckpointError(
                    f"config.json: {prefix}{key} is {value!s:.60}; expected {expected}"
                )
    classes = values.get("architectures")
    if classes is not None and not (
        isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    ):
        raise CheckpointError(
            f"config.json: architectures is {classes!r}; expected a list with the class's name"
        )


def _describe_expected(key: str, value: object) -> str | None:
    """Returns what a key's value should be; None if it is."""
    if key in COUNTS:
        right = type(value) is int and 1 <= value < MAX_COUNT
        return None if right else "a whole number, 1 or more"
    if key in NUMBERS:
        right = type(value) in (int, float) and 0 < value < math.inf  # type: ignore[operator]
        return None if right else "a positive number"
    if key in TEXTS:
        return None if isinstance(value, str) else "text"
    if key in TRUTHS:
        return None if isinstance(value, bool) else "true or false"
    if key in OBJECTS:
        return None if isinstance(value, dict) else "an object"
    return None


def value_or(values: Values, key: str, default: Any) -> Any:
    """Returns the value of a key; the default if it is absent or null."""
    value = values.get(key)
    return default if value is None else value
