"""Is loading fast, and does it hold little? Our loader against the plain way, same files, same run.

    python benchmarks/data.py                 samples/s and peak memory, 20,000 samples
    python benchmarks/data.py --records       memory and opening time of a 1,000,000-record mixture
    python benchmarks/data.py --families      samples/s of every procedural family on two processes
    python benchmarks/data.py --packing       fill of packs at 0.5B geometry

The plain way is what most training scripts do: json.load, a torch Dataset that opens an image and
runs transformers' image processor, and a collate that pads to the longest of eight. Outputs are
compared first: the same ids and the same pixels for the same rows.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NUM_SAMPLES, BATCH, WORKERS = 20_000, 8, 2
PACK_TOKENS = 16384
IMAGE_ID = 151646
WIDTHS = (224, 320, 336, 448)


def write_mixture(directory: Path, count: int) -> Path:
    """Write `count` LLaVA records about 500 drawn pictures; returns the JSON's path."""
    from onevision.synth.worlds.shapes import scenes

    rng = random.Random(0)
    pictures = []
    for number in range(500):
        sample = scenes.make("train", number)
        name = f"{number}.jpg"
        side = rng.choice(WIDTHS)
        sample.media[0].source.resize((side, side * 3 // 4)).save(directory / name, quality=85)
        pictures.append((name, sample))
    records = []
    for number in range(count):
        name, sample = pictures[number % len(pictures)]
        question = rng.choice(sample.questions)
        turns = [
            {"from": "human", "value": f"<image>\n{question.question}"},
            {"from": "gpt", "value": f"{question.answer}. {sample.caption}"},
        ]
        records.append({"id": str(number), "image": name, "conversations": turns})
    path = directory / "mixture.json"
    path.write_text(json.dumps(records))
    return path


def ours(path: Path, count: int) -> dict[str, float]:
    """Plan, pack and load `count` samples; the plan's time is counted apart."""
    import torch

    from onevision.data.loader import Loader
    from onevision.data.mixture import open_mixture
    from onevision.data.order import Order
    from onevision.data.packing import join
    from onevision.data.packs import pack
    from onevision.data.planner import make_plan
    from onevision.data.quarantine import Quarantine
    from onevision.data.samples import SampleReader
    from onevision.inputs.image import normalise
    from onevision.inputs.processor import Processor
    from onevision.inputs.tokenizer import Tokenizer
    from onevision.known_models import ONEVISION_0_5B

    tokenizer = Tokenizer.from_directory(tokenizer_directory())
    reader = SampleReader(
        mixture=open_mixture(path),
        processor=Processor(ONEVISION_0_5B.inputs, tokenizer),
        max_tokens=PACK_TOKENS,
    )
    began = time.perf_counter()
    plan = make_plan(reader, num_workers=WORKERS)
    planned = time.perf_counter() - began
    order = Order(plan.restrict(reader.mixture), seed=0, epoch=0)
    packs = pack(plan.lengths(order), max_tokens=PACK_TOKENS)
    quarantine = Quarantine(directory=None, num_samples=len(order))
    seen = 0
    config = reader.processor.config
    # A pack holds no more crops than fit with the fewest tokens each; kept from pack to pack.
    pixels = torch.empty(PACK_TOKENS // 196, 3, 384, 384)
    began = time.perf_counter()
    loader = Loader(
        reader=reader, order=order, packs=packs, quarantine=quarantine, num_workers=WORKERS
    )
    for loaded in loader.load(range(len(packs))):
        seen += len(loaded.rows)
        crops = join(loaded.rows).crops
        # The plain way normalises too.
        normalise(crops, mean=config.image_mean, std=config.image_std, out=pixels[: len(crops)])
        if seen >= count:
            break
    seconds = time.perf_counter() - began
    return {
        "samples_per_second": seen / seconds,
        "planning_seconds": planned,
        "fill": packs.fill,
        "peak_mib": peak_mib(),
    }


def plain(path: Path, count: int) -> dict[str, float]:
    """Load `count` samples the plain way."""
    import torch
    from torch.utils.data import DataLoader

    dataset = plain_dataset(path)
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(
        dataset, batch_size=BATCH, shuffle=True, num_workers=WORKERS, collate_fn=pad_to_longest,
        generator=generator,
    )  # fmt: skip
    seen = places = used = 0
    began = time.perf_counter()
    for batch in loader:
        seen += len(batch["input_ids"])
        places += batch["input_ids"].numel()
        used += int(batch["num_tokens"].sum())
        if seen >= count:
            break
    seconds = time.perf_counter() - began
    return {"samples_per_second": seen / seconds, "fill": used / places, "peak_mib": peak_mib()}


def plain_dataset(path: Path):  # noqa: ANN201 a torch Dataset
    """Return the records as a torch Dataset over transformers' processor."""
    import torch
    from PIL import Image
    from torch.utils.data import Dataset
    from transformers import AutoTokenizer
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
        LlavaOnevisionImageProcessorPil,
    )

    from onevision.anyres import AnyRes, plan

    class Plain(Dataset):
        def __init__(self) -> None:
            self.records = json.loads(path.read_text())
            half = [0.5, 0.5, 0.5]
            self.images = LlavaOnevisionImageProcessorPil(image_mean=half, image_std=half)
            self.tokenizer = AutoTokenizer.from_pretrained(tokenizer_directory())

        def __len__(self) -> int:
            return len(self.records)

        def __getitem__(self, row: int) -> dict:
            record = self.records[row]
            image = Image.open(path.parent / record["image"]).convert("RGB")
            pixels = self.images(image, return_tensors="pt")["pixel_values"]
            count = plan(width=image.width, height=image.height, rule=AnyRes()).num_tokens
            before, after = chat(record).split("<image>")
            ids = [self.tokenizer(t)["input_ids"] for t in (before, after)]
            ids = torch.tensor([[*ids[0], *[IMAGE_ID] * count, *ids[1]]])
            return {"input_ids": ids, "pixel_values": pixels}

    return Plain()


def chat(record: dict) -> str:
    """Render a record as the reference does."""
    roles = {"human": "user", "gpt": "assistant"}
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    return system + "".join(
        f"<|im_start|>{roles[t['from']]}\n{t['value']}<|im_end|>\n" for t in record["conversations"]
    )


def pad_to_longest(samples: list) -> dict:
    """Stack samples, padded on the right."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    ids = [s["input_ids"][0] for s in samples]
    crops = [s["pixel_values"][0] for s in samples]
    most = max(len(c) for c in crops)
    pixels = torch.stack([torch.cat([c, c.new_zeros(most - len(c), *c.shape[1:])]) for c in crops])
    return {
        "input_ids": pad_sequence(ids, batch_first=True),
        "pixel_values": pixels,
        "num_tokens": torch.tensor([len(i) for i in ids]),
    }


def records(count: int) -> dict[str, float]:
    """Open and shuffle a mixture of `count` text records; peak memory of this process."""
    from onevision.data.mixture import open_mixture
    from onevision.data.order import Order

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.json"
        turns = [{"from": "human", "value": "word " * 40}, {"from": "gpt", "value": "word " * 40}]
        line = json.dumps({"id": "0", "conversations": turns})
        with path.open("w") as file:
            file.write("[" + line)
            for _ in range(count - 1):
                file.write(",\n" + line)
            file.write("]")
        began = time.perf_counter()
        open_mixture(path)
        first = time.perf_counter() - began
        began = time.perf_counter()
        mixture = open_mixture(path)
        order = Order(mixture, seed=0, epoch=0)
        again = time.perf_counter() - began
        for position in range(0, count, count // 1000):
            mixture.datasets[0].source.read(int(order.rows[position]))
        return {
            "file_mib": path.stat().st_size / 2**20,
            "first_opening_seconds": first,
            "opening_and_order_seconds": again,
            "peak_mib": peak_mib(),
        }


def families(count: int = 300) -> dict[str, float]:
    """Samples a second of every family, drawn on the fly by two processes."""
    from concurrent.futures import ProcessPoolExecutor
    from functools import partial

    from onevision.synth.families import FAMILIES

    speeds = {}
    with ProcessPoolExecutor(WORKERS) as pool:
        for name in FAMILIES:
            work = partial(draw, name, count)
            list(pool.map(work, [10**6] * WORKERS))  # fills the caches of fonts and shapes
            began = time.perf_counter()
            list(pool.map(work, [0] * WORKERS))
            speeds[name] = WORKERS * count / (time.perf_counter() - began)
    return speeds


def draw(name: str, count: int, first: int) -> None:
    """Draw samples and throw them away."""
    from onevision.synth.families import family_named

    make = family_named(name)
    for index in range(first, first + count):
        make("train", index)


def packing(count: int = 200_000) -> dict[str, float]:
    """Fill, and the padding saved, on lengths distributed as OneVision's are."""
    import numpy as np

    from onevision.data.packs import pack
    from tests.data.test_packs import onevision_like_lengths

    lengths = onevision_like_lengths(count)
    batches = lengths[: count // BATCH * BATCH].reshape(-1, BATCH)
    padded = BATCH * batches.max(axis=1).sum()
    results = {"padded_fill": float(batches.sum() / padded)}
    for max_tokens in (32768, 16384):
        began = time.perf_counter()
        packs = pack(lengths, max_tokens=max_tokens)
        seconds = time.perf_counter() - began
        least = int(np.ceil(lengths.sum() / max_tokens))
        results[f"fill_{max_tokens}"] = packs.fill
        results[f"packs_over_optimal_{max_tokens}"] = len(packs) / least
        results[f"samples_per_second_{max_tokens}"] = count / seconds
    return results


def same_outputs(path: Path) -> None:
    """Both ways give the same ids and the same pixels."""
    import torch

    from onevision.data.mixture import open_mixture
    from onevision.data.records import to_conversation
    from onevision.inputs.processor import Processor
    from onevision.inputs.tokenizer import Tokenizer
    from onevision.known_models import ONEVISION_0_5B

    dataset, mixture = plain_dataset(path), open_mixture(path)
    processor = Processor(ONEVISION_0_5B.inputs, Tokenizer.from_directory(tokenizer_directory()))
    for row in range(0, 40, 5):
        theirs = dataset[row]
        told = to_conversation(mixture.datasets[0].source.read(row))
        mine = processor(told)
        assert torch.equal(theirs["input_ids"], mine.input_ids), row
        difference = (theirs["pixel_values"][0] - mine.pixel_values).abs().max()
        assert difference < 1e-5, (row, difference)


def tokenizer_directory() -> Path:
    """Return where a real Qwen2 tokenizer lies."""
    beside = Path(__file__).parents[2] / "shared" / "real"
    return Path(os.environ.get("ONEVISION_REAL_DATA", beside)) / "tokenizer"


def peak_mib() -> float:
    """Peak memory of this process and the largest of its finished workers."""
    from onevision.train.report.metrics import peak_resident_bytes

    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return (peak_resident_bytes() + workers) / 2**20


def measured(*arguments: str) -> dict[str, float]:
    """Run one way in a process of its own, so that its memory is its own."""
    command = [sys.executable, __file__, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # the workers keep both cores busy
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", action="store_true")
    parser.add_argument("--families", action="store_true")
    parser.add_argument("--packing", action="store_true")
    parser.add_argument("--count", type=int, default=2000, help="samples timed of each way")
    parser.add_argument("--way", choices=("ours", "plain", "same"))
    parser.add_argument("--path", type=Path)
    options = parser.parse_args()
    if options.records:
        print(json.dumps({k: round(v, 2) for k, v in records(1_000_000).items()}))
    elif options.families:
        for name, speed in families().items():
            print(f"{name:<18} {speed:8.0f} samples/s")
    elif options.packing:
        print(json.dumps({k: round(v, 4) for k, v in packing().items()}))
    elif options.way == "same":
        same_outputs(options.path)
        print("{}")
    elif options.way:
        result = {"ours": ours, "plain": plain}[options.way](options.path, options.count)
        print(json.dumps({k: round(v, 3) for k, v in result.items()}))
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = write_mixture(Path(folder), NUM_SAMPLES)
            measured("--way", "same", "--path", str(path))
            print("outputs equal: ids bit by bit, pixels within 1e-5")
            results = {}
            for way in ("plain", "ours"):
                results[way] = measured(
                    "--way", way, "--path", str(path), "--count", str(options.count)
                )
                print(way, results[way], flush=True)
            ratio = results["ours"]["samples_per_second"] / results["plain"]["samples_per_second"]
            print(f"ours / plain: {ratio:.2f} x samples/s")


if __name__ == "__main__":
    main()
