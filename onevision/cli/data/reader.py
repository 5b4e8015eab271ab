"""The options of the data commands -> a mixture opened by the rules of the stage that learns it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onevision.data.mixture import Mixture, UnopenedDataset
    from onevision.data.plan import Plan
    from onevision.data.samples import SampleReader
    from onevision.inputs.tokenizer import Tokenizer
    from onevision.train.stage import Stage

# The stages that learn a user's own data.
USUAL_STAGES = ("onevision", "instruct")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How data are read: as a stage of a model's curriculum learns them."""

    model: str = "tiny"
    tokenizer: Path | None = None
    # None: the first of USUAL_STAGES or, for a model without a curriculum, the finished model.
    stage: str | None = None
    max_tokens: int | None = None
    roots: Sequence[Path] = ()
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class OpenData:
    """A reader of what could be opened, what could not, and a sentence about the rules."""

    reader: "SampleReader"
    unopened: "tuple[UnopenedDataset, ...]"
    judged: str


def open_data(path: Path, rules: Rules) -> OpenData:
    """Opens data for inspection. Raises DataError, InputError, ConfigError."""
    from onevision.data.mixture import find_mixture, survey_mixture

    words = _read_words(rules)
    mixture, unopened = survey_mixture(path, seed=rules.seed, roots=rules.roots)
    curriculum, stage = _find_stage(rules)
    if stage is None:
        reader = _finished_reader(find_mixture(path), mixture, words, rules)
        judged = f"judged as the finished model reads: {reader.max_tokens:,} tokens"
    else:
        assert curriculum is not None
        reader = _stage_reader(stage.learning_from(str(path)), curriculum, mixture, words, rules)
        judged = (
            f"judged as stage {stage.name} of {curriculum} learns: {reader.max_tokens:,} tokens, "
            f"{reader.num_frames} frames of a video"
        )
    return OpenData(reader=reader, unopened=unopened, judged=judged)


def open_all(path: Path, rules: Rules) -> "SampleReader":
    """Opens data of which nothing may be missing. Raises as `open_data` does."""
    from onevision.data.mixture import open_mixture

    data = open_data(path, rules)
    if data.unopened:
        open_mixture(path, seed=rules.seed, roots=rules.roots)  # raises
    return data.reader


def plan_data(
    reader: "SampleReader", *, deep: bool, num_workers: int | None, fresh: bool = False
) -> "Plan":
    """Plans every sample, by default on all cores."""
    import os

    from onevision.cli.planning import plan_and_show

    count = (os.cpu_count() or 1) if num_workers is None else num_workers
    return plan_and_show(reader, deep=deep, fresh=fresh, num_workers=count)


def _read_words(rules: Rules) -> "Tokenizer":
    from onevision.checkpoint.hub import BUNDLED, resolve
    from onevision.cli.options import read_tokenizer
    from onevision.errors import InputError
    from onevision.known_models import ARCHITECTURES

    if rules.tokenizer is None and rules.model in ARCHITECTURES and rules.model not in BUNDLED:
        raise InputError(
            f"{rules.model} is an architecture without a tokenizer; give --tokenizer DIRECTORY, "
            "with Qwen2's tokenizer.json, or that file itself"
        )
    return read_tokenizer(rules.tokenizer or resolve(rules.model))


def _find_stage(rules: Rules) -> "tuple[str | None, Stage | None]":
    """Returns the curriculum and the stage to judge by. Raises ConfigError, ModelNotFoundError."""
    from dataclasses import replace

    from onevision.checkpoint.hub import resolve
    from onevision.cli.options import model_config
    from onevision.errors import ConfigError
    from onevision.known_models import ARCHITECTURES
    from onevision.train.stages import CURRICULA, stage_named
    from onevision.train.target import choose_model

    if rules.model in ARCHITECTURES:
        curriculum = rules.model
    else:
        model_config(rules.model)  # raises if it is no model
        try:
            curriculum = choose_model((resolve(rules.model),), stage=rules.stage)
        except ConfigError:
            if rules.stage is not None:
                raise
            return None, None
    if rules.stage is None and curriculum not in CURRICULA:
        return None, None
    usual = next((name for name in USUAL_STAGES if name in CURRICULA[curriculum]), None)
    stage = stage_named(rules.stage or usual or "onevision", curriculum)
    if rules.max_tokens is not None:
        stage = replace(stage, max_tokens=rules.max_tokens)
    return curriculum, stage


def _finished_reader(
    path: Path, mixture: "Mixture", words: "Tokenizer", rules: Rules
) -> "SampleReader":
    from onevision.cli.options import model_config
    from onevision.data.samples import SampleReader
    from onevision.data.styles import read_styles
    from onevision.inputs.processor import Processor

    config = model_config(rules.model)
    return SampleReader(
        mixture=mixture,
        processor=Processor(config.inputs, words),
        max_tokens=rules.max_tokens or config.language.max_positions,
        styles=read_styles(path),
    )


def _stage_reader(
    stage: "Stage", curriculum: str, mixture: "Mixture", words: "Tokenizer", rules: Rules
) -> "SampleReader":
    """Opens a mixture as `onevision train` does in this stage."""
    from onevision.checkpoint.hub import resolve
    from onevision.inputs.processor import Processor
    from onevision.known_models import ARCHITECTURES
    from onevision.train.mixture_feed import open_reader
    from onevision.train.stage import stage_config
    from onevision.train.start import Starts
    from onevision.train.target import choose_target

    previous = () if rules.model in ARCHITECTURES else (resolve(rules.model),)
    target = choose_target(stage, ARCHITECTURES[curriculum], Starts(previous=previous))
    processor = Processor(stage_config(stage, target).inputs, words)
    return open_reader(stage, processor, seed=rules.seed, opened=mixture)
