"""The two arms of each capability, as training runs of the same operations.

    MODEL -+- transfer   its parts alone; never the world
           +- taught     its parts and the world

Both begin with the same weights, once for each seed. `taught` learns from fewer samples, since a
sample of the world costs more; `tests/science/test_capability_arms.py` holds the two within 3 %.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from onevision.config import ModelConfig
from onevision.errors import InputError
from onevision.generate.answer import Model
from onevision.science.capabilities.capability import CAPABILITIES, Capability
from onevision.science.capabilities.exam import NUM_QUESTIONS, run_exam
from onevision.science.capabilities.results import summarise
from onevision.science.evaluation import AnswerRow
from onevision.science.micro import SEEDS
from onevision.science.study import Study
from onevision.science.trials import Trial, shorten
from onevision.train.stage import Stage
from onevision.train.stages import stage_named
from onevision.values import name_closest

Arm = Literal["transfer", "taught"]
ARMS: tuple[Arm, ...] = get_args(Arm)
# Samples of the arm `transfer`, and the share of the world among the samples of `taught`.
NUM_SAMPLES, TAUGHT_SHARE = 3_200, 0.5
# Billions of operations that a sample of a family takes in the geometry of `tiny`: forward and
# backward, vision encoder and padding included. Means of 1,024 samples, to 1.9 % (standard error).
COSTS: Mapping[str, float] = MappingProxyType(
    {
        "camera_stills": 19.98, "cameras": 37.31, "charts": 38.83, "clips": 16.53,
        "deeds": 19.01, "edits": 29.84, "figure_pairs": 13.02, "figures": 19.05,
        "marks": 36.01, "pairs": 13.88, "pointed": 20.19, "pointed_stills": 19.62,
        "referred": 31.69, "scenes": 17.35, "split_videos": 20.83, "statements": 16.50,
        "tap_screens": 17.64, "taps": 15.11, "things": 15.12, "video_pairs": 30.54,
    }
)  # fmt: skip
# The exam of a rehearsal.
REHEARSAL_QUESTIONS = 4
STAGE = replace(
    stage_named("onevision_clips"),
    name="capability",
    starts_from=("onevision_clips", "onevision_reading", "onevision", "onevision_more"),
    global_batch=32,
)


@dataclass(frozen=True, kw_only=True)
class CapabilityRow:
    """Counts of one kind of question, as `claims.Results` reads them."""

    scenario: str  # S1 to S9
    family: str
    asked: int
    right: int
    blind: int
    constant: int


def arm_name(capability: Capability, arm: Arm) -> str:
    """Returns what an arm is called among the trials: "S8-taught"."""
    return f"{capability.name}-{arm}"


def arm_stage(capability: Capability, arm: Arm) -> Stage:
    """Returns the training stage of an arm. Its name keeps the samples of the arms apart."""
    families, count = dict(capability.parts), NUM_SAMPLES
    if arm == "taught":
        families = {name: share * (1 - TAUGHT_SHARE) for name, share in families.items()}
        families[capability.world] = TAUGHT_SHARE
        count = round(NUM_SAMPLES * sample_cost(capability.parts) / sample_cost(families))
    return replace(STAGE, families=families, num_samples=count)


def sample_cost(families: Mapping[str, float]) -> float:
    """Returns the mean cost of a sample of these families, in billions of operations."""
    return sum(share * COSTS[family] for family, share in families.items())


def arm_trials(
    capabilities: Sequence[Capability],
    target: ModelConfig,
    *,
    arms: Sequence[Arm] = ARMS,
    seeds: Sequence[int] = SEEDS,
    rehearsal: bool = False,
) -> tuple[Trial, ...]:
    """Returns the trials of these capabilities, arms and seeds."""
    trials = tuple(_trials(capabilities, target, arms, seeds))
    return tuple(map(shorten, trials)) if rehearsal else trials


def _trials(
    capabilities: Sequence[Capability],
    target: ModelConfig,
    arms: Sequence[Arm],
    seeds: Sequence[int],
) -> Iterator[Trial]:
    for one in capabilities:
        for seed in seeds:
            for arm in arms:
                yield Trial(
                    arm=arm_name(one, arm),
                    seed=seed,
                    stage=arm_stage(one, arm),
                    target=target,
                    start_arms=(),
                )


def check_arms(names: Sequence[str]) -> tuple[Arm, ...]:
    """Returns the arms of these names, by default both. Raises InputError for an unknown one."""
    for name in names:
        if name not in ARMS:
            raise InputError(f"--arm: no arm {name!r}{name_closest(name, ARMS)}")
    return tuple(arm for arm in ARMS if not names or arm in names)


def examine_arm(model: Model, trial: Trial, study: Study) -> list[AnswerRow]:
    """Asks an arm the questions of its capability; the answers stay in the trial's directory."""
    one = CAPABILITIES[trial.arm.partition("-")[0]]
    count = REHEARSAL_QUESTIONS if study.rehearsal else NUM_QUESTIONS
    directory: Path = study.directory(trial.name) / "exam"
    lines = run_exam(model, [one], directory, name=trial.name, count=count)
    return [vars(row) for row in count_rows(one, lines)]


def count_rows(one: Capability, lines: Sequence[AnswerRow]) -> Iterator[CapabilityRow]:
    """Counts the answers of each kind of question."""
    families = dict.fromkeys(line["family"] for line in lines)
    for family in families:
        asked = [line for line in lines if line["family"] == family]
        result = summarise(one, asked)
        yield CapabilityRow(
            scenario=one.name,
            family=family,
            asked=len(asked),
            right=round(result.right.value * len(asked)),
            blind=round(result.blind.value * len(asked)),
            constant=round(result.constant.value * len(asked)),
        )
