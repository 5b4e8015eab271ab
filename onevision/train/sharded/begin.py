"""A run -> its network as training begins: whole in every process, or divided from the start."""

import os
from dataclasses import dataclass

from onevision.accelerate.apply import accelerate_training
from onevision.config import ModelConfig
from onevision.model.llava import LlavaNetwork
from onevision.train.config import TrainConfig
from onevision.train.learner import Learner, prepare_learner
from onevision.train.parallel import Processes
from onevision.train.sharded.fill import allocate, fill, held_values
from onevision.train.sharded.hollow import HollowNetwork, network_without_memory, start_hollow
from onevision.train.start import Starts, start_network, verify_starts


@dataclass(frozen=True, kw_only=True)
class BegunNetwork:
    """The network of a run; `prepare` makes the learner around it ready to train."""

    network: LlavaNetwork
    config: TrainConfig
    starts: Starts
    processes: Processes
    # What fills the network once it is divided; None if its weights are there already.
    hollow: HollowNetwork | None = None
    # Whether a snapshot will hold every weight, so that none is read from the starts.
    restored: bool = False

    def prepare(self, learner: Learner) -> Learner:
        """Divides the learner among the processes, if they share, and fills it; see `learner.py`.

        Raises CheckpointError, and TrainingError if another process could not read its part.
        """
        options, processes = self.config.options, self.processes
        held = held_values(self.network) if self.hollow else {}
        prepare_learner(
            learner,
            processes,
            recompute=options.recompute,
            offload=options.offload_activations,
            compiled=options.compiled,
            replicas=options.replicas,
        )
        if self.hollow is None:
            return learner
        allocate(learner, processes.device)
        if not self.restored:
            first_here = os.environ.get("LOCAL_RANK", str(processes.rank)) == "0"
            checks = verify_starts if options.verify and first_here else None
            fill(
                self.network, self.hollow, held, processes, verify=options.verify,
                check_files=None if checks is None else lambda: checks(self.starts),
            )  # fmt: skip
        return learner


def begin_network(
    config: TrainConfig,
    model_config: ModelConfig,
    starts: Starts,
    processes: Processes,
    *,
    resumes: bool,
) -> BegunNetwork:
    """Returns the network of a run that begins, or `resumes` from a snapshot.

    A snapshot holds every weight, except those below adapters. Processes that share one model, or
    hold it in few bits, never hold it whole, unless preferences are learned: the whole network
    scores the pairs first.
    Raises CheckpointError, ConfigError.
    """
    stage, options = config.stage, config.options
    restored = resumes and options.lora is None
    comes_later = processes.divides or (options.lora is not None and options.lora.base != "full")
    if not comes_later or (config.preference is not None and not resumes):
        network = (
            LlavaNetwork(model_config)
            if restored
            else start_network(stage, model_config, starts, verify=options.verify)
        )
        network, hollow = network.to(processes.device), None
    elif restored:
        hollow = HollowNetwork(network=network_without_memory(model_config))
        network = hollow.network
    else:
        draws_later = options.lora_dropout > 0 or stage.vision_objective != "caption"
        hollow = start_hollow(stage, model_config, starts, draws_later=draws_later)
        network = hollow.network
    return BegunNetwork(
        network=accelerate_training(network, device=processes.device),
        config=config,
        starts=starts,
        processes=processes,
        hollow=hollow,
        restored=restored,
    )
