"""The architectures of OneVision-1.5 and 2, whose pictures enter at native resolution."""

from dataclasses import replace

from onevision.config import (
    CLIP_MEAN,
    CLIP_STD,
    InputConfig,
    LanguageConfig,
    ModelConfig,
    ProjectorConfig,
    VisionConfig,
)
from onevision.native import Native

# RICE-ViT-L/14, cells of 2 x 2 patches, Qwen3 and, at 3B, Qwen2.5.
RICE = VisionConfig(
    hidden_size=1024,
    intermediate_size=4096,
    num_layers=24,
    num_heads=16,
    image_size=28,
    patch_size=14,
    layer_norm_eps=1e-5,
    activation="gelu",
    class_token=True,
    rotary=True,
)
QWEN_3_4B = LanguageConfig(
    vocab_size=151936,
    hidden_size=2560,
    intermediate_size=9728,
    num_layers=36,
    num_heads=32,
    num_kv_heads=8,
    max_positions=262144,
    rope_theta=5e6,
    tie_embeddings=False,
    attention_bias=False,
    head_dim=128,
    head_norms=True,
)
ONEVISION_1_5_4B = ModelConfig(
    vision=RICE,
    projector=ProjectorConfig(merge=2),
    language=QWEN_3_4B,
    inputs=InputConfig(
        image=Native(),
        multi_image=Native(),
        # What qwen_vl_utils leaves of a frame.
        video=Native(min_pixels=128 * 28**2, max_pixels=768 * 28**2),
        template="onevision_1_5",
        image_mean=CLIP_MEAN,
        image_std=CLIP_STD,
        image_token_id=151655,
    ),
    image_newline=False,
)


def _onevision_1_5(language: LanguageConfig) -> ModelConfig:
    return replace(ONEVISION_1_5_4B, language=language)


ONEVISION_1_5_2B = _onevision_1_5(
    replace(
        QWEN_3_4B,
        hidden_size=2048,
        intermediate_size=6144,
        num_layers=28,
        num_heads=16,
        max_positions=40960,
        rope_theta=1e6,
        head_dim=None,
    )
)
ONEVISION_1_5_3B = _onevision_1_5(
    replace(
        QWEN_3_4B,
        hidden_size=2048,
        intermediate_size=11008,
        num_heads=16,
        num_kv_heads=2,
        max_positions=32768,
        rope_theta=1e6,
        attention_bias=True,
        tie_embeddings=True,
        head_dim=None,
        head_norms=False,
    )
)
ONEVISION_1_5_8B = _onevision_1_5(
    replace(
        QWEN_3_4B,
        hidden_size=4096,
        intermediate_size=12288,
        max_positions=40960,
        rope_theta=1e6,
        head_dim=None,
    )
)

# OneVision-Encoder: the same sizes, positions in time too, no class token.
ONEVISION_ENCODER = replace(RICE, layer_norm_eps=1e-6, class_token=False, rotary_time=True)


def _onevision_2(language: LanguageConfig, *, patch_size: int = 14, merge: int = 2) -> ModelConfig:
    """The released processor's limits; those of frames are the same."""
    rule = Native(patch_size=patch_size, merge=merge, min_pixels=256 * 28**2, max_pixels=1_605_632)
    size = patch_size * merge
    return replace(
        ONEVISION_1_5_4B,
        vision=replace(ONEVISION_ENCODER, image_size=size, patch_size=patch_size),
        projector=ProjectorConfig(merge=merge, layer_norm_eps=1e-6),
        language=language,
        inputs=replace(
            ONEVISION_1_5_4B.inputs,
            image=rule,
            multi_image=rule,
            video=replace(rule, frame_numbers=True),
            template="onevision_2",
        ),
    )


# Language models: Qwen3-1.7B, 4B-Instruct-2507 and 8B, in 2 the last with the base of its training
# scripts; in 1.5, 3B is Qwen2.5. A variant p16m3 has cells of 3 x 3 patches of 16 pixels.
NATIVE_ARCHITECTURES = {
    "onevision-1.5-2b": ONEVISION_1_5_2B,
    "onevision-1.5-3b": ONEVISION_1_5_3B,
    "onevision-1.5-4b": ONEVISION_1_5_4B,
    "onevision-1.5-8b": ONEVISION_1_5_8B,
    "onevision-2-2b": _onevision_2(ONEVISION_1_5_2B.language),
    "onevision-2-4b": _onevision_2(QWEN_3_4B),
    "onevision-2-4b-p14m3": _onevision_2(QWEN_3_4B, merge=3),
    "onevision-2-4b-p16m2": _onevision_2(QWEN_3_4B, patch_size=16),
    "onevision-2-4b-p16m3": _onevision_2(QWEN_3_4B, patch_size=16, merge=3),
    "onevision-2-8b": _onevision_2(replace(ONEVISION_1_5_8B.language, rope_theta=8e6)),
}
