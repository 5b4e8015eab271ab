"""One stage of training: which parts train, on what data, how fast, in which architecture."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from onevision.anyres import AnyRes, ImageRule, SingleCrop, VideoRule
from onevision.config import LanguageConfig, ModelConfig, Template
from onevision.errors import ConfigError
from onevision.known_models import FIVE_CROP_GRIDS
from onevision.native import Native

PARTS = ("vision_encoder", "projector", "language_model")

# The image rule: a single crop, up to five, or all that the model allows; see `stage_config`.
Resolution = Literal["one_crop", "five_crops", "target"]
VideoRuleOf = Literal["start", "target"]
# AdamW for every weight; or Muon for the matrices of the transformer blocks, AdamW for the others.
Optimizer = Literal["adamw", "muon"]
# What the rates do after the warm-up: fall to zero by a cosine, or stay.
Decay = Literal["cosine", "constant"]
# Which tokens are learned: those of the reference (see inputs/chat.py), or answers and their ends.
Labels = Literal["reference", "answers"]
# Fields that are numbers above zero, or None.
ABOVE_ZERO = (
    *("num_frames", "num_samples", "epochs", "global_batch", "max_tokens"),
    *("learning_rate", "projector_learning_rate", "vision_learning_rate"),
    *("epsilon", "max_grad_norm"),
)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage. Raises ConfigError if its values contradict one another."""

    # The name that metrics and messages say.
    name: str
    # Stages of the same curriculum whose outputs this one begins with; if empty, it begins with
    # pretrained parts or random weights.
    starts_from: tuple[str, ...] = ()
    # Parts that train; the others are frozen. `image_newline`, and `faster_token` if there is one,
    # train with the language model.
    trainable: tuple[str, ...] = PARTS
    # None means the model's own template.
    template: Template | None = "qwen_1_5"
    # How a picture is cut: one crop, up to five, or all that the model allows.
    resolution: Resolution = "target"
    # By which rule videos enter: that of the checkpoint it begins with, or the target's, where a
    # model continues from another (LLaVA-Video from OneVision).
    video_rule: VideoRuleOf = "start"
    # The most frames of a video; only in stages that see videos.
    num_frames: int = 32

    # What is learned: a mixture file, or a user's data; a bare name lies in mixtures/.
    mixture: str | None = None
    # Or procedural families with their relative frequencies.
    families: Mapping[str, float] = field(default_factory=dict[str, float])
    # Samples of the families per epoch; a mixture has its own number.
    num_samples: int | None = None
    # Which tokens of a mixture are learned: as in the reference, which labels the control tokens of
    # every role, or "answers": the assistant's words and the token that ends them.
    labels: Labels = "reference"
    # Questions per sample of a family, beside its caption.
    max_questions: int = 6
    # Whether to learn single properties of everything in view too; without them, small things are
    # learned late.
    aspects: bool = False
    # What the stage learns by, a row of the table in objectives.py: the words of answers
    # ("caption"); for an encoder trained from scratch, SigLIP's sigmoid loss ("sigmoid") or the sum
    # of the two ("both"); or the labels of patches ("patches").
    vision_objective: str = "caption"
    # How often every sample is seen.
    epochs: int = 1

    # Samples per optimiser step, over all processes.
    global_batch: int = 256
    # Tokens of one packed sequence.
    max_tokens: int = 32768

    # Peak rate of the language model, and of the projector unless that has its own.
    learning_rate: float = 1e-5
    # Peak rate of the projector; None: the first.
    projector_learning_rate: float | None = None
    # Peak rate of the vision encoder; None if it is frozen.
    vision_learning_rate: float | None = 2e-6
    # Share of the steps during which the rates rise from zero.
    warmup: float = 0.03
    # What they do afterwards: fall to zero by a cosine, or stay.
    decay: Decay = "cosine"
    # "muon" is for the matrices of the blocks, beside AdamW for the rest.
    optimizer: Optimizer = "adamw"
    # Of AdamW's two moments.
    betas: tuple[float, float] = (0.9, 0.999)
    # Of AdamW.
    epsilon: float = 1e-8
    # Of AdamW and Muon.
    weight_decay: float = 0.0
    # A longer gradient is shortened to this.
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
        """Returns the peak learning rate of a part that trains."""
        if part == "vision_encoder":
            assert self.vision_learning_rate is not None, "the vision encoder is frozen"
            return self.vision_learning_rate
        if part == "projector" and self.projector_learning_rate is not None:
            return self.projector_learning_rate
        return self.learning_rate

    def learning_from(self, mixture: str) -> "Stage":
        """Returns the stage with a mixture file in place of its own data."""
        return replace(self, mixture=mixture, families={}, num_samples=None)

    def num_steps(self, num_samples: int | None = None) -> int:
        """Returns the optimiser steps of the stage; `num_samples` is an epoch of its mixture.

        Raises ConfigError if neither the stage nor the caller knows the number of samples.
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
            wanted = "a rate, since vision_encoder is" if learns else "none, since it is not"
            raise self._fault("vision_learning_rate", f"{wanted} among the trainable parts")

    def _check_data(self) -> None:
        if self.mixture is not None and self.families:
            raise self._fault("mixture", "none beside families; learn from one of the two")
        if bool(self.families) != (self.num_samples is not None):
            wanted = "a number, since families never end" if self.families else "none: count rows"
            raise self._fault("num_samples", wanted)
        if self.families and self.labels != "reference":
            raise self._fault("labels", "reference beside families, whose samples have no others")
        for family, weight in self.families.items():
            if not weight > 0:
                raise ConfigError(
                    f"stage {self.name}: the weight of {family} is {weight}; expected more than 0"
                )

    def _fault(self, name: str, expected: str) -> ConfigError:
        return ConfigError(
            f"stage {self.name}: {name} is {vars(self)[name]!r}; expected {expected}"
        )


def stage_config(stage: Stage, target: ModelConfig) -> ModelConfig:
    """Returns the architecture that trains in `stage`, on the way to `target`.

    If a picture is one plain crop, there is no `image_newline`, after videos neither; but an
    encoder that trains alone keeps what its start has beside it. The vision stage learns captions
    with a small decoder that is discarded.
    """
    keeps_rest = stage.vision_objective == "patches" and bool(stage.starts_from)
    inputs = replace(
        target.inputs,
        image=_image_rule(stage, target),
        template=stage.template or target.inputs.template,
    )
    if stage.resolution == "one_crop" and isinstance(target.inputs.video, VideoRule):
        video = replace(target.inputs.video, newline="no_token", slow_every=None)
        inputs = replace(inputs, multi_image=inputs.image, video=video)
    config = replace(
        target,
        inputs=inputs,
        image_newline=target.image_newline and (keeps_rest or stage.resolution != "one_crop"),
    )
    if stage.name == "vision":
        return replace(config, language=_caption_decoder(target.language))
    return config


def _image_rule(stage: Stage, config: ModelConfig) -> ImageRule:
    """Returns the rule of the stage's resolution: one crop, up to five, or the target's own.

    FIDELITY: the reference's first stages prepare a picture as the encoder's own processor does,
    which squashes it for SigLIP and crops its centre for CLIP.
    """
    target = config.inputs.image
    if isinstance(target, Native) and stage.resolution != "target":
        raise ConfigError(
            f"stage {stage.name}: resolution is {stage.resolution}, but the model reads pictures "
            "at native resolution; expected target"
        )
    size, patch = target.crop_size, target.patch_size
    if stage.resolution == "one_crop":
        return SingleCrop(crop_size=size, patch_size=patch, fit=config.vision.fit, newline=False)
    if stage.resolution == "five_crops":
        return AnyRes(crop_size=size, patch_size=patch, max_crops=None, grids=FIVE_CROP_GRIDS)
    return target


def _caption_decoder(language: LanguageConfig) -> LanguageConfig:
    return replace(
        language,
        hidden_size=192,
        intermediate_size=512,
        num_layers=3,
        num_heads=3,
        num_kv_heads=3,
    )
