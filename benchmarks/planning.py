"""What does it take to begin with 100 million records? Measured at fewer, and extrapolated.

    python benchmarks/planning.py --records 100000 1000000 --workers 1 2 -o planning.json

Tar shards of 10,000 records (a small JPEG and a question each) are linked as often as needed, so
that the disk holds one of them; each is indexed and planned as if it were alone. For each number of
records: the index, the plan, and what follows at every start (opening again, reading the plan, the
order and the packs of an epoch), in processor seconds of one process, which other work on the
machine hardly changes; the seconds of planning by the number of workers, which it does; bytes on
disk; and the most memory that the process held. 100 million take the largest measurement times what
is missing, and so many workers share the plan.
"""

import argparse
import io
import json
import os
import platform
import resource
import tarfile
import tempfile
import time
from pathlib import Path

SHARD_RECORDS = 10_000
TARGET = 100_000_000
MAX_TOKENS = 16384
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


def measure(folder: Path, shard: Path, count: int, workers: list[int]) -> dict[str, float]:
    """Measure everything about `count` records; `folder` is empty."""
    from onevision.data.order import Order
    from onevision.data.packs import pack
    from onevision.data.planner import make_plan

    shards = folder / "shards"
    shards.mkdir()
    for number in range(count // SHARD_RECORDS):
        os.link(shard, shards / f"{number:06}.tar")
    os.environ["ONEVISION_CACHE"] = str(folder / "cache")
    found: dict[str, float] = {"records": count}
    found["index_cpu_seconds"], reader = timed(lambda: make_reader(shards))
    found["index_bytes"] = size_of(folder / "cache" / "index")
    found["plan_cpu_seconds"], plan = timed(lambda: make_plan(reader, num_workers=0))
    found["plan_bytes"] = size_of(folder / "cache" / "plans")
    found["open_cpu_seconds"], reader = timed(lambda: make_reader(shards))
    found["reread_cpu_seconds"], plan = timed(lambda: make_plan(reader, num_workers=0))
    found["sent_bytes"] = len(plan.to_bytes())
    mixture = plan.restrict(reader.mixture)
    found["order_cpu_seconds"], order = timed(lambda: Order(mixture, seed=0, epoch=0))
    lengths = plan.lengths(order)
    found["pack_cpu_seconds"], packs = timed(lambda: pack(lengths, max_tokens=MAX_TOKENS))
    found["packs"] = len(packs)
    found["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for number in workers:
        began = time.perf_counter()
        make_plan(reader, num_workers=number, fresh=True)
        found[f"plan_seconds_{number}_workers"] = round(time.perf_counter() - began, 1)
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


def extrapolate(largest: dict[str, float]) -> dict[str, float]:
    """Return what TARGET records take, in proportion to the largest measurement."""
    factor = TARGET / largest["records"]
    scaled = {
        name: round(factor * value) for name, value in largest.items() if "workers" not in name
    }
    hours = factor * largest["plan_cpu_seconds"] / 3600
    shared = {f"plan_hours_{number}_workers": round(hours / number, 1) for number in WORKERS}
    return {**scaled, **shared, "extrapolated_from": largest["records"]}


def timed(work):  # noqa: ANN001, ANN201 - of any type
    """Return the processor seconds that something took in this process, and its result."""
    began = time.process_time()
    result = work()
    return round(time.process_time() - began, 2), result


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Measure, extrapolate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--output", "-o", type=Path)
    told = parser.parse_args()
    if any(count < SHARD_RECORDS or count % SHARD_RECORDS for count in told.records):
        parser.error(f"--records are multiples of {SHARD_RECORDS:,}")
    measured = []
    with tempfile.TemporaryDirectory() as name:
        shard = Path(name) / "shard.tar"
        write_shard(shard)
        for count in sorted(told.records):
            folder = Path(name) / str(count)
            folder.mkdir()
            measured.append(measure(folder, shard, count, told.workers))
            print(json.dumps(measured[-1]), flush=True)
    result = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "measured": measured,
        "target": extrapolate(measured[-1]),
    }
    print(json.dumps(result["target"]))
    if told.output is not None:
        told.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
