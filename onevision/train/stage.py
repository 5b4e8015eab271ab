"""What one stage of training is: what learns, from what, and how fast."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from onevision.config import Template
from onevision.errors import ConfigError

PARTS = ("vision_encoder", "projector", "language_model")

# How large a picture may become; see `stages.stage_config`.
Resolution = Literal["one_crop", "five_crops", "target"]
# Captions read off by a small decoder, SigLIP's sigmoid loss over image-text pairs, or their sum;
# or what covers each patch, named by a linear layer.
VisionObjective = Literal["caption", "sigmoid", "both", "patches"]
# AdamW for every weight; or Muon for the matrices of the transformer blocks, AdamW for the others.
Optimizer = Literal["adamw", "muon"]
# Fields that are numbers above zero, where they are not None.
ABOVE_ZERO = (
    *("num_frames", "num_samples", "epochs", "global_batch", "max_tokens"),
    *("learning_rate", "projector_learning_rate", "vision_learning_rate"),
    *("epsilon", "max_grad_norm"),
)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage. Raises ConfigError where its values contradict one another."""

    name: str
    # Stages of the same curriculum whose outputs this one begins with; none: pretrained parts, or
    # random weights.
    starts_from: tuple[str, ...] = ()
    # Parts that learn; the others stay as they came. `image_newline` learns with the language
    # model.
    trainable: tuple[str, ...] = PARTS
    # None is the model's own template.
    template: Template | None = "qwen_1_5"
    resolution: Resolution = "target"
    # The most frames of a video; only in stages that see videos.
    num_frames: int = 32

    # A mixture file (a bare name lies in mixtures/), or procedural families and how often each is
    # drawn; without either, the run must name a mixture.
    mixture: str | None = None
    families: Mapping[str, float] = field(default_factory=dict[str, float])
    # Samples drawn from the families in an epoch; a mixture brings its own number.
    num_samples: int | None = None
    # Questions learned of each drawn sample, beside its caption.
    max_questions: int = 6
    # Learn single properties of everything in view too: what is small is learned late otherwise.
    aspects: bool = False
    # What the vision encoder learns by where it is made from nothing; objectives.py.
    vision_objective: VisionObjective = "caption"
    epochs: int = 1

    # Samples of one optimiser step, over all processes.
    global_batch: int = 256
    # Tokens of one packed sequence.
    max_tokens: int = 32768

    # Peak rates. The language model's is the projector's too, unless that has its own.
    learning_rate: float = 1e-5
    projector_learning_rate: float | None = None
    # None where the vision encoder is frozen.
    vision_learning_rate: float | None = 2e-6
    # Share of the steps in which the rates rise from zero; a cosine takes them back to zero.
    warmup: float = 0.03
    optimizer: Optimizer = "adamw"
    # AdamW's; weight decay is Muon's too.
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        self._check_parts()
        self._check_data()
        for name in ABOVE_ZERO:
            if vars(self)[name] is not None and not vars(self)[name] > 0:
                raise self._fault(name, "more than 0")
        for name in ("max_questions", "weight_decay"):
            if vars(self)[name] < 0:
                raise self._fault(name, "0 or more")
        if self.vision_objective in ("sigmoid", "both") and self.name != "vision":
            raise self._fault("vision_objective", "caption: stage vision alone learns by contrast")
        if not 0 <= self.warmup < 1:
            raise self._fault("warmup", "a share of the steps, from 0 to below 1")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise self._fault("betas", "two numbers from 0 to below 1")

    def rate_of(self, part: str) -> float:
        """Return the peak learning rate of a part that learns."""
        if part == "vision_encoder":
            assert self.vision_learning_rate is not None, "the vision encoder is frozen"
            return self.vision_learning_rate
        if part == "projector" and self.projector_learning_rate is not None:
            return self.projector_learning_rate
        return self.learning_rate

    def learning_from(self, mixture: str) -> "Stage":
        """Return the stage with a mixture file in place of its own data."""
        return replace(self, mixture=mixture, families={}, num_samples=None)

    def num_steps(self, num_samples: int | None = None) -> int:
        """Return the optimiser steps of the stage; `num_samples` is an epoch of its mixture.

        Raises ConfigError where neither the stage nor the caller knows how many samples there are.
        """
        count = num_samples if num_samples is not None else self.num_samples
        if count is None:
            raise ConfigError(
                f"stage {self.name}: no num_samples; its steps follow from the rows of "
                f"{self.mixture or 'its mixture'}, so count those first"
            )
        return math.ceil(count * self.epochs / self.global_batch)

    def _check_parts(self) -> None:
        unknown = set(self.trainable) - set(PARTS)
        if unknown or not self.trainable:
            raise self._fault("trainable", f"some of {', '.join(PARTS)}")
        learns = "vision_encoder" in self.trainable
        if learns != (self.vision_learning_rate is not None):
            says = "a rate, since vision_encoder is" if learns else "none, since it is not"
            raise self._fault("vision_learning_rate", f"{says} among the trainable parts")

    def _check_data(self) -> None:
        if self.mixture is not None and self.families:
            raise self._fault("mixture", "none beside families; learn from one of the two")
        if bool(self.families) != (self.num_samples is not None):
            wanted = "a number, since families never end" if self.families else "none: count rows"
            raise self._fault("num_samples", wanted)
        for family, weight in self.families.items():
            if not weight > 0:
                raise ConfigError(
                    f"stage {self.name}: the weight of {family} is {weight}; expected more than 0"
                )

    def _fault(self, name: str, expected: str) -> ConfigError:
        return ConfigError(
            f"stage {self.name}: {name} is {vars(self)[name]!r}; expected {expected}"
        )
