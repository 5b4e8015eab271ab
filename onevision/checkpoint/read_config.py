"""Contents of a foreign checkpoint -> ModelConfig.

Sizes come from tensor shapes (read_sizes.py), rules from its texts (read_rules.py), nothing from
the name of the model or its folder.
"""

from collections.abc import Mapping
from typing import Any

from onevision.checkpoint.contents import CheckpointContents
from onevision.checkpoint.kinds import check_kinds
from onevision.checkpoint.names import NATIVE_LAYOUTS, TensorNames
from onevision.checkpoint.read_native import read_native
from onevision.checkpoint.read_rules import read_inputs
from onevision.checkpoint.read_sizes import (
    ForeignCheckpoint,
    read_language,
    read_projector,
    read_vision,
)
from onevision.config import ModelConfig
from onevision.errors import CheckpointError

# Keys that could ask for what the network does not do, and the only value that is supported.
FIXED: Mapping[str, Any] = {  # Any: JSON values
    "hidden_act": "silu",
    "mlp_bias": False,
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "multimodal_projector_bias": True,
    "projector_hidden_act": "gelu",
    "use_sliding_window": False,
}
# Which of the tower's outputs are used: the patches, not the class token.
SELECTED = {"mm_vision_select_feature": "patch", "vision_feature_select_strategy": "default"}


def read_config(contents: CheckpointContents, names: TensorNames) -> ModelConfig:
    """Builds the config of a foreign checkpoint. Raises CheckpointError."""
    check_kinds(contents.values)
    source = ForeignCheckpoint(contents=contents, names=names)
    for key, expected in FIXED.items():
        for stated in (source.values.get(key, expected), source.text.get(key, expected)):
            if stated != expected:
                raise CheckpointError(f"{key} is {stated!r}; only {expected!r} is supported")
    if names.layout in NATIVE_LAYOUTS:
        return read_native(source)
    if source.values.get("mm_resampler_type") not in (None, "spatial_pool"):
        raise CheckpointError(
            f"mm_resampler_type is {source.values['mm_resampler_type']!r}; "
            "supported are None and 'spatial_pool'"
        )
    vision = read_vision(source)
    for key, expected in SELECTED.items():
        stated = source.values.get(key, expected)
        if vision.class_token and stated != expected:
            raise CheckpointError(
                f"{key} is {stated!r}, which uses CLIP's class token too; "
                f"only {expected!r} is supported"
            )
    if not vision.class_token and source.values.get("vision_feature_select_strategy") == "default":
        raise CheckpointError(
            "vision_feature_select_strategy is 'default', which drops the first patch of a "
            "tower without a class token; only 'full' is supported"
        )
    language = read_language(source)
    return ModelConfig(
        vision=vision,
        projector=read_projector(source),
        language=language,
        image_newline=source.has("image_newline"),
        inputs=read_inputs(source, vision, vocab_size=language.vocab_size),
    )
