"""The table of known architectures, for making a model, for planning and for documentation.

A checkpoint is never recognised by its name: its own files say what it is.
"""

from dataclasses import replace

from onevision.anyres import AnyRes, SingleCrop, VideoRule
from onevision.config import InputConfig, LanguageConfig, ModelConfig, VisionConfig

ONEVISION_0_5B = ModelConfig()

ONEVISION_7B = replace(
    ONEVISION_0_5B,
    language=LanguageConfig(
        vocab_size=152064,
        hidden_size=3584,
        intermediate_size=18944,
        num_layers=28,
        num_heads=28,
        num_kv_heads=4,
        tie_embeddings=False,
    ),
)

ONEVISION_72B = replace(
    ONEVISION_0_5B,
    language=LanguageConfig(
        vocab_size=152064,
        hidden_size=8192,
        intermediate_size=29568,
        num_layers=80,
        num_heads=64,
        num_kv_heads=8,
        tie_embeddings=False,
    ),
)

# The same ratios at a quarter of the crop's side: 7 x 7 patches a crop, 4 x 4 tokens a frame.
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

ARCHITECTURES = {
    "tiny": TINY,
    "0.5b": ONEVISION_0_5B,
    "7b": ONEVISION_7B,
    "72b": ONEVISION_72B,
}

# Where released weights live; `onevision models` prints it.
HUB_IDS = {
    "0.5b": "lmms-lab/llava-onevision-qwen2-0.5b-ov",
    "7b": "lmms-lab/llava-onevision-qwen2-7b-ov",
    "72b": "lmms-lab/llava-onevision-qwen2-72b-ov-sft",
}
