"""A network in training -> its answers to held-out questions, a line of eval.jsonl each time.

    {"step": 200, "questions": 60, "accuracy": {"single_image": 0.4, ...}, "seconds": 31.2}

The network is asked as it stands: in evaluation and inference mode, in the type of its weights,
without autocast, as `onevision eval` asks the checkpoint. Nothing that training depends on moves,
neither weights nor random streams, so a run with evaluations ends as one without.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from onevision.config import ModelConfig
from onevision.errors import OneVisionError
from onevision.eval.heldout import run_heldout
from onevision.generate.answer import Model
from onevision.generate.sampler import Sampling
from onevision.inputs.processor import Processor
from onevision.inputs.templates import end_ids, end_texts
from onevision.inputs.tokenizer import Tokenizer
from onevision.model.llava import LlavaNetwork
from onevision.train.lora.adapt import copy_to_cpu
from onevision.train.options import RunOptions
from onevision.train.parallel import Processes
from onevision.train.report.display import Line
from onevision.train.report.metrics import StepMetrics
from onevision.train.report.notes import EVALUATIONS, Notes


@dataclass(frozen=True, kw_only=True)
class Examiner:
    """Asks the network of a run the first held-out questions of each scenario, now and then.

    The first process asks, the others wait. A sharded network is copied whole for it: there must be
    room for one beside the training.
    """

    config: ModelConfig
    tokenizer: Tokenizer
    options: RunOptions
    processes: Processes
    output: Path
    tell: Callable[[Line], object]
    warn: Callable[[str], object]

    @property
    def notes(self) -> Notes:
        """The file of the answers."""
        return Notes(self.output / EVALUATIONS, warn=self.warn)

    def after(
        self, metrics: StepMetrics, learning: LlavaNetwork, alive: Callable[[], None]
    ) -> None:
        """Ask after a step, if it is time; every process calls it, and `alive` is called often."""
        every = self.options.eval_steps
        if not every or (metrics.step % every and metrics.step < metrics.num_steps):
            return
        main, network = self.processes.rank == 0, learning
        if self.processes.shards:  # a process without its slices cannot ask
            copy = copy_to_cpu(learning, self.config, self.options.lora, keep=main)
            network = learning if copy is None else copy.to(self.processes.device)
        if main:
            try:
                line = self.ask(network, step=metrics.step, alive=alive)
                self.notes.add(line)
                self.tell(line)
            except OneVisionError as error:
                self.warn(f"step {metrics.step} could not be evaluated: {error}")
        self.processes.all_well()

    def ask(self, network: LlavaNetwork, *, step: int, alive: Callable[[], None]) -> Line:
        """Return the line of a step."""
        began, count = time.monotonic(), self.options.eval_questions
        accuracy: dict[str, float] = {}
        template = self.config.inputs.template
        model = Model(
            network=network,
            processor=Processor(self.config.inputs, self.tokenizer),
            config=self.config,
            sampling=Sampling(
                end_ids=end_ids(template, self.tokenizer), end_texts=end_texts(template)
            ),
        )
        with undisturbed(network):
            for scenario in self.options.eval_scenarios:
                accuracy[scenario] = run_heldout(model, scenario, count=count).accuracy
                alive()
        seconds = round(time.monotonic() - began, 3)
        return {"step": step, "questions": count, "accuracy": accuracy, "seconds": seconds}


@contextmanager
def undisturbed(network: LlavaNetwork) -> Iterator[None]:
    """Have the network in evaluation mode; afterwards modes and random streams are as before."""
    modes = [(module, module.training) for module in network.modules()]
    place = network.language_model.device
    network.eval()
    try:
        with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
            yield
    finally:
        for module, training in modes:
            module.training = training
