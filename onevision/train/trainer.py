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

    `report` receives every line of metrics. Raises ConfigError where the starts do not fit.
    """
    torch.manual_seed(seed)
    trainer = Trainer(stage, target, tokenizer=tokenizer, starts=starts, output=output)
    trainer.run(seed=seed, report=report)
    return output / CHECKPOINT


class Trainer:
    """One stage on one process, in bf16 autocast with fp32 weights."""

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
        self.processor = Processor(self.config.inputs, tokenizer)

    def run(self, *, seed: int, report: Callable[[dict[str, object]], object]) -> None:
        """Train until the stage has seen its samples, then save."""
        self.output.mkdir(parents=True, exist_ok=True)
        samples, tokens = 0, 0
        losses: list[float] = []
        began = saved = time.monotonic()
        with (self.output / METRICS).open("w", encoding="utf-8") as metrics:
            stream = batches(self.stage, self.processor, seed=seed)
            for step, (count, batch) in enumerate(stream, start=1):
                losses.append(self.step(batch, progress=samples / self.stage.num_samples))
                samples, tokens = samples + count, tokens + batch.input_ids.numel()
                done, now = samples >= self.stage.num_samples, time.monotonic()
                if done or step % LOG_EVERY_STEPS == 0:
                    line: dict[str, object] = {
                        "stage": self.stage.name,
                        "step": step,
                        "samples": samples,
                        "loss": round(sum(losses) / len(losses), 4),
                        "seconds": round(now - began, 1),
                        "tokens_per_second": round(tokens / (now - began)),
                    }
                    metrics.write(json.dumps(line) + "\n")
                    metrics.flush()
                    report(line)
                    losses.clear()
                if done or now - saved > SAVE_EVERY_SECONDS:
                    self.save()
                    saved = now
                if done:
                    return

    def step(self, batch: TrainingBatch, *, progress: float) -> float:
        """Take one optimiser step on `batch`; returns its loss."""
        set_learning_rate(self.optimizer, progress=progress, warmup=self.stage.warmup)
        with torch.autocast("cpu", torch.bfloat16):
            loss = next_token_loss(self.network, batch)
        loss.backward()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, self.stage.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())

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
