"""The stages of this project's own models: `tiny`, its next version, and `small`."""

from dataclasses import replace

from onevision.train.curricula.paper import ALIGN, KNOWLEDGE, ONEVISION, SINGLE_IMAGE, curriculum
from onevision.train.stage import Stage

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
TINY = curriculum(
    *(TINY_VISION, TINY_LANGUAGE, TINY_ALIGN, TINY_KNOWLEDGE, TINY_SINGLE_IMAGE),
    *(TINY_ONEVISION, TINY_ONEVISION_MORE, TINY_ONEVISION_CLIPS),
    *(TINY_LETTERS, TINY_ONEVISION_READING),
)

# Pretrained parts from packages, on what runs/tiny_data.py writes without Chinese. The language
# model learns by adapters (`lora_rank`), and at their rates; each stage trains those of the one
# before further (`lora_from`), on the base that `align` left.
SMALL_ALIGN = replace(
    ALIGN,
    mixture="tiny_v2_align.yaml",
    labels="answers",
    global_batch=32,
    max_tokens=1024,
    learning_rate=2e-3,
)
SMALL_KNOWLEDGE = replace(
    SMALL_ALIGN,
    name="knowledge",
    starts_from=("align",),
    trainable=("projector", "language_model"),
    template=KNOWLEDGE.template,
    mixture="small_knowledge.yaml",
    max_tokens=2048,
    learning_rate=3e-4,
)
SMALL_ONEVISION = replace(
    SMALL_KNOWLEDGE,
    name="onevision",
    resolution="target",
    mixture="small_onevision.yaml",
)
SMALL = curriculum(SMALL_ALIGN, SMALL_KNOWLEDGE, SMALL_ONEVISION)

# The next `tiny`, on what runs/tiny_data.py writes: its trunk is pretrained and stays as it is, the
# projector's blocks and the language model begin at random, so both learn names from the start.
# Packs are small enough for every step to have some for each of several processes.
TINY_V2_LANGUAGE = replace(
    TINY_LANGUAGE,
    families={},
    num_samples=None,
    labels="answers",
    mixture="tiny_v2_language.yaml",
)
TINY_V2_ALIGN = replace(
    TINY_ALIGN,
    starts_from=("language",),
    trainable=("projector", "language_model"),
    families={},
    num_samples=None,
    mixture="tiny_v2_align.yaml",
    labels="answers",
    global_batch=64,
    max_tokens=2048,
    learning_rate=2e-3,
)
TINY_V2_KNOWLEDGE = replace(
    TINY_V2_ALIGN,
    name="knowledge",
    starts_from=("align",),
    template=TINY_KNOWLEDGE.template,
    mixture="tiny_v2_knowledge.yaml",
    global_batch=32,
    max_tokens=2048,
)
TINY_V2_SINGLE_IMAGE = replace(
    TINY_V2_KNOWLEDGE,
    name="single_image",
    starts_from=("knowledge",),
    resolution="target",
    mixture="tiny_v2_single_image.yaml",
    learning_rate=1e-3,
)
TINY_V2_ONEVISION = replace(
    TINY_V2_SINGLE_IMAGE,
    name="onevision",
    starts_from=("single_image",),
    mixture="tiny_v2_onevision.yaml",
)
TINY_V2 = curriculum(
    *(TINY_V2_LANGUAGE, TINY_V2_ALIGN, TINY_V2_KNOWLEDGE),
    *(TINY_V2_SINGLE_IMAGE, TINY_V2_ONEVISION),
)
