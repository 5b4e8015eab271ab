"""The architectures of OneVision, and of the models around it: LLaVA-Video and Interleave."""

from dataclasses import replace

from onevision.anyres import AnyRes, VideoRule
from onevision.config import InputConfig, LanguageConfig, ModelConfig

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

# LLaVA-Video: OneVision, told when frames are shown, with a newline after each row of each frame.
# LLaVA-Critic is OneVision in everything but its weights.
VIDEO_INPUTS = InputConfig(video=VideoRule(newline="grid", time_instruction=True))
LLAVA_VIDEO_7B = replace(ONEVISION_7B, inputs=VIDEO_INPUTS)
LLAVA_VIDEO_72B = replace(ONEVISION_72B, inputs=VIDEO_INPUTS)

# As (columns, rows): at most five crops, the base crop included.
FIVE_CROP_GRIDS = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
# LLaVA-NeXT-Interleave: the grids of NeXT over SigLIP, Qwen1.5.
INTERLEAVE_0_5B = ModelConfig(
    language=LanguageConfig(
        hidden_size=1024,
        intermediate_size=2816,
        num_heads=16,
        num_kv_heads=16,
    ),
    inputs=InputConfig(image=AnyRes(max_crops=None, grids=FIVE_CROP_GRIDS)),
)
INTERLEAVE_7B = replace(
    INTERLEAVE_0_5B,
    language=replace(
        INTERLEAVE_0_5B.language,
        hidden_size=4096,
        intermediate_size=11008,
        num_layers=32,
        num_heads=32,
        num_kv_heads=32,
        tie_embeddings=False,
    ),
)
