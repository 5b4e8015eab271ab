"""A shard -> its directory, a job that resumes, and its Parquet file; what each worker runs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from onevision.curate.budget import Limits
from onevision.curate.claim import ATTEMPTS
from onevision.curate.job import run_job
from onevision.curate.journal import Journal
from onevision.curate.recaption import RecaptionJob
from onevision.curate.shards.split import Shard
from onevision.curate.shards.table import write_table
from onevision.curate.writer import Writer
from onevision.files import Line
from onevision.locks import lock_directory

SHARDS, PARTS = "shards", "parts"


@dataclass(frozen=True, kw_only=True)
class ShardSettings:
    """What describes every shard."""

    output: Path  # the same place for all workers
    language: str
    seed: int
    prompts: Path
    max_errors: int


def describe_shard(shard: Shard, writer: Writer, settings: ShardSettings) -> Line:
    """Describes the pictures of a shard, or resumes; returns what it made.

    The shard's job knows what was answered, so one whose worker died is finished by another. Raises
    as `run_job` does.
    """
    job = RecaptionJob(
        sources=[shard.open()],
        language=settings.language,
        writer=writer.identity,
        seed=settings.seed,
        prompts=settings.prompts,
        embedded=True,
    )
    place = settings.output / SHARDS / shard.name
    result = run_job(job, writer, place, limits=Limits(max_errors=settings.max_errors))
    if not result.summary.num_left:
        (settings.output / PARTS).mkdir(parents=True, exist_ok=True)
        with lock_directory(place, holder="job"), Journal(place / ATTEMPTS) as journal:
            write_table(job, journal, settings.output / PARTS / f"{shard.name}.parquet")
    return {
        "shard": shard.name,
        "num_kept": result.summary.num_kept,
        "num_refused": result.summary.num_refused,
        "num_left": result.summary.num_left,
        "prompt_tokens": result.summary.prompt_tokens,
        "completion_tokens": result.summary.completion_tokens,
        "stopped": result.stopped or "",
    }


class ShardWorker:
    """An actor: opens its writer once, then describes shard after shard."""

    def __init__(self, open_writer: Callable[[], Writer], settings: ShardSettings) -> None:
        self._writer, self._settings = open_writer(), settings

    def __call__(self, row: dict[str, str]) -> Line:
        """Returns what a shard made."""
        return describe_shard(Shard.from_json(row["shard"]), self._writer, self._settings)
