"""The stages of every curriculum, each written as its difference from another.

The paper's four (arXiv 2408.03326, table 1) are align, knowledge, single_image and onevision, with
the same rates and batches for every size. A model without pretrained parts, such as `tiny`, first
trains them: vision and language. The family's models have two stages: align and instruct.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from onevision.errors import ConfigError
from onevision.train.stage import Stage

Curriculum = Mapping[str, Stage]


def _curriculum(*stages: Stage) -> Curriculum:
    return MappingProxyType({stage.name: stage for stage in stages})


# The published sizes.
ALIGN = Stage(
    name="align",
    trainable=("projector",),
    template="plain",
    resolution="one_crop",
    mixture="align.yaml",
    global_batch=512,
    max_tokens=8192,
    learning_rate=1e-3,
    vision_learning_rate=None,
)
KNOWLEDGE = Stage(
    name="knowledge",
    starts_from=("align",),
    resolution="five_crops",
    mixture="knowledge.yaml",
)
SINGLE_IMAGE = replace(
    KNOWLEDGE,
    name="single_image",
    starts_from=("knowledge",),
    resolution="target",
    mixture="single_image.yaml",
)
ONEVISION = replace(
    SINGLE_IMAGE, name="onevision", starts_from=("single_image",), mixture="onevision.yaml"
)
PUBLISHED = _curriculum(ALIGN, KNOWLEDGE, SINGLE_IMAGE, ONEVISION)
# Shorter sequences for the largest: they take less memory, and a step has enough for many devices.
PUBLISHED_72B = _curriculum(
    ALIGN, *(replace(stage, max_tokens=16384) for stage in (KNOWLEDGE, SINGLE_IMAGE, ONEVISION))
)

# The bundled model, from scratch: higher rates, small batches, procedural samples, and Muon, as its
# encoder is slow to tell shapes apart without. Its knowledge stage stays at one crop, because the
# language model must first see many pictures to read shapes and letters off the features (measured:
# docs/log.md).
TINY_VISION = Stage(
    name="vision",
    template="plain",
    resolution="one_crop",
    families={"scenes": 1.0},
    num_samples=96_000,
    max_questions=0,
    aspects=True,
    global_batch=64,
    max_tokens=4096,
    optimizer="muon",
    learning_rate=2e-3,
    vision_learning_rate=2e-3,
    betas=(0.9, 0.98),
)
TINY_LANGUAGE = replace(
    TINY_VISION,
    name="language",
    trainable=("language_model",),
    template="qwen_1_5",
    families={"texts": 1.0},
    num_samples=3_000,
    max_questions=4,
    aspects=False,
    global_batch=32,
    vision_learning_rate=None,
)
TINY_ALIGN = replace(
    TINY_VISION,
    name="align",
    starts_from=("vision", "language"),
    trainable=ALIGN.trainable,
    num_samples=6_000,
    aspects=False,
    global_batch=32,
    learning_rate=3e-3,
    vision_learning_rate=None,
)
TINY_KNOWLEDGE = replace(
    TINY_VISION,
    name="knowledge",
    starts_from=KNOWLEDGE.starts_from,
    template=KNOWLEDGE.template,
    families={"scenes": 0.95, "texts": 0.05},
    num_samples=40_000,
    max_questions=5,
    global_batch=32,
    vision_learning_rate=1e-3,
)
TINY_SINGLE_IMAGE = replace(
    TINY_KNOWLEDGE,
    name="single_image",
    starts_from=SINGLE_IMAGE.starts_from,
    resolution=SINGLE_IMAGE.resolution,
    families={"scenes": 0.97, "texts": 0.03},
    num_samples=8_000,
    max_questions=8,
    learning_rate=1e-3,
    vision_learning_rate=5e-4,
)
TINY_ONEVISION = replace(
    TINY_SINGLE_IMAGE,
    name="onevision",
    starts_from=ONEVISION.starts_from,
    families={"scenes": 0.3, "pairs": 0.35, "clips": 0.32, "texts": 0.03},
    num_samples=20_000,
)
# More of the last stage, with a growing share of clips, which it was still learning when it ended.
TINY_ONEVISION_MORE = replace(
    TINY_ONEVISION,
    name="onevision_more",
    starts_from=("onevision",),
    families={"scenes": 0.2, "pairs": 0.35, "clips": 0.42, "texts": 0.03},
    num_samples=16_000,
)
TINY_ONEVISION_CLIPS = replace(
    TINY_ONEVISION_MORE,
    name="onevision_clips",
    starts_from=("onevision_more",),
    families={"scenes": 0.12, "pairs": 0.25, "clips": 0.6, "texts": 0.03},
    num_samples=8_000,
)
# Reading, tried after the bundled model (docs/log.md): the encoder learns letters in a dozen
# typefaces patch by patch, beside the things it knows; then the model learns everything again, with
# charts.
TINY_LETTERS = replace(
    TINY_VISION,
    name="letters",
    starts_from=("onevision_clips",),
    trainable=("vision_encoder",),
    families={"lettered": 1.0},
    vision_objective="patches",
    num_samples=60_000,
    vision_learning_rate=1.5e-3,
)
TINY_ONEVISION_READING = replace(
    TINY_ONEVISION_CLIPS,
    name="onevision_reading",
    starts_from=("letters",),
    families={
        **{"scenes": 0.1, "lettered": 0.48, "charts": 0.1},
        **{"pairs": 0.12, "clips": 0.17, "texts": 0.03},
    },
    num_samples=9_600,
)
TINY = _curriculum(
    TINY_VISION,
    TINY_LANGUAGE,
    TINY_ALIGN,
    TINY_KNOWLEDGE,
    TINY_SINGLE_IMAGE,
    TINY_ONEVISION,
    TINY_ONEVISION_MORE,
    TINY_ONEVISION_CLIPS,
    TINY_LETTERS,
    TINY_ONEVISION_READING,
)

# The family (arXiv 2304.08485 §4.2 and appendix; 2310.03744 table 9; the archived scripts of
# LLaVA-NeXT). Image rules and templates are the model's own.
LLAVA_V1_ALIGN = replace(
    ALIGN,
    mixture="llava_v1_align.yaml",
    global_batch=128,
    max_tokens=2048,
    learning_rate=2e-3,
)
LLAVA_V1_INSTRUCT = replace(
    LLAVA_V1_ALIGN,
    name="instruct",
    starts_from=("align",),
    trainable=("projector", "language_model"),
    template=None,
    resolution="target",
    mixture="llava_v1_instruct.yaml",
    epochs=3,
    global_batch=32,
    learning_rate=2e-5,
)
# Learns science questions in place of instructions; half of them have no picture.
LLAVA_V1_SCIENCE = replace(
    LLAVA_V1_INSTRUCT, name="science_qa", mixture="llava_v1_science_qa.yaml", epochs=12
)
LLAVA_1_5_ALIGN = replace(
    LLAVA_V1_ALIGN, mixture="llava_1.5_align.yaml", global_batch=256, learning_rate=1e-3
)
LLAVA_1_5_INSTRUCT = replace(
    LLAVA_V1_INSTRUCT, mixture="llava_1.5_instruct.yaml", epochs=1, global_batch=128
)
LLAVA_NEXT_INSTRUCT = replace(
    LLAVA_1_5_INSTRUCT,
    trainable=KNOWLEDGE.trainable,
    mixture="llava_next_instruct.yaml",
    max_tokens=4096,
    learning_rate=1e-5,
    vision_learning_rate=2e-6,
)

# After any curriculum, DPO on pairs of answers (arXiv 2305.18290; the released script dpo_ov7b.sh),
# with one rate for all parts.
DPO = Stage(
    name="dpo",
    starts_from=(
        "onevision_clips",
        "onevision_reading",
        "onevision",
        "single_image",
        "instruct",
    ),
    template=None,
    global_batch=8,
    learning_rate=5e-7,
    vision_learning_rate=5e-7,
    warmup=0.1,
)

# A user's own data, after any model. Pictures and words enter as the checkpoint says; the vision
# encoder keeps what it knows. `train/finetune/` chooses rates, batch and length for each run.
FINETUNE = Stage(
    name="finetune",
    trainable=("projector", "language_model"),
    template=None,
    labels="answers",
    epochs=3,
    global_batch=16,
    vision_learning_rate=None,
)
# Stages that leave a whole model, whatever they began with.
WHOLE_MODELS = (DPO.name, FINETUNE.name)

LLAVA_V1 = _curriculum(LLAVA_V1_ALIGN, LLAVA_V1_INSTRUCT, LLAVA_V1_SCIENCE)
# The high-definition model has the same stages; its own grids make the difference.
LLAVA_1_5 = _curriculum(LLAVA_1_5_ALIGN, LLAVA_1_5_INSTRUCT)
LLAVA_NEXT = _curriculum(LLAVA_1_5_ALIGN, LLAVA_NEXT_INSTRUCT)
LLAVA_NEXT_QWEN = _curriculum(LLAVA_1_5_ALIGN, replace(LLAVA_NEXT_INSTRUCT, max_tokens=32768))

CURRICULA: Mapping[str, Curriculum] = MappingProxyType(
    {
        "tiny": TINY,
        "0.5b": PUBLISHED,
        "7b": PUBLISHED,
        "72b": PUBLISHED_72B,
        "llava-v1-7b": LLAVA_V1,
        "llava-1.5-7b": LLAVA_1_5,
        "llava-1.5-13b": LLAVA_1_5,
        "llava-1.5-hd-13b": LLAVA_1_5,
        "llava-next-vicuna-7b": LLAVA_NEXT,
        "llava-next-vicuna-13b": LLAVA_NEXT,
        "llava-next-mistral-7b": LLAVA_NEXT,
        "llava-next-llama3-8b": LLAVA_NEXT,
        "llava-next-34b": LLAVA_NEXT,
        "llava-next-qwen1.5-72b": LLAVA_NEXT_QWEN,
    }
)


def stage_named(name: str, size: str = "tiny") -> Stage:
    """Returns a stage of the curriculum of `size`. Raises ConfigError for an unknown name."""
    if size not in CURRICULA:
        raise ConfigError(f"no curriculum {size!r}; expected one of {', '.join(CURRICULA)}")
    stages = CURRICULA[size]
    if name not in stages:
        raise ConfigError(f"no stage {name!r} of {size}; expected one of {', '.join(stages)}")
    return stages[name]
