"""Prompts and a number of rounds -> evolved prompts with answers, one job after the other."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from onevision.curate.budget import Limits, Prices
from onevision.curate.evolve import EVOLVE_PROMPTS, AnswerJob, EvolveJob, Seed
from onevision.curate.job import JobResult, Progress, run_job
from onevision.curate.output import PROVENANCE
from onevision.curate.task import Job
from onevision.curate.writer import Writer
from onevision.errors import ConfigError
from onevision.files import whole_lines


@dataclass(frozen=True, kw_only=True)
class EvolveConfig:
    """How prompts are evolved."""

    num_rounds: int = 3  # 0: the prompts are answered as they are
    seed: int = 0
    prompts: Path = EVOLVE_PROMPTS

    def __post_init__(self) -> None:
        if not 0 <= self.num_rounds <= 100:
            raise ConfigError(f"--rounds is {self.num_rounds}; expected 0 to 100")


def evolve(
    seeds: Sequence[Seed],
    writer: Writer,
    output: Path,
    *,
    config: EvolveConfig,
    limits: Limits,
    prices: Prices | None = None,
    on_progress: Callable[[Progress], object] = str,
    on_round: Callable[[JobResult], object] = str,
) -> JobResult:
    """Runs all rounds, then answers every evolved prompt; returns the result of the last job.

    That is a round that stopped, or the answers. The limit of money holds for all together, the
    others for each. Raises as `run_job` does.
    """
    spent, found = 0.0, list[Seed]() if config.num_rounds else list(seeds)

    def run(job: Job, place: Path) -> JobResult:
        nonlocal spent
        own = limits
        if limits.max_money is not None:
            own = replace(limits, max_money=max(limits.max_money - spent, 1e-12))
        result = run_job(job, writer, place, limits=own, prices=prices, on_progress=on_progress)
        spent += result.summary.money
        return result

    current = list(seeds)
    for number in range(1, config.num_rounds + 1):
        job = EvolveJob(
            seeds=current,
            number=number,
            writer=writer.identity,
            seed=config.seed,
            prompts=config.prompts,
        )
        place = output / f"round-{number}"
        result = run(job, place)
        on_round(result)
        if result.stopped is not None or result.summary.num_left:
            return result
        current, new = _next_seeds(job, place)
        found += new
    job = AnswerJob(seeds=found, writer=writer.identity, seed=config.seed, prompts=config.prompts)
    return run(job, output)


def _next_seeds(job: EvolveJob, place: Path) -> tuple[list[Seed], list[Seed]]:
    """Returns the prompts of the next round, and those of them that are new."""
    current, new = list[Seed](), list[Seed]()
    lines = whole_lines((place / PROVENANCE).read_bytes())
    for seed, raw in zip(job.seeds, lines, strict=True):
        line = json.loads(raw)
        if line["outcome"] != "kept":
            current.append(seed)
            continue
        evolved = Seed(where=seed.where, prompt=line["replies"][-1]["text"].strip())
        current.append(evolved)
        new.append(evolved)
    return current, new
