"""Foreign config.json + tensor shapes + texts beside them -> ModelConfig.

Sizes come from the tensors, rules from the config; nothing comes from a name.
"""

from collections.abc import Mapping
from typing import Any

from onevision.checkpoint.gather import Gathered
from onevision.checkpoint.names import Names
from onevision.checkpoint.read_rules import read_inputs
from onevision.checkpoint.read_sizes import Reader, read_language, read_projector, read_vision
from onevision.config import ModelConfig
from onevision.errors import CheckpointError

# What the network does and a config could ask otherwise; another value is refused.
FIXED: Mapping[str, Any] = {  # Any: JSON values
    "hidden_act": "silu",
    "mlp_bias": False,
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "multimodal_projector_bias": True,
    "projector_hidden_act": "gelu",
    "use_sliding_window": False,
}
# Which part of the tower's output is read: its patches. The class token goes no further.
SELECTED = {"mm_vision_select_feature": "patch", "vision_feature_select_strategy": "default"}


def read_config(gathered: Gathered, names: Names) -> ModelConfig:
    """Build the config of a foreign checkpoint. Raises CheckpointError."""
    reader = Reader(values=gathered.values, shapes=gathered.files.shapes, names=names)
    for key, expected in FIXED.items():
        for said in (reader.values.get(key, expected), reader.text.get(key, expected)):
            if said != expected:
                raise CheckpointError(f"{key} is {said!r}; only {expected!r} is supported")
    if reader.values.get("mm_resampler_type") not in (None, "spatial_pool"):
        raise CheckpointError(
            f"mm_resampler_type is {reader.values['mm_resampler_type']!r}; "
            "supported are None and 'spatial_pool'"
        )
    vision = read_vision(reader)
    for key, expected in SELECTED.items():
        said = reader.values.get(key, expected)
        if vision.class_token and said != expected:
            raise CheckpointError(
                f"{key} is {said!r}, which reads CLIP's class token too; "
                f"only {expected!r} is supported"
            )
    if not vision.class_token and reader.values.get("vision_feature_select_strategy") == "default":
        raise CheckpointError(
            "vision_feature_select_strategy is 'default', which leaves out the first patch of a "
            "tower without class token; only 'full' is supported"
        )
    language = read_language(reader)
    return ModelConfig(
        vision=vision,
        projector=read_projector(reader),
        language=language,
        image_newline=names.newline in reader.shapes,
        inputs=read_inputs(reader, gathered, vision, vocab_size=language.vocab_size),
    )
