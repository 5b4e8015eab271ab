"""The paper's four stages (arXiv 2408.03326, table 1), from which every other one differs."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from onevision.train.stage import Stage

Curriculum = Mapping[str, Stage]


def curriculum(*stages: Stage) -> Curriculum:
    """Returns stages by their names, in their order."""
    return MappingProxyType({stage.name: stage for stage in stages})


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
