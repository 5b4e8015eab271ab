"""What a run learns by: a feed in; a loss, the loss of each target and statistics out.

A run hands its context to a function of the table in `table.py` and gets an `Objective`. The
trainer knows nothing else of it: it takes micro-batches from the feed, calls the learner on each,
and sums gradients, losses and statistics over the step.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from onevision.inputs.processor import Processor
from onevision.model.llava import LlavaNetwork
from onevision.train.config import TrainConfig
from onevision.train.feed import Feed
from onevision.train.learner import Learner
from onevision.train.parallel import Processes
from onevision.train.saving.place import Place
from onevision.train.validation.held_out import HeldOut


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What an objective is made from: everything of one process's run but the learning itself."""

    config: TrainConfig
    processor: Processor
    processes: Processes
    # As the run begins with it, before adapters and freezing; without weights if it resumes.
    network: LlavaNetwork
    output: Path
    # The snapshot that the run resumes from; None for a new run.
    snapshot: Place | None
    # Called with the shards of stores, before they are read: the size and version of each address.
    # Raises ConfigError if the snapshot's run read others.
    agree_on_shards: Callable[[Mapping[str, str]], object] = dict
    # Called with warnings that concern all processes.
    warn: Callable[[str], object] = str


class LearnerMaker(Protocol):
    """Wraps the network, adapters added and frozen parts frozen, in the objective's learner."""

    def __call__(self, network: LlavaNetwork, *, encode_always: bool) -> Learner:
        """`encode_always` is as in `Learner`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The feed of a run and what learns from it."""

    feed: Feed
    make_learner: LearnerMaker = Learner
    # Samples whose loss is measured during the run; None if none are held out.
    held_out: HeldOut | None = None
    # Digests of what it learns from beside the feed's samples; a resumed run must find the same.
    fingerprints: Mapping[str, str] = field(default_factory=dict)


# A row of the table: makes an objective. Every process of a run calls it.
ObjectiveMaker = Callable[[RunContext], Objective]
