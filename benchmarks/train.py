"""Is a training step fast, and does it hold little? Ours against the plain way, same samples.

    python benchmarks/train.py                     tokens/s and peak memory, bf16 and fp32
    python benchmarks/train.py --profile           where the time of our step goes
    python benchmarks/train.py --shape 0.5b        the same at 0.5B, where memory allows it
    python benchmarks/train.py --device cuda --shape 7b --compile --recompute
                                                   ours alone: tokens/s, MFU, memory

The plain way is what most fine-tuning scripts do: transformers' model in training mode with its own
loss, samples padded on the right to the longest of a batch, torch's AdamW. Ours packs the same
samples into rows. Both start from the same weights, train all parts in the same precision (bf16:
autocast over fp32 weights) and take optimiser steps on the same 16 samples. Losses are compared
first, sample by sample. Every timing is a process of its own; the ways take turns. Where cores are
shared, trust the seconds of `--threads 1` that the processor itself has counted.

transformers stacks the videos of a batch, so all have four frames. Its logits of a batch exist
together, 14 bytes each at the peak in bf16: eight padded samples of 2,000 tokens need 34 GB. Where
that does not fit, `--plain-batch` makes batches smaller, whose gradients it adds up; smaller
batches hold less padding and less memory, so this errs in the plain way's favour.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from onevision.anyres import Layout
    from onevision.batch import TrainingBatch
    from onevision.config import ModelConfig
    from onevision.inputs.processor import Example

PACK_TOKENS, PLAIN_BATCH, SEED = 8192, 8, 0
SYSTEM_TOKENS, FIRST_CONTROL_ID, VIDEO_ID = 14, 151643, 151647
LEARNING_RATE, MAX_NORM = 1e-4, 1.0
# Relative difference of a sample's loss in fp32.
TOLERANCE = 1e-4
BASE, RESULTS = "benchmark", Path(__file__).parent / "results"


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A sample of the mix: sizes of its pictures or frames of its video, tokens of its words."""

    prompt: int
    answer: int
    images: tuple[tuple[int, int], ...] = ()  # width, height
    frames: int = 0


PAIR = ((640, 480), (300, 400))
# One optimiser step: four text-only samples, six single images of two or three crops, three pairs
# of images, three videos; answers of 5 to 150 tokens.
ONEVISION_MIXED_16 = (
    Planned(prompt=40, answer=150),
    Planned(prompt=25, answer=60),
    Planned(prompt=120, answer=100),
    Planned(prompt=15, answer=5),
    Planned(prompt=12, answer=5, images=((384, 384),)),
    Planned(prompt=20, answer=150, images=((320, 240),)),
    Planned(prompt=60, answer=20, images=((300, 100),)),
    Planned(prompt=30, answer=80, images=((500, 200),)),
    Planned(prompt=15, answer=40, images=((400, 300),)),
    Planned(prompt=45, answer=120, images=((480, 160),)),
    Planned(prompt=40, answer=30, images=PAIR),
    Planned(prompt=15, answer=10, images=PAIR),
    Planned(prompt=25, answer=100, images=PAIR),
    Planned(prompt=20, answer=60, frames=4),
    Planned(prompt=50, answer=15, frames=4),
    Planned(prompt=10, answer=120, frames=4),
)


def shape_named(name: str) -> "ModelConfig":
    """Return an architecture; the benchmark's own has the released geometry at small widths."""
    from onevision.config import LanguageConfig, ModelConfig, VisionConfig
    from onevision.known_models import ARCHITECTURES

    if name != BASE:
        return ARCHITECTURES[name]
    return ModelConfig(
        vision=VisionConfig(hidden_size=384, intermediate_size=1536, num_layers=4, num_heads=6),
        language=LanguageConfig(
            hidden_size=256, intermediate_size=704, num_layers=8, num_heads=4, num_kv_heads=2
        ),
    )


def draw(step: int, config: "ModelConfig") -> list["Example"]:
    """Draw the samples of a step: the mix in another order, with other pixels and ids."""
    import numpy as np
    import torch

    from onevision.inputs.chat import IGNORE
    from onevision.inputs.processor import Example

    rng = np.random.default_rng([SEED, step])
    examples = []
    for number in rng.permutation(len(ONEVISION_MIXED_16)):
        sample = ONEVISION_MIXED_16[number]
        layouts = layouts_of(sample, config)
        visual = sum(layout.num_tokens for layout in layouts)
        length = SYSTEM_TOKENS + visual + sample.prompt + sample.answer
        ids = torch.from_numpy(rng.integers(0, FIRST_CONTROL_ID, length))
        visual_mask = torch.zeros(length, dtype=torch.bool)
        visual_mask[SYSTEM_TOKENS : SYSTEM_TOKENS + visual] = True
        ids[visual_mask] = config.inputs.image_token_id
        labels = ids.clone()
        labels[: -sample.answer] = IGNORE
        shape = (sum(la.num_crops for la in layouts), 3, *[config.vision.image_size] * 2)
        crops = torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
        examples.append(
            Example(
                input_ids=ids, visual_mask=visual_mask, labels=labels, crops=crops, layouts=layouts
            )
        )
    return examples


def layouts_of(sample: Planned, config: "ModelConfig") -> tuple["Layout", ...]:
    """Plan the media of a sample."""
    from onevision.anyres import plan, plan_video

    if sample.frames:
        return (plan_video(num_frames=sample.frames, rule=config.inputs.video),)
    rule = config.inputs.image if len(sample.images) == 1 else config.inputs.multi_image
    return tuple(plan(width=width, height=height, rule=rule) for width, height in sample.images)


def precision_context(precision: str, device: str) -> AbstractContextManager[object]:
    """Return what makes the arithmetic of a step bf16, or nothing."""
    import torch

    return torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext()


class Ours:
    """Samples packed into rows, our network, our loss."""

    def __init__(self, network: "torch.nn.Module", options: argparse.Namespace) -> None:
        import torch

        from onevision.train.learner import make_learner
        from onevision.train.optim import freeze_what_stays, make_optimizer
        from onevision.train.parallel import Processes
        from onevision.train.recipes import Stage

        self.options = options
        stage = Stage(name=BASE, learning_rate=LEARNING_RATE, vision_learning_rate=LEARNING_RATE)
        freeze_what_stays(network, stage)
        processes = Processes(device=torch.device(options.device))
        self.learner = make_learner(
            network, processes, recompute=options.recompute, compiled=options.compile
        )
        self.optimizer = make_optimizer(network, stage)
        self.parameters = [p for g in self.optimizer.param_groups for p in g["params"]]

    def batches(self, examples: Sequence["Example"]) -> list["TrainingBatch"]:
        """Pack samples into rows; with --padded, pad them as the plain way does."""
        from onevision.data.packing import collate, join, share_prefix
        from onevision.data.packs import batches, pack

        rows = [share_prefix([example]) for example in examples]
        lengths = [len(row) for row in rows]
        inputs = shape_named(self.options.shape).inputs
        if self.options.padded:
            groups = batches(lengths, batch_size=self.options.plain_batch)
            return [collate([rows[i] for i in groups[n]], inputs) for n in range(len(groups))]
        groups = pack(lengths, max_tokens=PACK_TOKENS)
        return [collate([join([rows[i] for i in groups[n]])], inputs) for n in range(len(groups))]

    def losses(self, examples: Sequence["Example"]) -> list[float]:
        """Return the loss of each sample, computed in the packs of training."""
        import torch

        from onevision.data.packing import share_prefix
        from onevision.data.packs import pack

        lengths = [len(share_prefix([example])) for example in examples]
        packs = pack(lengths, max_tokens=PACK_TOKENS)
        found = [0.0] * len(examples)
        for number, batch in enumerate(self.batches(examples)):
            with torch.no_grad(), precision_context(self.options.precision, "cpu"):
                _, losses = self.learner(batch, torch.ones(len(batch.targets)))
            counts = [int((examples[i].labels >= 0).sum()) for i in packs[number]]
            for i, own in zip(packs[number], losses.split(counts), strict=True):
                found[i] = float(own.mean())
        return found

    def step(self, batches: Sequence["TrainingBatch"]) -> float:
        """Take an optimiser step; returns its loss."""
        import torch

        device, total, loss = self.options.device, sum(len(b.targets) for b in batches), 0.0
        for batch in batches:
            weights = torch.full((len(batch.targets),), 1 / total, device=device)
            with precision_context(self.options.precision, device):
                one, _ = self.learner(batch.to(device), weights)
            one.backward()
            loss += float(one.detach())
        torch.nn.utils.clip_grad_norm_(self.parameters, MAX_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss


class Plain:
    """Padded batches, transformers' model and loss, torch's AdamW."""

    def __init__(self, directory: Path, options: argparse.Namespace) -> None:
        import torch
        import transformers

        self.options = options
        self.model = transformers.LlavaOnevisionForConditionalGeneration.from_pretrained(
            directory, dtype=torch.float32, attn_implementation="sdpa"
        ).train()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=LEARNING_RATE, weight_decay=0.0
        )

    def batches(self, examples: Sequence["Example"]) -> list[dict]:
        """Pad every `plain_batch` samples to the longest, in the form transformers takes."""
        size = self.options.plain_batch
        inputs = shape_named(self.options.shape).inputs
        return [
            padded(examples[i : i + size], mean=inputs.image_mean, std=inputs.image_std)
            for i in range(0, len(examples), size)
        ]

    def losses(self, examples: Sequence["Example"]) -> list[float]:
        """Return the loss of each sample, computed in the batches of training."""
        import torch
        import torch.nn.functional as F

        found = []
        for batch in self.batches(examples):
            labels = batch.pop("labels")
            with torch.no_grad(), precision_context(self.options.precision, "cpu"):
                logits = self.model(**batch).logits
            for row, own in zip(logits, labels, strict=True):
                scored = own[1:] >= 0
                found.append(float(F.cross_entropy(row[:-1][scored].float(), own[1:][scored])))
        return found

    def step(self, batches: Sequence[dict]) -> float:
        """Take an optimiser step, its gradients added up batch by batch; returns its loss."""
        import torch

        total, loss = sum(int((b["labels"] >= 0).sum()) for b in batches), 0.0
        for batch in batches:
            with precision_context(self.options.precision, "cpu"):
                one = self.model(**batch, num_items_in_batch=total, use_cache=False).loss
            one.backward()
            loss += float(one.detach())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss


def padded(examples: Sequence["Example"], *, mean: tuple, std: tuple) -> dict:
    """Pad samples on the right, and give their media as transformers takes them."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    from onevision.anyres import VideoLayout
    from onevision.inputs.chat import IGNORE
    from onevision.inputs.image import normalise

    images, sizes, counts, videos, ids = [], [], [], [], []
    for example in examples:
        pixels = normalise(example.crops, mean=mean, std=std)
        own = example.input_ids.clone()
        if any(isinstance(layout, VideoLayout) for layout in example.layouts):
            videos.append(pixels)
            own[example.visual_mask] = VIDEO_ID
        elif example.layouts:
            images += pixels.split([layout.num_crops for layout in example.layouts])
            sizes += [[layout.height, layout.width] for layout in example.layouts]
            counts.append(len(example.layouts))
        ids.append(own)
    batch = {
        "input_ids": pad_sequence(ids, batch_first=True),
        "attention_mask": pad_sequence([torch.ones_like(i) for i in ids], batch_first=True),
        "labels": pad_sequence(
            [e.labels for e in examples], batch_first=True, padding_value=IGNORE
        ),
    }
    if images:
        most = max(len(crops) for crops in images)
        batch["pixel_values"] = torch.stack(
            [torch.cat([c, c.new_zeros(most - len(c), *c.shape[1:])]) for c in images]
        )
        batch["image_sizes"] = torch.tensor(sizes)
        batch["batch_num_images"] = torch.tensor(counts)
    if videos:
        batch["pixel_values_videos"] = torch.stack(videos)
    return batch


def write_weights(directory: Path, config: "ModelConfig") -> None:
    """Write random weights as transformers does, for both ways to read."""
    import torch
    import transformers

    from onevision.checkpoint.hub import BUNDLED

    vision, language = config.vision, config.language
    theirs = transformers.LlavaOnevisionConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": vision.hidden_size,
            "intermediate_size": vision.intermediate_size,
            "num_hidden_layers": vision.num_layers,
            "num_attention_heads": vision.num_heads,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "vision_use_head": False,
        },
        text_config={
            "model_type": "qwen2",
            "hidden_size": language.hidden_size,
            "intermediate_size": language.intermediate_size,
            "num_hidden_layers": language.num_layers,
            "num_attention_heads": language.num_heads,
            "num_key_value_heads": language.num_kv_heads,
            "vocab_size": language.vocab_size,
            "rope_theta": language.rope_theta,
            "max_position_embeddings": language.max_positions,
            "tie_word_embeddings": language.tie_embeddings,
        },
        image_token_index=config.inputs.image_token_id,
        video_token_index=VIDEO_ID,
        tie_word_embeddings=language.tie_embeddings,
    )
    torch.manual_seed(SEED)
    transformers.LlavaOnevisionForConditionalGeneration(theirs).save_pretrained(directory)
    shutil.copy(BUNDLED["tiny"] / "tokenizer.json", directory)


def run_way(options: argparse.Namespace) -> dict[str, object]:
    """Compare or time one way, in this process."""
    import torch

    torch.set_num_threads(options.threads)
    if options.way == "plain":
        way = Plain(options.path, options)
    else:
        from onevision.checkpoint.load import inspect, load_network

        way = Ours(load_network(inspect(options.path), dtype=torch.float32), options)
    config = shape_named(options.shape)
    if options.losses:
        return {"losses": way.losses(draw(0, config))}
    return timed(way, options, config)


def timed(way: Ours | Plain, options: argparse.Namespace, config: "ModelConfig") -> dict:
    """Take one step to warm up and some on the clock; what the loader does is not on it."""
    losses, seconds, cpu_seconds = [], [], []
    for number in range(options.steps + 1):
        batches = way.batches(draw(number, config))
        began, cpu_began = time.perf_counter(), time.process_time()
        losses.append(way.step(batches))
        seconds.append(time.perf_counter() - began)
        cpu_seconds.append(time.process_time() - cpu_began)
    return {
        "losses": losses,
        "seconds": seconds[1:],
        "cpu_seconds": cpu_seconds[1:],
        "peak_mib": peak_mib(),
    }


def peak_mib() -> float:
    """Peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(options: argparse.Namespace, way: str, precision: str, *more: str) -> dict:
    """Run one way in a process of its own, so that its memory is its own."""
    command = [
        *(sys.executable, __file__, "--way", way, "--precision", precision),
        *("--path", str(options.path), "--shape", options.shape, "--steps", str(options.steps)),
        *("--plain-batch", str(options.plain_batch), "--threads", str(options.threads)),
        *(["--recompute"] if options.recompute else []),
        *(["--compile"] if options.compile else []),
        *more,
    ]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(options: argparse.Namespace) -> dict:
    """Compare losses, then let the ways take turns; returns all figures."""
    plain, ours = (measured(options, w, "fp32", "--losses")["losses"] for w in ("plain", "ours"))
    difference = max(abs(a - b) / b for a, b in zip(ours, plain, strict=True))
    assert difference < TOLERANCE, f"losses of samples differ by {difference:.2e}"
    print(f"{len(ours)} samples: the same loss in fp32, to {difference:.1e} relative", flush=True)
    results: dict = {"relative_loss_difference": difference}
    for precision in options.precisions:
        rounds = []
        for _ in range(options.rounds):
            pair = {way: measured(options, way, precision) for way in ("plain", "ours")}
            rounds.append(pair)
            print(precision, {w: [round(s, 2) for s in r["seconds"]] for w, r in pair.items()})
        results[precision] = summary(rounds)
        print(table(precision, results[precision]), flush=True)
    return results


def summary(rounds: list[dict]) -> dict:
    """Put the rounds of both ways into a few numbers."""
    labels = sum(sample.answer for sample in ONEVISION_MIXED_16)
    found: dict = {}
    for way in ("plain", "ours"):
        seconds = [s for one in rounds for s in one[way]["seconds"]]
        busy = [s for one in rounds for s in one[way]["cpu_seconds"]]
        found[way] = {
            "supervised_tokens_per_second": labels / median(seconds),
            "supervised_tokens_per_cpu_second": labels / median(busy),
            "step_seconds": seconds,
            "step_cpu_seconds": busy,
            "peak_mib": max(one[way]["peak_mib"] for one in rounds),
            "losses": rounds[0][way]["losses"],
        }
    for clock in ("seconds", "cpu_seconds"):
        ratios = [median(r["plain"][clock]) / median(r["ours"][clock]) for r in rounds]
        found[f"{clock}_ratio"] = median(ratios)
        found[f"{clock}_ratio_of_rounds"] = ratios
    found["memory_ratio"] = found["ours"]["peak_mib"] / found["plain"]["peak_mib"]
    return found


def table(precision: str, found: dict) -> str:
    """Return the figures as lines."""
    lines = [f"{precision:<6} supervised tokens/s  s/step  CPU s/step  peak MiB  last loss"]
    for way in ("plain", "ours"):
        one = found[way]
        lines.append(
            f"{way:<6} {one['supervised_tokens_per_second']:19.1f} "
            f"{median(one['step_seconds']):7.1f} {median(one['step_cpu_seconds']):11.1f} "
            f"{one['peak_mib']:9.0f} {one['losses'][-1]:10.5f}"
        )
    for clock in ("seconds", "cpu_seconds"):
        each = ", ".join(f"{ratio:.2f}" for ratio in found[f"{clock}_ratio_of_rounds"])
        lines.append(f"{clock}: {found[f'{clock}_ratio']:.2f} x less (rounds: {each})")
    lines.append(f"memory: {found['memory_ratio']:.2f} of the plain way's")
    return "\n".join(lines)


def bytes_needed(options: argparse.Namespace) -> float:
    """Return about what the plain way holds: weights, gradient, moments, logits at their peak."""
    import torch

    from onevision.model.llava import LlavaNetwork

    config = shape_named(options.shape)
    with torch.device("meta"):
        network = LlavaNetwork(config)
    longest = max(len(example.input_ids) for example in draw(0, config))
    logits = options.plain_batch * longest * config.language.vocab_size
    return 16 * sum(p.numel() for p in network.parameters()) + 14 * logits + 2**30


def bytes_available() -> float:
    """Return the memory that this machine has left."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 1024 * next(int(li.split()[1]) for li in lines if li.startswith("MemAvailable"))


def profile(options: argparse.Namespace) -> None:
    """Print where the time of our step goes."""
    import torch

    from onevision.checkpoint.load import inspect, load_network

    way = Ours(load_network(inspect(options.path), dtype=torch.float32), options)
    config = shape_named(options.shape)
    way.step(way.batches(draw(0, config)))
    batches = way.batches(draw(1, config))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        way.step(batches)
    print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=25))


def on_accelerator(options: argparse.Namespace) -> dict:
    """Time our step on a CUDA device, from random weights, with bf16 arithmetic."""
    import torch

    from onevision.model.llava import LlavaNetwork
    from onevision.train.devices import device_named

    config = shape_named(options.shape)
    torch.manual_seed(SEED)
    with torch.device(options.device):
        network = LlavaNetwork(config)
    way, seconds = Ours(network, options), []
    for number in range(options.steps + 1):
        batches = [batch.to(options.device) for batch in way.batches(draw(number, config))]
        torch.cuda.synchronize()
        began = time.perf_counter()
        way.step(batches)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    step, samples = median(seconds[1:]), draw(0, config)
    return {
        "tokens_per_second": sum(len(s.input_ids) for s in samples) / step,
        "supervised_tokens_per_second": sum(s.answer for s in ONEVISION_MIXED_16) / step,
        "mfu": model_operations(config) / step / device_named(options.kind).peak_flops,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
        "step_seconds": seconds[1:],
    }


def model_operations(config: "ModelConfig") -> float:
    """Return the operations of a step that every way must take: forwards, and twice backwards."""
    from onevision.train.cost import language_flops, vision_flops

    token, pair = language_flops(config.language)
    head = 2.0 * config.language.hidden_size * config.language.vocab_size
    total = 0.0
    for example in draw(0, config):
        length, labels = len(example.input_ids), int((example.labels >= 0).sum())
        total += len(example.crops) * sum(vision_flops(config.vision))
        total += length * token + length**2 / 2 * pair + labels * head
    return 3 * total


def arguments() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=(BASE, "0.5b", "7b"), default=BASE)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--kind", default="h200", help="the device whose peak MFU is a share of")
    parser.add_argument("--steps", type=int, default=2, help="steps timed in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--precisions", nargs="+", default=["bf16", "fp32"])
    parser.add_argument("--plain-batch", type=int, default=PLAIN_BATCH)
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--padded", action="store_true", help="ours, without packing")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--output", type=Path)
    for inner in ("--way", "--path", "--precision"):
        parser.add_argument(inner, default="bf16" if inner == "--precision" else None)
    parser.add_argument("--losses", action="store_true")
    return parser


def main() -> None:
    """Measure, and print a table."""
    options = arguments().parse_args()
    if options.way:
        options.path = Path(options.path)
        print(json.dumps(run_way(options)))
        return
    if options.device == "cuda":
        print(json.dumps(on_accelerator(options), indent=2))
        return
    needed, free = bytes_needed(options) / 2**30, bytes_available() / 2**30
    if needed > free and not options.profile:
        sys.exit(
            f"the plain way needs about {needed:.0f} GiB in batches of {options.plain_batch}, "
            f"{free:.0f} GiB are free; choose a smaller --plain-batch, or more memory"
        )
    with tempfile.TemporaryDirectory() as folder:
        options.path = Path(folder)
        write_weights(options.path, shape_named(options.shape))
        if options.profile:
            profile(options)
            return
        results = compare(options)
    results |= {
        "command": " ".join(["python", "benchmarks/train.py", *sys.argv[1:]]),
        "mix": [asdict(sample) for sample in ONEVISION_MIXED_16],
        "plain_batch": options.plain_batch,
        "threads": options.threads,
        "load_average": os.getloadavg(),
    }
    output = options.output or RESULTS / "train-cpu.json"
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
