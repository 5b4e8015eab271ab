"""The table of all trainings, as values: what each claim compares, over every seed.

                                              +- onevision    claim "stages"
    vision -+                                 |
            +- align - knowledge - single_image (claim "transfer")
    language+                                 |
                                              +- continued    its control

    letters - reader - base, pad, anyres, higher_4, higher_9    claim "resolution"

A seed's arms share their beginnings, which are trained once.
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
    reading,
    under,
)
from onevision.train.options import Precision
from onevision.train.stage import Stage

BEGINNINGS = (VISION, LANGUAGE, ALIGN, KNOWLEDGE, SINGLE_IMAGE)
READERS = (LETTERS, READER)
# The arms that each claim asks its questions of.
CLAIMS = {
    "stages": ("single_image", "onevision", "continued"),
    "transfer": ("single_image",),
    "resolution": tuple(RULES),
}
REHEARSED_SAMPLES, REHEARSED_BATCH = 16, 8


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training: an arm of a seed."""

    arm: str
    seed: int
    stage: Stage
    target: ModelConfig
    # Arms of the same seed that it begins with.
    starts: tuple[str, ...]
    precision: Precision = "bf16"

    @property
    def name(self) -> str:
        """Where it lies in the output: "seed-0/onevision"."""
        return f"seed-{self.seed}/{self.arm}"

    @property
    def begins_with(self) -> tuple[str, ...]:
        """The names of the trials it needs."""
        return tuple(f"seed-{self.seed}/{arm}" for arm in self.starts)


def all_trials(*, rehearsal: bool = False) -> tuple[Trial, ...]:
    """Return every training in an order in which they can be done, seed after seed.

    A rehearsal trains the same arms on a handful of samples each.
    """
    trials = tuple(trial for seed in SEEDS for trial in _of_seed(seed))
    return tuple(map(_rehearsed, trials)) if rehearsal else trials


def needed(trials: Iterable[Trial], claim: str) -> tuple[Trial, ...]:
    """Return the trials of a claim and all they begin with. Raises InputError."""
    if claim not in CLAIMS:
        raise InputError(f"no claim {claim!r}; expected one of {', '.join(CLAIMS)}")
    every, kept = tuple(trials), set[str]()
    for trial in reversed(every):  # what a trial begins with stands before it
        if trial.arm in CLAIMS[claim] or trial.name in kept:
            kept |= {trial.name, *trial.begins_with}
    return tuple(trial for trial in every if trial.name in kept)


def _of_seed(seed: int) -> Iterator[Trial]:
    for stage in (*BEGINNINGS, ONEVISION, CONTINUED):
        yield Trial(arm=stage.name, seed=seed, stage=stage, target=MICRO, starts=stage.starts_from)
    # In single precision, as quick on a processor without bf16 instructions as on one with them.
    readers = [(stage.name, stage, MICRO) for stage in READERS]
    arms = [(name, reading(name), under(rule)) for name, rule in RULES.items()]
    for name, stage, target in readers + arms:
        yield Trial(
            arm=name,
            seed=seed,
            stage=stage,
            target=target,
            starts=stage.starts_from,
            precision="fp32",
        )


def _rehearsed(trial: Trial) -> Trial:
    stage = replace(trial.stage, num_samples=REHEARSED_SAMPLES, global_batch=REHEARSED_BATCH)
    return replace(trial, stage=stage, precision="fp32")  # quick on any processor
