"""The table of known architectures: for creating models, for planning runs, for documentation.

Checkpoints are never recognised by name: their own files say what they are.
"""

import math
from dataclasses import replace
from functools import lru_cache

from onevision.anyres import AnyRes, Fit, ImageRule, SingleCrop, VideoRule, plan
from onevision.config import (
    CLIP_MEAN,
    CLIP_STD,
    InputConfig,
    LanguageConfig,
    ModelConfig,
    ProjectorConfig,
    Template,
    VisionConfig,
)
from onevision.known_native import NATIVE_ARCHITECTURES
from onevision.known_onevision import (
    FIVE_CROP_GRIDS,
    INTERLEAVE_0_5B,
    INTERLEAVE_7B,
    LLAVA_VIDEO_7B,
    LLAVA_VIDEO_72B,
    ONEVISION_0_5B,
    ONEVISION_7B,
    ONEVISION_72B,
)
from onevision.known_small import SMALL, TINY_V2
from onevision.native import Native

# The same ratios at a quarter of the crop size: 7 x 7 patches per crop, 4 x 4 tokens per frame.
TINY = ModelConfig(
    vision=VisionConfig(
        hidden_size=192,
        intermediate_size=768,
        num_layers=6,
        num_heads=4,
        image_size=98,
    ),
    language=LanguageConfig(
        vocab_size=4096,
        hidden_size=256,
        intermediate_size=704,
        num_layers=6,
        num_heads=4,
        num_kv_heads=2,
        max_positions=8192,
        rope_theta=1e4,
    ),
    inputs=InputConfig(
        image=AnyRes(crop_size=98),
        multi_image=SingleCrop(crop_size=98),
        video=VideoRule(crop_size=98),
        image_token_id=3,
    ),
)

# The models before OneVision. They read CLIP's layer -2, so the last of its 24 blocks is spare.
CLIP_336 = VisionConfig(
    hidden_size=1024,
    intermediate_size=4096,
    num_layers=23,
    num_heads=16,
    image_size=336,
    layer_norm_eps=1e-5,
    activation="quick_gelu",
    class_token=True,
    num_spare_layers=1,
)
CLIP_224 = replace(CLIP_336, image_size=224)
VICUNA_7B = LanguageConfig(
    vocab_size=32000,
    hidden_size=4096,
    intermediate_size=11008,
    num_layers=32,
    num_heads=32,
    num_kv_heads=32,
    max_positions=4096,
    rope_theta=1e4,
    rms_norm_eps=1e-5,
    tie_embeddings=False,
    attention_bias=False,
)
# Before v1.5, Vicuna was based on the first LLaMA.
VICUNA_V1_7B = replace(VICUNA_7B, max_positions=2048, rms_norm_eps=1e-6)
VICUNA_13B = replace(
    VICUNA_7B,
    hidden_size=5120,
    intermediate_size=13824,
    num_layers=40,
    num_heads=40,
    num_kv_heads=40,
)
MISTRAL_7B = replace(
    VICUNA_7B, intermediate_size=14336, num_kv_heads=8, max_positions=32768, rope_theta=1e6
)
LLAMA_3_8B = replace(MISTRAL_7B, vocab_size=128256, max_positions=8192, rope_theta=5e5)
YI_34B = replace(
    VICUNA_7B,
    vocab_size=64000,
    hidden_size=7168,
    intermediate_size=20480,
    num_layers=60,
    num_heads=56,
    num_kv_heads=8,
    rope_theta=5e6,
)
QWEN_1_5_72B = replace(ONEVISION_72B.language, intermediate_size=24576, num_kv_heads=64)


def _one_crop(vision: VisionConfig, *, fit: Fit, template: Template) -> InputConfig:
    size = vision.image_size
    rule = SingleCrop(crop_size=size, fit=fit, newline=False)
    return InputConfig(
        image=rule,
        multi_image=rule,
        video=VideoRule(crop_size=size, fit="crop", newline="no_token"),
        template=template,
        image_mean=CLIP_MEAN,
        image_std=CLIP_STD,
        image_token_id=0,
    )


def _grids(
    vision: VisionConfig, grids: tuple[tuple[int, int], ...], template: Template
) -> InputConfig:
    size = vision.image_size
    return replace(
        _one_crop(vision, fit="pad", template=template),
        image=AnyRes(crop_size=size, max_crops=None, grids=grids),
        multi_image=SingleCrop(crop_size=size),
        video=VideoRule(crop_size=size, fit="crop"),
    )


LLAVA_V1_7B = ModelConfig(
    vision=CLIP_224,
    projector=ProjectorConfig(num_layers=1),
    language=VICUNA_V1_7B,
    inputs=_one_crop(CLIP_224, fit="crop", template="llava_v1"),
    image_newline=False,
)
LLAVA_1_5_7B = ModelConfig(
    vision=CLIP_336,
    language=VICUNA_7B,
    inputs=_one_crop(CLIP_336, fit="pad", template="vicuna_v1"),
    image_newline=False,
)
LLAVA_1_5_13B = replace(LLAVA_1_5_7B, language=VICUNA_13B)
# Up to 448 x 448 pixels in crops of 224, plus the whole picture.
LLAVA_1_5_HD_13B = replace(
    LLAVA_1_5_13B,
    vision=CLIP_224,
    inputs=_grids(CLIP_224, ((1, 1), (1, 2), (2, 1), (2, 2)), "vicuna_v1"),
    image_newline=True,
)
NEXT_VICUNA_7B = ModelConfig(
    vision=CLIP_336,
    language=VICUNA_7B,
    inputs=_grids(CLIP_336, FIVE_CROP_GRIDS, "vicuna_v1"),
)
NEXT_VICUNA_13B = replace(NEXT_VICUNA_7B, language=VICUNA_13B)


def _next(language: LanguageConfig, template: Template) -> ModelConfig:
    inputs = replace(NEXT_VICUNA_7B.inputs, template=template)
    return replace(NEXT_VICUNA_7B, language=language, inputs=inputs)


ARCHITECTURES = {
    "tiny": TINY,
    "tiny-v2": TINY_V2,
    "small": SMALL,
    "0.5b": ONEVISION_0_5B,
    "7b": ONEVISION_7B,
    "72b": ONEVISION_72B,
    "llava-video-7b": LLAVA_VIDEO_7B,
    "llava-video-72b": LLAVA_VIDEO_72B,
    "llava-critic-7b": ONEVISION_7B,
    "llava-critic-72b": ONEVISION_72B,
    "llava-v1-7b": LLAVA_V1_7B,
    "llava-1.5-7b": LLAVA_1_5_7B,
    "llava-1.5-13b": LLAVA_1_5_13B,
    "llava-1.5-hd-13b": LLAVA_1_5_HD_13B,
    "llava-next-vicuna-7b": NEXT_VICUNA_7B,
    "llava-next-vicuna-13b": NEXT_VICUNA_13B,
    "llava-next-mistral-7b": _next(MISTRAL_7B, "mistral_instruct"),
    "llava-next-llama3-8b": _next(LLAMA_3_8B, "llava_llama_3"),
    "llava-next-34b": _next(YI_34B, "chatml_direct"),
    "llava-next-qwen1.5-72b": _next(QWEN_1_5_72B, "qwen_1_5"),
    "llava-interleave-0.5b": INTERLEAVE_0_5B,
    "llava-interleave-7b": INTERLEAVE_7B,
    **NATIVE_ARCHITECTURES,
}

# Hub ids of released weights; `onevision models` prints them.
HUB_IDS = {
    "0.5b": "lmms-lab/llava-onevision-qwen2-0.5b-ov",
    "7b": "lmms-lab/llava-onevision-qwen2-7b-ov",
    "72b": "lmms-lab/llava-onevision-qwen2-72b-ov-sft",
    "llava-video-7b": "lmms-lab/LLaVA-Video-7B-Qwen2",
    "llava-video-72b": "lmms-lab/LLaVA-Video-72B-Qwen2",
    "llava-critic-7b": "lmms-lab/llava-critic-7b",
    "llava-critic-72b": "lmms-lab/llava-critic-72b",
    "llava-1.5-7b": "llava-hf/llava-1.5-7b-hf",
    "llava-1.5-13b": "llava-hf/llava-1.5-13b-hf",
    "llava-next-vicuna-7b": "llava-hf/llava-v1.6-vicuna-7b-hf",
    "llava-next-vicuna-13b": "llava-hf/llava-v1.6-vicuna-13b-hf",
    "llava-next-mistral-7b": "llava-hf/llava-v1.6-mistral-7b-hf",
    "llava-next-llama3-8b": "llava-hf/llama3-llava-next-8b-hf",
    "llava-next-34b": "llava-hf/llava-v1.6-34b-hf",
    "llava-next-qwen1.5-72b": "llava-hf/llava-next-72b-hf",
    "llava-interleave-0.5b": "lmms-lab/llava-next-interleave-qwen-0.5b",
    "llava-interleave-7b": "lmms-lab/llava-next-interleave-qwen-7b",
    "onevision-1.5-4b": "lmms-lab/LLaVA-OneVision-1.5-4B-Instruct",
    "onevision-1.5-8b": "lmms-lab/LLaVA-OneVision-1.5-8B-Instruct",
    "onevision-2-8b": "lmms-lab-encoder/LLaVA-OneVision-2-8B-Instruct",
}

# Licences of the base language models, which the weights inherit.
LICENCES = {
    "tiny": "Apache-2.0 (no base)",
    "tiny-v2": "Apache-2.0 (EfficientNet-Lite)",
    "small": "Apache-2.0 (SmolLM2, EfficientNet-Lite)",
    "0.5b": "Apache-2.0 (Qwen2)",
    "7b": "Apache-2.0 (Qwen2)",
    "72b": "Tongyi Qianwen (Qwen2)",
    "llava-video-7b": "Apache-2.0 (Qwen2)",
    "llava-video-72b": "Tongyi Qianwen (Qwen2)",
    "llava-critic-7b": "Apache-2.0 (Qwen2)",
    "llava-critic-72b": "Tongyi Qianwen (Qwen2)",
    "llava-v1-7b": "LLaMA, non-commercial (Vicuna v1)",
    "llava-1.5-7b": "Llama 2 Community (Vicuna v1.5)",
    "llava-1.5-13b": "Llama 2 Community (Vicuna v1.5)",
    "llava-1.5-hd-13b": "Llama 2 Community (Vicuna v1.5)",
    "llava-next-vicuna-7b": "Llama 2 Community (Vicuna v1.5)",
    "llava-next-vicuna-13b": "Llama 2 Community (Vicuna v1.5)",
    "llava-next-mistral-7b": "Apache-2.0 (Mistral)",
    "llava-next-llama3-8b": "Meta Llama 3 Community",
    "llava-next-34b": "Apache-2.0 (Nous-Hermes-2-Yi)",
    "llava-next-qwen1.5-72b": "Tongyi Qianwen (Qwen1.5)",
    "llava-interleave-0.5b": "Tongyi Qianwen (Qwen1.5)",
    "llava-interleave-7b": "Tongyi Qianwen (Qwen1.5)",
    **dict.fromkeys(NATIVE_ARCHITECTURES, "Apache-2.0 (Qwen3)"),
    "onevision-1.5-3b": "Qwen Research, non-commercial (Qwen2.5)",
}


@lru_cache(maxsize=64)
def max_image_tokens(rule: ImageRule) -> int:
    """The largest number of visual tokens any picture takes under `rule`.

    8,765 for the released models, not (9 + 1) * 729, since a mosaic may exceed its budget by the
    tolerance. The chosen grid depends only on aspect ratio and area, so it suffices to try pictures
    that fill a canvas in one direction, one for each number of kept rows or columns.
    """
    if isinstance(rule, Native):
        return rule.max_pixels // rule.crop_size**2
    if isinstance(rule, SingleCrop):
        return plan(width=1, height=1, rule=rule).num_tokens
    size, side = rule.crop_size, rule.side
    most = 0
    for cols, rows in rule.all_grids:
        heights = (math.ceil(n * size / side) for n in range(1, rows * side + 1))
        widths = (math.ceil(n * size / side) for n in range(1, cols * side + 1))
        pictures = [(cols * size, height) for height in heights]
        pictures += [(width, rows * size) for width in widths]
        most = max(most, *(plan(width=w, height=h, rule=rule).num_tokens for w, h in pictures))
    return most
