"""The table of objectives: a name -> the function that makes it.

To add one, write a file with a `make_...` function beside `words.py` and name it here; its name is
then a value of the stage's `vision_objective`.
"""

from collections.abc import Mapping
from types import MappingProxyType

from onevision.errors import ConfigError
from onevision.train.objectives.contrast import make_contrast, make_contrast_with_words
from onevision.train.objectives.objective import Objective, ObjectiveMaker, RunContext
from onevision.train.objectives.patches import make_patches
from onevision.train.objectives.words import make_words
from onevision.train.preference.objective import make_preference
from onevision.train.reinforce.objective import make_reinforce
from onevision.values import name_closest

PREFERENCE, REINFORCE = "preference", "reinforce"
OBJECTIVES: Mapping[str, ObjectiveMaker] = MappingProxyType(
    {
        "caption": make_words,
        "sigmoid": make_contrast,
        "both": make_contrast_with_words,
        "patches": make_patches,
        PREFERENCE: make_preference,
        REINFORCE: make_reinforce,
    }
)


def make_objective(run: RunContext) -> Objective:
    """Makes the objective that a run's configuration names. Raises ConfigError, DataError."""
    config = run.config
    if config.preference is not None:
        return make_preference(run)
    if config.reinforce is not None:
        return make_reinforce(run)
    return objective_maker(config.stage.vision_objective)(run)


def objective_maker(name: str) -> ObjectiveMaker:
    """Returns a row of the table. Raises ConfigError if there is none of that name."""
    if name not in OBJECTIVES:
        raise ConfigError(f"vision_objective is {name!r}{name_closest(name, OBJECTIVES)}")
    return OBJECTIVES[name]
