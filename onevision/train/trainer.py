"""Stage + starting point -> a trained checkpoint, with its metrics beside it."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from onevision.batch import TrainingBatch
from onevision.checkpoint.save import save
from onevision.config import ModelConfig
from onevision.inputs.processor import Processor
from onevision.inputs.tokenizer import IM_END, Tokenizer
from onevision.train.feed import batches
from onevision.train.loss import next_token_loss
from onevision.train.optim import make_optimizer, set_learning_rate
from onevision.train.replicas import join_replicas
from onevision.train.stages import Stage, stage_config
from onevision.train.start import start_network

CHECKPOINT, METRICS = "checkpoint", "metrics.jsonl"
SAVE_EVERY_SECONDS = 600.0
LOG_EVERY_STEPS = 20


def train(
    stage: Stage,
    target: ModelConfig,
    *,
    tokenizer: Tokenizer,
    starts: Sequence[Path],
    output: Path,
    seed: int = 0,
    report: Callable[[dict[str, object]], object] = str,
) -> Path:
    """Run one stage on the way to `target`; returns the checkpoint directory, in `output`.

    `report` receives every line of metrics. Under torchrun the processes share the work and the
    first one writes. Raises ConfigError where the starts do not fit.
    """
    torch.manual_seed(seed)
    trainer = Trainer(stage, target, tokenizer=tokenizer, starts=starts, output=output)
    trainer.run(seed=seed, report=report)
    return output / CHECKPOINT


class Trainer:
    """One stage, in bf16 autocast with fp32 weights, on one process or several."""

    def __init__(
        self,
        stage: Stage,
        target: ModelConfig,
        *,
        tokenizer: Tokenizer,
        starts: Sequence[Path],
        output: Path,
    ) -> None:
        self.stage, self.tokenizer, self.output = stage, tokenizer, output
        self.config = stage_config(stage, target)
        self.network = start_network(stage, self.config, starts).train()
        self.optimizer = make_optimizer(self.network, stage)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.processor = Processor(self.config.inputs, tokenizer)
        self.replicas = join_replicas()

    def run(self, *, seed: int, report: Callable[[dict[str, object]], object]) -> None:
        """Train until the stage has seen its samples, then save."""
        metrics = Metrics(self.stage.name, self.output if self.replicas.rank == 0 else None, report)
        saved = time.monotonic()
        samples = 0
        stream = batches(self.stage, self.processor, seed=seed, replicas=self.replicas)
        for count, batch in stream:
            progress = samples / self.stage.num_samples
            loss, total, tokens = self.step(batch, count=count, progress=progress)
            samples += total
            done = samples >= self.stage.num_samples
            metrics.add(loss=loss, samples=total, tokens=tokens, flush=done)
            if self.replicas.rank == 0 and (done or time.monotonic() - saved > SAVE_EVERY_SECONDS):
                self.save()
                saved = time.monotonic()
            if done:
                return

    def step(self, batch: TrainingBatch, *, count: int, progress: float) -> tuple[float, int, int]:
        """Take one optimiser step; returns its loss, samples and tokens over all processes."""
        set_learning_rate(self.optimizer, progress=progress, warmup=self.stage.warmup)
        result = self.backward(batch, count=count)
        torch.nn.utils.clip_grad_norm_(self.parameters, self.stage.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return result

    def backward(self, batch: TrainingBatch, *, count: int) -> tuple[float, int, int]:
        """Give every parameter its gradient, of the mean loss over all processes' labels."""
        labels = len(batch.targets)
        all_labels, samples, tokens = self.replicas.total(labels, count, batch.input_ids.numel())
        with torch.autocast("cpu", torch.bfloat16):
            loss = next_token_loss(self.network, batch) * (labels / all_labels)
        loss.backward()
        self.replicas.add_gradients(self.parameters)
        (total_loss,) = self.replicas.total(float(loss.detach()))
        return total_loss, int(samples), int(tokens)

    def save(self) -> None:
        """Write the checkpoint in fp32, in place of the last one."""
        save(
            self.network,
            self.config,
            self.tokenizer,
            self.output / CHECKPOINT,
            companions={
                "generation_config.json": json.dumps({"eos_token_id": self.tokenizer.id_of(IM_END)})
            },
        )


class Metrics:
    """One line of figures every so many steps, in metrics.jsonl; `directory` None writes none."""

    def __init__(
        self, stage: str, directory: Path | None, report: Callable[[dict[str, object]], object]
    ) -> None:
        self.stage, self.report, self.path = stage, report, None
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            self.path = directory / METRICS
            self.path.write_text("")
        self.began = time.monotonic()
        self.steps = self.samples = self.tokens = 0
        self.losses: list[float] = []

    def add(self, *, loss: float, samples: int, tokens: int, flush: bool) -> None:
        """Count one step; write a line when one is due."""
        self.steps, self.samples = self.steps + 1, self.samples + samples
        self.tokens += tokens
        self.losses.append(loss)
        if self.path is None or not (flush or self.steps % LOG_EVERY_STEPS == 0):
            return
        seconds = time.monotonic() - self.began
        line: dict[str, object] = {
            "stage": self.stage,
            "step": self.steps,
            "samples": self.samples,
            "loss": round(sum(self.losses) / len(self.losses), 4),
            "seconds": round(seconds, 1),
            "tokens_per_second": round(self.tokens / seconds),
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.report(line)
        self.losses.clear()
