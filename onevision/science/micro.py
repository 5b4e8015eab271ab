"""The model and the stages of the experiments: those of `tiny`, smaller, as differences.

`micro` has crops of 4 x 4 patches, so 16 visual tokens a crop, 17 for each of several pictures and
4 a frame; a single picture has a budget of nine crops beside its base. The tokenizer is tiny's.
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

# What every arm of a seed begins with. Plates and signs are among the pictures, so that letters are
# known before their size is asked to matter.
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

# The OneVision stage, and its control: as many operations spent on single pictures.
ONEVISION = replace(stage_named("onevision"), num_samples=8_000)
CONTINUED = replace(
    SINGLE_IMAGE, name="continued", starts_from=("single_image",), num_samples=6_400
)

# What every arm of reading begins with, apart from the others: an encoder that is told what covers
# each patch of a glimpse, since captions do not teach it letters, then a language model that reads
# glimpses off it. Glimpses look like crops of any grid, so that none of them has an advantage; the
# bars of `pad` they do not have. The encoder stays as it is from then on: a language model that
# knows nothing yet leads it astray.
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
# Reading under an image rule: as many operations for every rule, so fewer samples where a picture
# takes more crops and tokens. `tests/science` holds both comparisons to 3 %.
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


def under(rule: ImageRule) -> ModelConfig:
    """Return `micro` with another rule for single pictures."""
    return replace(MICRO, inputs=replace(MICRO.inputs, image=rule))


def reading(rule: str) -> Stage:
    """Return the reading stage of a rule, as long as its operations allow."""
    return replace(READING, num_samples=READING_SAMPLES[rule])
