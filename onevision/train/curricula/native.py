"""The stages of OneVision-1.5 and 2, each written as its difference from another."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from onevision.known_native import NATIVE_ARCHITECTURES
from onevision.train.stage import PARTS, Stage

# The quick start's scripts of 2025-09, for 4B: the adapter, then all parts at one
# rate. The scripts count packs of 32,768 tokens; `global_batch` is the samples that a step of them
# holds: 558,000 in 2,500 steps, 3 million in 20,000, 780,000 in 3,500. Rates end at 1e-6 there, at
# zero here.
ALIGN = Stage(
    name="align",
    trainable=("projector",),
    template=None,
    labels="answers",
    mixture="llava_1.5_align.yaml",
    global_batch=223,
    max_tokens=32768,
    learning_rate=1e-4,
    warmup=0.002,
    betas=(0.9, 0.99),
    epsilon=1e-5,
    vision_learning_rate=None,
)
MID = replace(
    ALIGN,
    name="mid",
    starts_from=("align",),
    trainable=PARTS,
    mixture="onevision_1.5_mid.yaml",
    global_batch=150,
    learning_rate=1e-5,
    vision_learning_rate=1e-5,
    betas=(0.9, 0.95),
    weight_decay=0.01,
)
INSTRUCT = replace(
    MID,
    name="instruct",
    starts_from=("mid",),
    mixture="onevision_1.5_instruct.yaml",
    global_batch=224,
    betas=(0.9, 0.99),
    weight_decay=0.0,
)
# OneVision-2's scripts of 2026: the first two stages of 4B are those of 1.5, rates included. The
# quick start's instructions, with captions and videos of up to 30 s, are 2.03 million samples in
# 219,907 packs of 8,192 tokens, 16 a step.
INSTRUCT_2 = replace(
    INSTRUCT,
    mixture="onevision_2_instruct.yaml",
    global_batch=148,
    max_tokens=10192,
)
# 8B: its first stage is that of 4B. Then 90 million samples, of them 5 million videos, in 9 million
# packs, 128 a step; then 740,000 instructions, 132 a step.
MID_2_8B = replace(MID, mixture="onevision_2_mid.yaml", global_batch=1280)
INSTRUCT_2_8B = replace(
    INSTRUCT, mixture="onevision_2_instruct_8b.yaml", global_batch=132, max_tokens=32000
)
NATIVE_STAGES: Mapping[str, tuple[Stage, ...]] = MappingProxyType(
    {
        **dict.fromkeys(NATIVE_ARCHITECTURES, (ALIGN, MID, INSTRUCT_2)),
        **{f"onevision-1.5-{size}": (ALIGN, MID, INSTRUCT) for size in ("2b", "3b", "4b", "8b")},
        "onevision-2-8b": (ALIGN, MID_2_8B, INSTRUCT_2_8B),
    }
)
