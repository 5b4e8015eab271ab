"""The architectures with pretrained parts from packages: `small`, and the next `tiny`."""

from onevision.anyres import AnyRes, SingleCrop, VideoRule
from onevision.config import (
    ConvNetConfig,
    InputConfig,
    LanguageConfig,
    ModelConfig,
    ProjectorConfig,
)

# EfficientNet-Lite0 sees 7 x 7 cells of a crop. Up to 3 x 3 crops: 672 x 672 pixels.
LITE0 = InputConfig(
    image=AnyRes(crop_size=224, patch_size=32, max_grid=3),
    multi_image=SingleCrop(crop_size=224, patch_size=32),
    video=VideoRule(crop_size=224, patch_size=32),
    image_mean=(127 / 255,) * 3,
    image_std=(128 / 255,) * 3,
    image_token_id=3,  # a control token that no chat uses
)
# With SmolLM2-135M-Instruct.
SMALL = ModelConfig(
    vision=ConvNetConfig(),
    language=LanguageConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_layers=30,
        num_heads=9,
        num_kv_heads=3,
        max_positions=8192,
        rope_theta=1e5,
        rms_norm_eps=1e-5,
        attention_bias=False,
    ),
    inputs=LITE0,
)

# Its maps at strides 16 and 32 make a patch of 448 + 320 numbers, since small letters are lost at
# stride 32 (docs/log.md); two blocks above them, and a language model of our own. 11.4 million
# parameters, of which 2.9 are Lite0's.
TINY_V2 = ModelConfig(
    vision=ConvNetConfig(taps=(4, 6)),
    projector=ProjectorConfig(num_blocks=2, block_width=256),
    language=LanguageConfig(
        vocab_size=8192,
        hidden_size=256,
        intermediate_size=704,
        num_layers=6,
        num_heads=4,
        num_kv_heads=2,
        max_positions=8192,
        rope_theta=1e4,
    ),
    inputs=LITE0,
)
