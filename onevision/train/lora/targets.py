"""What trains with adapters, by a name that says what people mean -> the stage that does it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from onevision.train.lora.layers import AdaptedPart, Layers
from onevision.train.stage import Stage

Targets = Literal["language", "attention", "all"]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Where adapters are. The projector, which is small, trains whole beside them."""

    parts: tuple[AdaptedPart, ...]
    layers: Layers = "all"


PRESETS: Mapping[Targets, Preset] = {
    "language": Preset(parts=("language_model",)),
    "attention": Preset(parts=("language_model",), layers="attention"),
    "all": Preset(parts=("language_model", "vision_encoder")),
}


def apply_targets(stage: Stage, targets: Targets | None) -> Stage:
    """Returns the stage with the parts of a preset trainable, and no others.

    A vision encoder with adapters has the stage's own rate, or a fifth of the language model's.
    """
    if targets is None:
        return stage
    adapted = PRESETS[targets].parts
    sees = "vision_encoder" in adapted
    rate = (stage.vision_learning_rate or stage.learning_rate / 5) if sees else None
    trainable = (*(("vision_encoder",) if sees else ()), "projector", "language_model")
    return replace(stage, trainable=trainable, vision_learning_rate=rate)
