"""What does it take to begin with 100 million records? Measured at fewer, and extrapolated.

    python benchmarks/planning.py --planned 20000 -o planning.json     a minute of one core
    python benchmarks/planning.py --workers 1 2                        with planning by processes

`--planned` records lie in tar shards of 10,000 (a small JPEG and a question each; a shard is linked
as often as needed, and each link is indexed and planned as if it were alone). They give the index
and the plan: processor seconds of one process, which other work on the machine hardly changes, and
bytes. `--records` are simulated, with the planned lengths repeated, and give what follows at every
start: the order and the packs of an epoch, and the most memory that the process held. 100 million
take the largest measurement times what is missing.
"""

import argparse
import io
import json
import multiprocessing as mp
import os
import platform
import resource
import tarfile
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

SHARD_RECORDS = 10_000
TARGET = 100_000_000
MAX_TOKENS = 16384
LENGTHS = "lengths.npy"
# Of a machine that plans TARGET records.
WORKERS = (1, 16, 64)


def write_shard(path: Path) -> None:
    """Write one shard of pictures of 64 x 48 pixels with a question and an answer."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (64, 48), (90, 120, 30)).save(file, format="jpeg")
    picture = file.getvalue()
    with tarfile.open(path, "w") as archive:
        for number in range(SHARD_RECORDS):
            turns = [
                {"from": "human", "value": "<image>\nWhat do you see in this picture?"},
                {"from": "gpt", "value": "A plain field of one colour. " * (1 + number % 12)},
            ]
            record = json.dumps({"id": f"{number}", "conversations": turns}).encode()
            for suffix, content in (("json", record), ("jpg", picture)):
                member = tarfile.TarInfo(f"{number:06}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def measure_planning(folder: Path, count: int, workers: list[int]) -> dict[str, float]:
    """Index and plan `count` records; writes their lengths for `measure_start`."""
    from onevision.data.planner import make_plan

    write_shard(folder / "shard.tar")
    shards = folder / "shards"
    shards.mkdir()
    for number in range(count // SHARD_RECORDS):
        os.link(folder / "shard.tar", shards / f"{number:06}.tar")
    os.environ["ONEVISION_CACHE"] = str(folder / "cache")
    found: dict[str, float] = {"records": count}
    found["index_cpu_seconds"], reader = timed(lambda: make_reader(shards))
    found["index_bytes"] = size_of(folder / "cache" / "index")
    found["plan_cpu_seconds"], plan = timed(lambda: make_plan(reader, num_workers=0))
    found["plan_bytes"] = size_of(folder / "cache" / "plans")
    found["open_cpu_seconds"], reader = timed(lambda: make_reader(shards))
    found["reread_cpu_seconds"], plan = timed(lambda: make_plan(reader, num_workers=0))
    found["sent_bytes"] = len(plan.to_bytes())
    np.save(folder / LENGTHS, plan.datasets[0].num_tokens)
    for number in workers:
        began = time.perf_counter()
        make_plan(reader, num_workers=number, fresh=True)
        found[f"plan_seconds_{number}_workers"] = round(time.perf_counter() - began, 1)
    return found


def measure_start(folder: Path, count: int) -> dict[str, float]:
    """Order and pack `count` simulated records of shards."""
    from onevision.data.entries import DatasetEntry
    from onevision.data.mixture import Mixture, OpenDataset
    from onevision.data.order import Order
    from onevision.data.packs import pack
    from onevision.data.sources import SequenceSource

    source = SequenceSource("simulated", [])
    starts = tuple(range(0, count, SHARD_RECORDS))
    source.block_starts = source.shard_starts = starts
    entry = DatasetEntry(name="simulated")
    one = OpenDataset(entry=entry, source=source, rows=np.arange(count))
    mixture = Mixture(name="simulated", datasets=(one,), seed=0)
    known = np.load(folder / LENGTHS)
    found: dict[str, float] = {"records": count}
    found["order_cpu_seconds"], order = timed(lambda: Order(mixture, seed=0, epoch=0))
    lengths = known[order.rows % len(known)]
    found["pack_cpu_seconds"], packs = timed(lambda: pack(lengths, max_tokens=MAX_TOKENS))
    found["packs"] = len(packs)
    found["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return found


def make_reader(shards: Path):  # noqa: ANN201 - imported below, so that help is quick
    """Open the shards as training does at 0.5B geometry, with the tokenizer of tiny."""
    from onevision.checkpoint.hub import BUNDLED
    from onevision.data.mixture import open_mixture
    from onevision.data.samples import SampleReader
    from onevision.inputs.processor import Processor
    from onevision.inputs.tokenizer import Tokenizer
    from onevision.known_models import TINY

    tokenizer = Tokenizer.from_directory(BUNDLED["tiny"])
    return SampleReader(
        mixture=open_mixture(shards),
        processor=Processor(TINY.inputs, tokenizer),
        max_tokens=MAX_TOKENS,
    )


def extrapolate(planning: dict[str, float], start: dict[str, float]) -> dict[str, float]:
    """Return what TARGET records take, in proportion to the largest measurements."""
    found: dict[str, float] = {"records": TARGET}
    for one in (planning, start):
        factor = TARGET / one["records"]
        scaled = {n: round(factor * v) for n, v in one.items() if n != "records" and "ers" not in n}
        found |= scaled
    for number in WORKERS:
        found[f"plan_hours_{number}_workers"] = round(found["plan_cpu_seconds"] / 3600 / number, 2)
    return found


def timed(work):  # noqa: ANN001, ANN201 - of any type
    """Return the processor seconds that something took in this process, and its result."""
    began = time.process_time()
    result = work()
    return round(time.process_time() - began, 2), result


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Measure in processes of their own, extrapolate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--planned", type=int, default=100_000)
    parser.add_argument("--records", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--workers", type=int, nargs="*", default=[])
    parser.add_argument("--output", "-o", type=Path)
    told = parser.parse_args()
    if told.planned < SHARD_RECORDS or told.planned % SHARD_RECORDS:
        parser.error(f"--planned is a multiple of {SHARD_RECORDS:,}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        planning = in_process(measure_planning, folder, told.planned, told.workers)
        starts = [in_process(measure_start, folder, count) for count in sorted(told.records)]
    target = extrapolate(planning, starts[-1])
    print(json.dumps(target))
    if told.output is not None:
        machine = f"{os.cpu_count()} cores, {platform.machine()}"
        result = {"machine": machine, "planning": planning, "starts": starts, "target": target}
        told.output.write_text(json.dumps(result, indent=1) + "\n")


def in_process(work, *arguments):  # noqa: ANN001, ANN002, ANN201 - of any type
    """Return what something returns in a process of its own, and print it."""
    with ProcessPoolExecutor(1, mp_context=mp.get_context("spawn")) as pool:
        found = pool.submit(work, *arguments).result()
    print(json.dumps(found), flush=True)
    return found


if __name__ == "__main__":
    main()
