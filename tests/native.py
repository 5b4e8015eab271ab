"""OneVision-1.5 and 2 at toy widths and true geometry: 14-pixel patches, cells of 2 x 2."""

import json
from dataclasses import replace
from pathlib import Path

from onevision.checkpoint.hub import BUNDLED
from onevision.checkpoint.load import inspect
from onevision.checkpoint.save import convert, save
from onevision.config import (
    CLIP_MEAN,
    CLIP_STD,
    InputConfig,
    LanguageConfig,
    ModelConfig,
    ProjectorConfig,
    VisionConfig,
)
from onevision.inputs.tokenizer import (
    IMAGE_PAD,
    VIDEO_PAD,
    VISION_END,
    VISION_START,
    Tokenizer,
)
from onevision.model.llava import LlavaNetwork
from onevision.native import MAX_RATIO, Native
from tests.conftest import randomise

MARKS = (VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD)
# Small enough that a picture of 300 x 200 is resized.
RULE = Native(max_pixels=60 * 28**2 * 4)
NATIVE = ModelConfig(
    vision=VisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_layers=3,
        num_heads=2,
        image_size=28,
        layer_norm_eps=1e-5,
        activation="gelu",
        class_token=True,
        rotary=True,
    ),
    projector=ProjectorConfig(merge=2),
    language=LanguageConfig(
        vocab_size=4200,
        hidden_size=48,
        intermediate_size=64,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        max_positions=4096,
        tie_embeddings=False,
        attention_bias=False,
        head_dim=16,
        head_norms=True,
    ),
    inputs=InputConfig(
        image=RULE,
        multi_image=RULE,
        video=Native(min_pixels=4 * 28**2, max_pixels=50 * 28**2 * 4),
        template="onevision_1_5",
        image_mean=CLIP_MEAN,
        image_std=CLIP_STD,
        image_token_id=4102,
    ),
    image_newline=False,
)
NATIVE_2 = replace(
    NATIVE,
    vision=replace(
        NATIVE.vision, hidden_size=64, layer_norm_eps=1e-6, class_token=False, rotary_time=True
    ),
    projector=ProjectorConfig(merge=2, layer_norm_eps=1e-6),
    inputs=replace(NATIVE.inputs, video=replace(RULE, frame_numbers=True), template="onevision_2"),
)
# By the name of their layout.
MEMBERS = {"onevision-1.5": NATIVE, "onevision-2": NATIVE_2}


def with_merge(config: ModelConfig, merge: int) -> ModelConfig:
    """The same model with cells of other sizes: p14m3 for 3."""
    inputs = config.inputs
    most = max(RULE.max_pixels, MAX_RATIO * (14 * merge) ** 2)
    image, video = (
        replace(rule, merge=merge, max_pixels=most) for rule in (inputs.image, inputs.video)
    )
    return replace(
        config,
        vision=replace(config.vision, image_size=14 * merge),
        projector=replace(config.projector, merge=merge),
        inputs=replace(inputs, image=image, multi_image=image, video=video),
    )


def native_tokenizer() -> Tokenizer:
    """The embedded model's tokenizer with Qwen's marks of images and videos."""
    values = json.loads((BUNDLED["tiny"] / "tokenizer.json").read_text(encoding="utf-8"))
    example = values["added_tokens"][0]
    values["added_tokens"] += [
        example | {"id": 4100 + number, "content": mark, "special": True}
        for number, mark in enumerate(MARKS)
    ]
    return Tokenizer(json.dumps(values, ensure_ascii=False))


def write_native(
    directory: Path, *, layout: str = "onevision-1.5", config: ModelConfig | None = None
) -> Path:
    """Writes a random model in its own layout or ours; returns its directory."""
    config = config or MEMBERS.get(layout, NATIVE)
    network = randomise(LlavaNetwork(config))
    ours = directory / "ours"
    save(network, config, native_tokenizer(), ours)
    if layout == "onevision":
        return ours
    convert(inspect(ours), directory / "written", layout=layout)
    return directory / "written"
