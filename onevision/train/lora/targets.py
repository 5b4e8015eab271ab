"""What trains with adapters, by a name that says what people mean -> the stage that does it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from onevision.model.llava import LlavaNetwork
from onevision.train.lora.layers import AdaptedPart, Layers, LoraConfig, lora_parameters
from onevision.train.stage import PARTS, Stage

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


def warn_of_whole_parts(
    network: LlavaNetwork, lora: LoraConfig | None, *, warn: Callable[[str], object]
) -> None:
    """Warns of larger parts that train whole beside adapters; the projector is meant to."""
    if lora is None:
        return
    adapters = sum(p.numel() for p in lora_parameters(network))
    whole = {
        name: sum(p.numel() for p in network.get_submodule(name).parameters() if p.requires_grad)
        for name in PARTS
        if name not in ("projector", *lora.parts)
    }
    for name, count in whole.items():
        if count > adapters:
            warn(
                f"beside adapters of {adapters:,} numbers, {name} ({count:,} numbers) trains "
                "whole; lora_targets=language trains adapters and the projector alone"
            )
