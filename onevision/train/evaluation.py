"""A network in training -> its accuracy on held-out questions, one line of eval.jsonl each time.

    {"step": 200, "questions": 60, "accuracy": {"single_image": 0.4, ...}, "seconds": 31.2}

The network is evaluated as `onevision eval` evaluates a checkpoint: in evaluation and inference
mode, in the type of its weights, without autocast. Neither weights nor random streams change, so a
run with evaluations ends with the same weights as one without.
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
from onevision.files import Line
from onevision.generate.answer import Model
from onevision.generate.sampler import Sampling
from onevision.inputs.processor import Processor
from onevision.inputs.templates import end_ids, end_texts
from onevision.inputs.tokenizer import Tokenizer
from onevision.model.llava import LlavaNetwork
from onevision.train.lora.adapt import copy_to_cpu
from onevision.train.options import RunOptions
from onevision.train.parallel import Processes
from onevision.train.report.metrics import StepMetrics
from onevision.train.report.notes import EVALUATIONS, Notes


@dataclass(frozen=True, kw_only=True)
class HeldoutEvaluator:
    """Asks the network of a run the first held-out questions of each scenario at intervals.

    The first process asks while the others wait. A sharded network is copied whole for it, which
    takes memory for one more network.
    """

    config: ModelConfig
    tokenizer: Tokenizer
    options: RunOptions
    processes: Processes
    output: Path
    on_evaluation: Callable[[Line], object]
    warn: Callable[[str], object]

    @property
    def notes(self) -> Notes:
        """The file of the results."""
        return Notes(self.output / EVALUATIONS, warn=self.warn)

    def evaluate_if_due(
        self, metrics: StepMetrics, training: LlavaNetwork, report_alive: Callable[[], None]
    ) -> None:
        """Evaluates after a step if it is time; every process calls it.

        It calls `report_alive` often.
        """
        every = self.options.eval_steps
        if not every or (metrics.step % every and metrics.step < metrics.num_steps):
            return
        main, network = self.processes.rank == 0, training
        if self.processes.divides:  # the network is not usable in slices
            copy = copy_to_cpu(training, self.config, self.options.lora, keep=main)
            network = training if copy is None else copy.to(self.processes.device)
        if main:
            try:
                line = self.evaluate(network, step=metrics.step, report_alive=report_alive)
                self.notes.add(line)
                self.on_evaluation(line)
            except OneVisionError as error:
                self.warn(f"step {metrics.step} could not be evaluated: {error}")
        self.processes.all_succeeded()

    def evaluate(
        self, network: LlavaNetwork, *, step: int, report_alive: Callable[[], None]
    ) -> Line:
        """Returns the line of a step."""
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
            arithmetic=str(network.language_model.dtype).removeprefix("torch."),
        )
        with preserve_state(network):
            for scenario in self.options.eval_scenarios:
                accuracy[scenario] = run_heldout(model, scenario, count=count).accuracy
                report_alive()
        seconds = round(time.monotonic() - began, 3)
        return {"step": step, "questions": count, "accuracy": accuracy, "seconds": seconds}


@contextmanager
def preserve_state(network: LlavaNetwork) -> Iterator[None]:
    """Puts the network into evaluation mode; restores modes and random streams afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    device = network.language_model.device
    network.eval()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        for module, training in modes:
            module.training = training
