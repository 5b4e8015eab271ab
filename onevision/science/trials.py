"""All training runs, as values: what each claim compares, for each seed.

                                              +- onevision    claim "stages"
    vision -+                                 |
            +- align - knowledge - single_image (claim "transfer")
    language+                                 |
                                              +- continued    its control

    letters - reader - base, pad, anyres, higher_4, higher_9    claim "resolution"

The arms of a seed share the stages before them, which are trained once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from onevision.config import ModelConfig
from onevision.errors import InputError
from onevision.science.micro import (
    ALIGN,
    CONTINUED,
    KNOWLEDGE,
    LANGUAGE,
    LETTERS,
    MICRO,
    ONEVISION,
    READER,
    RULES,
    SEEDS,
    SINGLE_IMAGE,
    VISION,
    config_with_rule,
    reading_stage,
)
from onevision.train.options import Precision
from onevision.train.stage import Stage
from onevision.values import name_closest

SHARED_STAGES = (VISION, LANGUAGE, ALIGN, KNOWLEDGE, SINGLE_IMAGE)
READING_STAGES = (LETTERS, READER)
# The arms that answer the questions of each claim.
CLAIMS = {
    "stages": ("single_image", "onevision", "continued"),
    "transfer": ("single_image",),
    "resolution": tuple(RULES),
}
REHEARSAL_SAMPLES, REHEARSAL_BATCH = 16, 8


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training run: an arm of a seed."""

    arm: str
    seed: int
    stage: Stage
    target: ModelConfig
    # The arms of the same seed whose checkpoints it starts from.
    start_arms: tuple[str, ...]
    precision: Precision = "bf16"

    @property
    def name(self) -> str:
        """Its directory in the output: "seed-0/onevision"."""
        return f"seed-{self.seed}/{self.arm}"

    @property
    def start_names(self) -> tuple[str, ...]:
        """The names of the trials it starts from."""
        return tuple(f"seed-{self.seed}/{arm}" for arm in self.start_arms)


def all_trials(*, rehearsal: bool = False) -> tuple[Trial, ...]:
    """Returns all trials, seed by seed, each after those it starts from.

    A rehearsal trains the same arms on a handful of samples each.
    """
    trials = tuple(trial for seed in SEEDS for trial in _trials_of_seed(seed))
    return tuple(map(shorten, trials)) if rehearsal else trials


def trials_for_claim(trials: Iterable[Trial], claim: str) -> tuple[Trial, ...]:
    """Returns the trials of a claim and those they start from. Raises InputError."""
    if claim not in CLAIMS:
        raise InputError(f"no claim {claim!r}{name_closest(claim, CLAIMS)}")
    ordered, kept = tuple(trials), set[str]()
    for trial in reversed(ordered):  # a trial comes after those it starts from
        if trial.arm in CLAIMS[claim] or trial.name in kept:
            kept |= {trial.name, *trial.start_names}
    return tuple(trial for trial in ordered if trial.name in kept)


def _trials_of_seed(seed: int) -> Iterator[Trial]:
    for stage in (*SHARED_STAGES, ONEVISION, CONTINUED):
        yield Trial(
            arm=stage.name, seed=seed, stage=stage, target=MICRO, start_arms=stage.starts_from
        )
    # fp32: it takes as long on CPUs without bf16 instructions as on CPUs with them.
    shared = [(stage.name, stage, MICRO) for stage in READING_STAGES]
    arms = [(name, reading_stage(name), config_with_rule(rule)) for name, rule in RULES.items()]
    for name, stage, target in shared + arms:
        yield Trial(
            arm=name,
            seed=seed,
            stage=stage,
            target=target,
            start_arms=stage.starts_from,
            precision="fp32",
        )


def shorten(trial: Trial) -> Trial:
    """Returns a trial on a handful of samples."""
    stage = replace(trial.stage, num_samples=REHEARSAL_SAMPLES, global_batch=REHEARSAL_BATCH)
    return replace(trial, stage=stage, precision="fp32")  # fast on any CPU
