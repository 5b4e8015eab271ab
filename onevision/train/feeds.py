"""A stage -> its feed: families that are drawn, or a mixture on disk that is planned first."""

from collections.abc import Callable
from pathlib import Path

from onevision.data.manifest import apply_manifest
from onevision.data.mixture import open_mixture
from onevision.data.plan import Plan
from onevision.data.planner import make_plan
from onevision.data.samples import SampleReader
from onevision.data.styles import read_styles
from onevision.errors import InputError
from onevision.inputs.processor import Processor
from onevision.train.feed import Feed
from onevision.train.mixture_feed import MixtureFeed
from onevision.train.objectives import drawn_feed_of
from onevision.train.options import RunOptions
from onevision.train.parallel import Processes
from onevision.train.recipes import Stage
from onevision.train.together import done_once


def make_feed(
    stage: Stage, processor: Processor, processes: Processes, *, options: RunOptions, output: Path
) -> Feed:
    """Make this process's feed; every process calls it. Bad samples are noted in `output`.

    Raises InputError where the stage names no data, DataError where they cannot be used or do not
    fit the options' manifest.
    """
    place = {"seed": options.seed, "rank": processes.rank, "ranks": processes.count}
    if stage.families:
        if options.manifest is not None:
            raise InputError(
                f"stage {stage.name} draws its samples, so there is nothing to pin; leave out "
                "--manifest, or give --mixture FILE"
            )
        return drawn_feed_of(stage)(stage, processor, **place)
    reader = open_reader(stage, processor, seed=options.seed)
    plan = shared_plan(reader, processes, options)
    return MixtureFeed(
        stage,
        reader,
        plan,
        quarantine=output,
        num_workers=options.num_workers,
        decode_seconds=options.decode_seconds,
        **place,
    )


def open_reader(stage: Stage, processor: Processor, *, seed: int) -> SampleReader:
    """Open the mixture of a stage, by the stage's rules. Raises InputError, DataError."""
    if stage.mixture is None:
        raise InputError(f"stage {stage.name} names no data; give --mixture FILE")
    path = Path(stage.mixture)
    return SampleReader(
        mixture=open_mixture(path, seed=seed),
        processor=processor,
        max_tokens=stage.max_tokens,
        template=stage.template,
        num_frames=stage.num_frames,
        styles=read_styles(path),
    )


def shared_plan(reader: SampleReader, processes: Processes, options: RunOptions) -> Plan:
    """Plan a mixture once, in the first process, for all of them; the same plan everywhere."""

    def work(alive: Callable[[], None]) -> bytes:
        plan = make_plan(reader, num_workers=options.num_workers, progress=lambda _: alive())
        if options.manifest is not None:
            plan = apply_manifest(reader.mixture, plan, Path(options.manifest))
        return plan.to_bytes()

    return Plan.from_bytes(
        done_once(
            processes,
            work,
            patience_seconds=options.patience_seconds,
            what="planning the mixture",
        )
    )
