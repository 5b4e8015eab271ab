"""Every curriculum: a model's name -> its stages, in order; and the stages after any of them.

The paper's four (arXiv 2408.03326, table 1) are align, knowledge, single_image and onevision, with
the same rates and batches for every size. A model without pretrained parts, such as `tiny`, first
trains them: vision and language. The models before it have two stages: align and instruct.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from onevision.errors import ConfigError
from onevision.train.curricula.family import (
    CRITIC,
    INTERLEAVE,
    INTERLEAVE_INSTRUCT,
    LLAVA_1_5_ALIGN,
    LLAVA_1_5_INSTRUCT,
    LLAVA_NEXT_INSTRUCT,
    LLAVA_V1_ALIGN,
    LLAVA_V1_INSTRUCT,
    LLAVA_V1_SCIENCE,
    VIDEO,
)
from onevision.train.curricula.native import NATIVE_STAGES
from onevision.train.curricula.own import SMALL, TINY, TINY_V2
from onevision.train.curricula.paper import (
    ALIGN,
    KNOWLEDGE,
    ONEVISION,
    SINGLE_IMAGE,
    Curriculum,
    curriculum,
)
from onevision.train.stage import Stage
from onevision.values import name_closest

PUBLISHED = curriculum(ALIGN, KNOWLEDGE, SINGLE_IMAGE, ONEVISION)
# Shorter sequences for the largest: they take less memory, and a step has enough for many devices.
_72B = tuple(replace(stage, max_tokens=16384) for stage in (KNOWLEDGE, SINGLE_IMAGE, ONEVISION))
PUBLISHED_72B = curriculum(ALIGN, *_72B)
LLAVA_VIDEO = curriculum(ALIGN, KNOWLEDGE, SINGLE_IMAGE, VIDEO)
LLAVA_VIDEO_72B = curriculum(ALIGN, *_72B[:2], replace(VIDEO, num_frames=32, max_tokens=16384))
LLAVA_CRITIC = curriculum(*PUBLISHED.values(), CRITIC)
LLAVA_CRITIC_72B = curriculum(*PUBLISHED_72B.values(), replace(CRITIC, max_tokens=16384))

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
        "video",
        "interleave",
    ),
    template=None,
    global_batch=8,
    learning_rate=5e-7,
    vision_learning_rate=5e-7,
    warmup=0.1,
)
# GRPO on rewarded answers, as LLaVA-OneVision-1.5-RL: 32 prompts a step, one constant rate.
REINFORCE = replace(
    DPO, name="reinforce", global_batch=32, learning_rate=2e-6, vision_learning_rate=2e-6,
    warmup=0.0, decay="constant", weight_decay=0.01,
)  # fmt: skip

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
WHOLE_MODELS = (DPO.name, REINFORCE.name, FINETUNE.name)

LLAVA_V1 = curriculum(LLAVA_V1_ALIGN, LLAVA_V1_INSTRUCT, LLAVA_V1_SCIENCE)
# The high-definition model has the same stages; its own grids make the difference.
LLAVA_1_5 = curriculum(LLAVA_1_5_ALIGN, LLAVA_1_5_INSTRUCT)
LLAVA_NEXT = curriculum(LLAVA_1_5_ALIGN, LLAVA_NEXT_INSTRUCT)
LLAVA_NEXT_QWEN = curriculum(LLAVA_1_5_ALIGN, replace(LLAVA_NEXT_INSTRUCT, max_tokens=32768))
LLAVA_INTERLEAVE = curriculum(LLAVA_1_5_ALIGN, INTERLEAVE_INSTRUCT, INTERLEAVE)

CURRICULA: Mapping[str, Curriculum] = MappingProxyType(
    {
        "tiny": TINY,
        "tiny-v2": TINY_V2,
        "small": SMALL,
        "0.5b": PUBLISHED,
        "7b": PUBLISHED,
        "72b": PUBLISHED_72B,
        "llava-video-7b": LLAVA_VIDEO,
        "llava-video-72b": LLAVA_VIDEO_72B,
        "llava-critic-7b": LLAVA_CRITIC,
        "llava-critic-72b": LLAVA_CRITIC_72B,
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
        "llava-interleave-0.5b": LLAVA_INTERLEAVE,
        "llava-interleave-7b": LLAVA_INTERLEAVE,
        **{name: curriculum(*stages) for name, stages in NATIVE_STAGES.items()},
    }
)


def stage_named(name: str, size: str = "tiny") -> Stage:
    """Returns a stage of the curriculum of `size`. Raises ConfigError for an unknown name."""
    if size not in CURRICULA:
        raise ConfigError(f"no curriculum {size!r}{name_closest(size, CURRICULA)}")
    stages = CURRICULA[size]
    if name not in stages:
        raise ConfigError(f"no stage {name!r} of {size}{name_closest(name, stages)}")
    return stages[name]
