"""A checkpoint of OneVision-1.5 or 2 -> ModelConfig.

A vision encoder at native resolution, a projector that merges, Qwen3.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from onevision.checkpoint.kinds import Values, value_or
from onevision.checkpoint.names import ONEVISION_1_5, ONEVISION_2
from onevision.checkpoint.read_rules import read_template, read_triple
from onevision.checkpoint.read_sizes import (
    HF_ACTIVATIONS,
    ForeignCheckpoint,
    compare_sizes,
    read_language,
)
from onevision.config import (
    CLIP_MEAN,
    CLIP_STD,
    InputConfig,
    ModelConfig,
    ProjectorConfig,
    Template,
    VisionConfig,
)
from onevision.errors import CheckpointError
from onevision.native import Native

# FIDELITY: the blocks of OneVision-1.5's official code have this epsilon, whatever the config says.
EPSILON = 1e-5
# Our own keys in config.json.
VIDEO_MIN_KEY, VIDEO_MAX_KEY, WINDOW_KEY = "video_min_pixels", "video_max_pixels", "video_window"
# Defaults of Qwen2-VL's image processor.
MIN_PIXELS, MAX_PIXELS = 4 * 28**2, 1280 * 28**2
PROBE = "vision_encoder.patch_embedding.weight"


@dataclass(frozen=True, kw_only=True)
class NativeFormat:
    """How one member's config.json describes its vision encoder, and what it omits."""

    # Keys that could ask for what the network does not do, and the only value that is supported.
    fixed: Mapping[str, float | str]
    depth: str
    num_heads: str
    widths: tuple[str, ...]
    language_width: str
    template: Template
    knows_time: bool
    # Of the vision encoder's norms and of the projector's, unless the config says another.
    epsilon: float
    projector_epsilon: float | None = None  # None: the vision encoder's
    # Pixels of a frame.
    video: tuple[int, int]


FORMATS: Mapping[str, NativeFormat] = MappingProxyType(
    {
        ONEVISION_1_5.layout: NativeFormat(
            fixed={"temporal_patch_size": 1, "layer_norm_eps": EPSILON, "in_channels": 3},
            depth="depth",
            num_heads="num_heads",
            widths=("embed_dim", "hidden_size"),
            language_width="text_hidden_size",
            template="onevision_1_5",
            knows_time=False,
            epsilon=EPSILON,
            projector_epsilon=1e-5,
            video=(128 * 28**2, 768 * 28**2),  # what qwen_vl_utils leaves
        ),
        # `frame_windows_size` is for canvases and training packs: the released processor gives
        # every frame a row of its own.
        ONEVISION_2.layout: NativeFormat(
            fixed={
                "temporal_patch_size": 1,
                "num_channels": 3,
                "layer_norm_type": "layer_norm",
                "rope_theta": 1e4,
                "use_head": False,
                "frame_windows_size": 4,
            },
            depth="num_hidden_layers",
            num_heads="num_attention_heads",
            widths=("hidden_size",),
            language_width="out_hidden_size",
            template="onevision_2",
            knows_time=True,
            epsilon=1e-6,
            video=(256 * 28**2, 1_605_632),
        ),
    }
)


def read_native(source: ForeignCheckpoint) -> ModelConfig:
    """Builds the config. Raises CheckpointError, and ConfigError for sizes that do not fit."""
    form = FORMATS[source.names.layout]
    vision = _read_vision(source, form)
    language = read_language(source)
    merge = vision.image_size // vision.patch_size
    image = _read_rule(source, patch_size=vision.patch_size, merge=merge)
    least, most = form.video
    if form.knows_time:  # its frames are resized twice: so, and as pictures
        most = min(most, image.max_pixels)
        least = min(max(least, image.min_pixels), most)
    video = Native(
        patch_size=vision.patch_size,
        merge=merge,
        min_pixels=value_or(source.values, VIDEO_MIN_KEY, least),
        max_pixels=value_or(source.values, VIDEO_MAX_KEY, most),
        frame_numbers=form.knows_time,
        window=value_or(source.values, WINDOW_KEY, 1),
    )
    epsilon = form.projector_epsilon or vision.layer_norm_eps
    preprocessor = source.contents.preprocessor
    return ModelConfig(
        vision=vision,
        projector=ProjectorConfig(num_layers=2, merge=merge, layer_norm_eps=epsilon),
        language=language,
        image_newline=False,
        inputs=InputConfig(
            image=image,
            multi_image=image,
            video=video,
            template=read_template(source, default=form.template),
            image_mean=read_triple(preprocessor.get("image_mean", CLIP_MEAN)),
            image_std=read_triple(preprocessor.get("image_std", CLIP_STD)),
            image_token_id=value_or(source.values, "image_token_id", 151655),
        ),
    )


def _read_vision(source: ForeignCheckpoint, form: NativeFormat) -> VisionConfig:
    stated: Values = source.values.get("vision_config", {})
    for key, expected in form.fixed.items():
        if (found := value_or(stated, key, expected)) != expected:
            raise CheckpointError(
                f"config.json: vision_config.{key} is {found!r}; only {expected!r} is supported"
            )
    activation = value_or(stated, "hidden_act", "gelu")
    if activation not in HF_ACTIVATIONS:
        raise CheckpointError(
            f"config.json: vision_config.hidden_act is {activation!r}; "
            f"supported are {', '.join(HF_ACTIVATIONS)}"
        )
    width, _, patch_size, _ = source.shape(PROBE)
    joined = source.shape("projector.layers.0.weight")[1]
    merge = math.isqrt(joined // width)
    num_layers = source.count("vision_encoder.blocks.{}.mlp.up.weight")
    intermediate = source.shape("vision_encoder.blocks.0.mlp.up.weight")[0]
    sizes = {
        form.depth: num_layers,
        **dict.fromkeys(form.widths, width),
        "intermediate_size": intermediate,
        "patch_size": patch_size,
        "spatial_merge_size": merge,
        form.language_width: source.shape("language_model.embedding.weight")[1],
    }
    compare_sizes(stated, sizes)
    return VisionConfig(
        hidden_size=width,
        intermediate_size=intermediate,
        num_layers=num_layers,
        num_heads=value_or(stated, form.num_heads, 16),
        image_size=patch_size * merge,
        patch_size=patch_size,
        layer_norm_eps=value_or(stated, "layer_norm_eps", form.epsilon),
        activation=HF_ACTIVATIONS[activation],
        class_token=not form.knows_time,
        rotary=True,
        rotary_time=form.knows_time,
    )


def _read_rule(source: ForeignCheckpoint, *, patch_size: int, merge: int) -> Native:
    """Reads the sizes of pictures from the preprocessor, as transformers 4 or 5 writes them."""
    stated = source.contents.preprocessor
    compare_sizes(stated, {"patch_size": patch_size, "merge_size": merge, "temporal_patch_size": 1})
    size = stated.get("size") or {}
    least = value_or(stated, "min_pixels", size.get("shortest_edge") or MIN_PIXELS)
    most = value_or(stated, "max_pixels", size.get("longest_edge") or MAX_PIXELS)
    for name, value in (("min_pixels", least), ("max_pixels", most)):
        if type(value) is not int:
            raise CheckpointError(
                f"the preprocessor's {name} is {value!s:.60}; expected a whole number of pixels"
            )
    return Native(patch_size=patch_size, merge=merge, min_pixels=least, max_pixels=most)
