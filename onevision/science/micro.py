"""The model and the stages of the experiments, as differences from `tiny`, which is larger.

`micro` has crops of 4 x 4 patches: 16 visual tokens per crop, 17 for each of several images, 4 per
frame. A single image has a budget of nine crops beside its base. The tokenizer is tiny's.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from onevision.anyres import AnyRes, ImageRule, SingleCrop, VideoRule
from onevision.config import InputConfig, LanguageConfig, ModelConfig, VisionConfig
from onevision.known_models import FIVE_CROP_GRIDS, TINY
from onevision.train.stage import Stage
from onevision.train.stages import stage_named

SEEDS = (0, 1, 2)
CROP = 56

MICRO = replace(
    TINY,
    vision=VisionConfig(
        hidden_size=96, intermediate_size=384, num_layers=4, num_heads=3, image_size=CROP
    ),
    language=LanguageConfig(
        vocab_size=4096,
        hidden_size=128,
        intermediate_size=352,
        num_layers=4,
        num_heads=4,
        num_kv_heads=2,
        max_positions=4096,
        rope_theta=1e4,
    ),
    inputs=InputConfig(
        image=AnyRes(crop_size=CROP),
        multi_image=SingleCrop(crop_size=CROP),
        video=VideoRule(crop_size=CROP),
        image_token_id=3,
    ),
)

# The stages that all arms of a seed start from. Their images include plates and signs, so that the
# model knows letters before a claim depends on their size.
VISION = replace(
    stage_named("vision"),
    families={"scenes": 0.5, "plates": 0.3, "signs": 0.2},
    num_samples=56_000,
)
LANGUAGE = replace(stage_named("language"), num_samples=1_600)
ALIGN = replace(stage_named("align"), families=VISION.families, num_samples=2_400)
KNOWLEDGE = replace(
    stage_named("knowledge"),
    families={"scenes": 0.55, "plates": 0.2, "signs": 0.2, "texts": 0.05},
    num_samples=16_000,
)
SINGLE_IMAGE = replace(stage_named("single_image"), num_samples=4_000)

# The OneVision stage, and its control: the same number of operations, spent on single images.
ONEVISION = replace(stage_named("onevision"), num_samples=8_000)
CONTINUED = replace(
    SINGLE_IMAGE, name="continued", starts_from=("single_image",), num_samples=6_400
)

# The stages that all reading arms start from, apart from the others: first an encoder learns what
# covers each patch of a glimpse, since captions do not teach it letters; then a language model
# learns to read glimpses through it. Glimpses look like the crops of any grid, so that no rule has
# an advantage (but they never show the bars of `pad`). The encoder is frozen from then on: the
# gradients of an untrained language model would damage it.
LETTERS = replace(
    stage_named("vision"),
    name="letters",
    trainable=("vision_encoder",),
    families={"glimpses": 1.0},
    num_samples=80_000,
    vision_objective="patches",
    vision_learning_rate=3e-3,
)
READER = replace(
    stage_named("knowledge"),
    name="reader",
    starts_from=("letters",),
    trainable=("projector", "language_model"),
    families={"glimpses": 1.0},
    num_samples=1_600,
    max_questions=1,
    aspects=False,
    global_batch=16,
    learning_rate=4e-3,
    vision_learning_rate=None,
)
# Reading under an image rule: the same number of operations for each rule, so fewer samples if an
# image takes more crops and tokens. `tests/science` checks both comparisons to 3 %.
READING = replace(
    SINGLE_IMAGE,
    name="reading",
    starts_from=("reader",),
    trainable=READER.trainable,
    families={"capitals": 1.0},
    num_samples=480,
    max_questions=1,
    aspects=False,
    global_batch=16,
    learning_rate=3e-3,
    vision_learning_rate=None,
)
RULES: Mapping[str, ImageRule] = MappingProxyType(
    {
        "base": SingleCrop(crop_size=CROP, fit="squash", newline=False),
        "pad": SingleCrop(crop_size=CROP),
        "anyres": AnyRes(crop_size=CROP, max_crops=None, grids=FIVE_CROP_GRIDS),
        "higher_4": AnyRes(crop_size=CROP, max_crops=4),
        "higher_9": AnyRes(crop_size=CROP),
    }
)
READING_SAMPLES: Mapping[str, int] = MappingProxyType(
    {"base": 1_808, "pad": 1_792, "anyres": 880, "higher_4": 720, "higher_9": 480}
)


def config_with_rule(rule: ImageRule) -> ModelConfig:
    """Returns `micro` with another rule for single images."""
    return replace(MICRO, inputs=replace(MICRO.inputs, image=rule))


def reading_stage(rule: str) -> Stage:
    """Returns the reading stage of a rule, with as many samples as its operations allow."""
    return replace(READING, num_samples=READING_SAMPLES[rule])
