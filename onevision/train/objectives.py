"""What a stage learns by -> the feed that draws for it, and the learner that learns from it."""

from collections.abc import Callable
from functools import partial

from onevision.train.contrast import VisionLearner
from onevision.train.feed import DrawnFeed
from onevision.train.learner import Learner
from onevision.train.patches import PatchFeed, PatchLearner, names_of
from onevision.train.stage import Stage


def learner_of(stage: Stage) -> Callable[..., Learner]:
    """Return what makes a learner of a network. Raises ConfigError where the data do not fit."""
    match stage.vision_objective:
        case "caption":
            return Learner
        case "sigmoid" | "both":
            return partial(VisionLearner, with_words=stage.vision_objective == "both")
        case "patches":
            return partial(PatchLearner, names=names_of(stage))


def drawn_feed_of(stage: Stage) -> type[DrawnFeed]:
    """Return what draws the samples of a stage."""
    return PatchFeed if stage.vision_objective == "patches" else DrawnFeed
