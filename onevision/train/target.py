"""A curriculum's architecture and the checkpoint it begins with -> the architecture to train.

A checkpoint says itself what it is: its widths, its depth, the rows of its vocabulary, which may
be padded or resized. Only how pictures enter may grow beyond what an earlier stage has used.
"""

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from onevision.anyres import ImageRule, VideoRule
from onevision.checkpoint.load import inspect
from onevision.config import ModelConfig
from onevision.errors import ConfigError
from onevision.known_models import ARCHITECTURES
from onevision.native import Native
from onevision.train.stage import Stage, stage_config
from onevision.train.stages import CURRICULA
from onevision.train.start import Starts

DEFAULT_MODEL = "tiny"
Rule = TypeVar("Rule", ImageRule, VideoRule | Native)


def choose_target(stage: Stage, known: ModelConfig, starts: Starts) -> ModelConfig:
    """Returns the architecture at the end of the curriculum; `known` is the table's.

    Without one whole checkpoint to start from, that is `known`. Raises CheckpointError.
    """
    if len(starts.previous) != 1 or stage.name == "vision":
        return known
    theirs = inspect(starts.previous[0]).config
    if stage.video_rule == "target":
        video = _at_size(known.inputs.video, theirs.inputs.image)
        theirs = replace(theirs, inputs=replace(theirs.inputs, video=video))
    if isinstance(known.inputs.image, Native) or not _is_reduced(theirs, stage):
        return theirs
    # An earlier stage's output: it has yet to see pictures as the finished model does.
    crop = theirs.inputs.image
    inputs = replace(
        known.inputs,
        image=_at_size(known.inputs.image, crop),
        multi_image=_at_size(known.inputs.multi_image, crop),
        video=_at_size(known.inputs.video, crop),
        image_token_id=theirs.inputs.image_token_id,
        image_mean=theirs.inputs.image_mean,
        image_std=theirs.inputs.image_std,
    )
    return replace(theirs, inputs=inputs, image_newline=known.image_newline)


def choose_model(previous: tuple[Path, ...], *, stage: str | None = None) -> str:
    """Returns the name of the curriculum that fits checkpoints, or that of tiny without any.

    Of several, those with the `stage` fit; of architectures that are the same, the first. Raises
    CheckpointError, and ConfigError if not exactly one known architecture fits.
    """
    if not previous:
        return DEFAULT_MODEL
    theirs = inspect(previous[0]).config
    if len(previous) > 1:  # the parts that tiny's first stages make
        return DEFAULT_MODEL
    found = [name for name, known in ARCHITECTURES.items() if _size(known) == _size(theirs)]
    if len(found) > 1:
        found = [name for name in found if stage in CURRICULA[name]] or found
        found = [name for name in found if _enters_alike(ARCHITECTURES[name], theirs)] or found
    if len({ARCHITECTURES[name] for name in found}) == 1:
        return found[0]
    problem = f"it may be {' or '.join(found)}" if found else "no known architecture has its size"
    raise ConfigError(
        f"{previous[0]}: {problem}; give --model, one of {', '.join(found or ARCHITECTURES)}, for "
        "the rates and data to follow"
    )


def describe_difference(target: ModelConfig, known: ModelConfig) -> str | None:
    """Returns the sizes in which a checkpoint differs from the table's; None if in none."""
    pairs = [
        (f"{part}.{name}", value, vars(getattr(known, part)).get(name))
        for part in ("vision", "projector", "language")
        for name, value in vars(getattr(target, part)).items()
    ]
    odd = [f"{name} {mine} for {other}" for name, mine, other in pairs if mine != other]
    return ", ".join(odd) or None


def _at_size(rule: Rule, like: ImageRule) -> Rule:
    """Returns a rule with the crops and patches of another; `Native` has no sizes to change."""
    if isinstance(rule, Native):
        return rule
    return replace(rule, crop_size=like.crop_size, patch_size=like.patch_size)


def _is_reduced(theirs: ModelConfig, stage: Stage) -> bool:
    """Whether pictures enter as in an early stage of the curriculum."""
    if isinstance(theirs.inputs.image, Native):
        return False
    early = (replace(stage, resolution="one_crop"), replace(stage, resolution="five_crops"))
    return theirs.inputs.image in [stage_config(one, theirs).inputs.image for one in early]


def _enters_alike(known: ModelConfig, theirs: ModelConfig) -> bool:
    """Whether words and pictures enter both in the same way."""
    mine, other = known.inputs, theirs.inputs
    return (mine.template, mine.image, mine.video) == (other.template, other.image, other.video)


def _size(config: ModelConfig) -> tuple[int, ...]:
    vision, language = config.vision, config.language
    return (
        *(vision.hidden_size, vision.num_layers, vision.image_size),
        *(language.hidden_size, language.num_layers, language.num_kv_heads),
    )
