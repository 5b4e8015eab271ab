"""Do rewards teach tiny more than the same operations of supervised training?

    python -m benchmarks.reinforce run                  the three weakest families, three seeds
    python -m benchmarks.reinforce run --seeds 0        one seed; nothing is measured twice
    python -m benchmarks.reinforce table                what has been measured, as Markdown

The families are those that the embedded tiny answers worst of single pictures (docs/log.md): read
52 %, count_some 76 %, exists 76 %. From the same prompts of the training split, with the same rate
and batch, one run learns by GRPO, each prompt once, the other by supervision on the right answers
for as many epochs as the operations of the first allow: what it sampled, scored and learned. Both
are asked the same held-out questions as tiny before. Lines are added to
benchmarks/results/reinforce-cpu.json; each has its seconds, so a stopped run continues.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from onevision import load
from onevision.checkpoint.hub import BUNDLED
from onevision.checkpoint.load import inspect
from onevision.conversation import Image
from onevision.eval.heldout import HeldoutQuestion, run_items
from onevision.files import write_json, write_lines
from onevision.inputs.processor import Processor
from onevision.inputs.tokenizer import Tokenizer
from onevision.synth.sample import Question, Split, rng_for
from onevision.synth.worlds.shapes import scenes
from onevision.train.config import TrainConfig
from onevision.train.cost.devices import get_device_kind
from onevision.train.cost.plan import plan_training
from onevision.train.options import RunOptions
from onevision.train.reinforce.config import ReinforceConfig
from onevision.train.reinforce.data import read_rewarded
from onevision.train.reinforce.objective import make_reinforce
from onevision.train.reinforce.plan import count_prompts, plan_rollouts
from onevision.train.report.metrics import METRICS, read_metrics
from onevision.train.run import run_stage
from onevision.train.stage import Stage
from onevision.train.stages import FINETUNE, REINFORCE
from onevision.train.start import Starts

RESULTS = Path(__file__).parent / "results" / "reinforce-cpu.json"
FAMILIES = ("read", "count_some", "exists")
START = BUNDLED["tiny"]
# Of both ways of learning.
RATE, BATCH, MAX_TOKENS = 3e-5, 4, 4096
REWARDS = ReinforceConfig(max_new_tokens=12, steps_per_rollout=2)
Line = dict[str, Any]  # Any: JSON
IDENTITY = ("family", "seed", "way", "prompts", "questions")


def questions(family: str, split: Split, *, first: int) -> Iterator[tuple[Image, Question]]:
    """Yields one question of a family about each picture that has one."""
    for index in count(first):
        sample = scenes.make(split, index)
        own = [question for question in sample.questions if question.family == family]
        if own:
            picture = sample.media[0]
            assert isinstance(picture, Image), "scenes are pictures"
            yield picture, rng_for(split, f"reinforce/{family}", index).choice(own)


def run(options: argparse.Namespace) -> None:
    """Measures what has not been measured, seed by seed."""
    lines = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    known = {tuple(line[key] for key in IDENTITY) for line in lines}

    def add(line: Line) -> None:
        lines.append(line)
        write_json(RESULTS, lines)
        print(json.dumps(line), flush=True)

    common = {"prompts": options.prompts, "questions": options.questions}
    for seed in options.seeds:
        for family in options.families:
            for way in ("before", "rewards", "supervised"):
                told = {"family": family, "seed": 0 if way == "before" else seed, "way": way}
                told |= common
                if tuple(told[key] for key in IDENTITY) not in known:
                    add(told | measure(told, lines))
                    known.add(tuple(told[key] for key in IDENTITY))


def measure(told: Line, lines: Sequence[Line]) -> Line:
    """Learns one way, and asks the held-out questions."""
    began, learned = time.monotonic(), dict[str, Any]()
    with tempfile.TemporaryDirectory() as place:
        model = START
        if told["way"] != "before":
            write_prompts(Path(place), told)
            learn = by_rewards if told["way"] == "rewards" else by_supervision
            learned = learn(Path(place), told, lines)
            model = Path(place) / "run" / "checkpoint"
        asked = (
            HeldoutQuestion(media=(picture,), question=question)
            for picture, question in islice(
                questions(told["family"], "heldout", first=0), told["questions"]
            )
        )
        result = run_items(load(model), asked, told["family"])
    return {
        "right": sum(result.right),
        "accuracy": round(100 * result.accuracy, 1),
        "low": round(100 * result.interval.low, 1),
        "high": round(100 * result.interval.high, 1),
        **learned,
        "seconds": round(time.monotonic() - began, 1),
    }


def write_prompts(place: Path, told: Line) -> None:
    """Writes a seed's prompts, and the same as records with their answers."""
    first = 1_000_000 * (1 + told["seed"])
    prompts, records = list[Line](), list[Line]()
    made = islice(questions(told["family"], "train", first=first), told["prompts"])
    for number, (picture, question) in enumerate(made):
        name = f"{number}.png"
        picture.source.save(place / name)  # type: ignore[union-attr]
        known = {"id": f"{number}", "image": name}
        answer = {"type": "exact", "answer": question.answer}
        prompts.append(known | {"prompt": question.question} | answer)
        talk = [("human", f"<image>\n{question.question}"), ("gpt", question.answer)]
        turns = [{"from": who, "value": words} for who, words in talk]
        records.append(known | {"conversations": turns})
    write_lines(place / "prompts.jsonl", prompts)
    write_json(place / "records.json", records)


def configure(stage: Stage, told: Line, rewards: ReinforceConfig | None) -> TrainConfig:
    """Returns the settings of a run."""
    return TrainConfig(
        stage=replace(
            stage,
            trainable=REINFORCE.trainable,
            decay="constant",
            warmup=0.0,
            weight_decay=REINFORCE.weight_decay,
            global_batch=BATCH,
            max_tokens=MAX_TOKENS,
            learning_rate=RATE,
            vision_learning_rate=RATE,
        ),
        target=inspect(START).config,
        options=RunOptions(precision="fp32", seed=told["seed"], num_workers=0, keep=1),
        reinforce=rewards,
        starts=(str(START),),
        tokenizer=Tokenizer.from_directory(START).name,
    )


def train(config: TrainConfig, place: Path, **options: Any) -> list[Line]:  # Any: of run_stage
    """Trains in `place`/run; returns the lines of its metrics."""
    result = run_stage(
        config,
        tokenizer=Tokenizer.from_directory(START),
        starts=Starts(previous=(START,)),
        output=place / "run",
        **options,
    )
    if result.checkpoint is None:
        raise SystemExit("stopped; run the same command again to measure what is left")
    return read_metrics(place / "run" / METRICS)


def by_rewards(place: Path, told: Line, _: Sequence[Line]) -> Line:
    """Learns by GRPO; returns what it took, and the rewards by step."""
    path = place / "prompts.jsonl"
    config = configure(REINFORCE.learning_from(str(path)), told, REWARDS)
    steps = train(config, place, make_objective=make_reinforce)
    length = fmean(step["answer_tokens"] for step in steps)
    amount = count_prompts(
        read_rewarded(path),
        Processor(config.target.inputs, Tokenizer.from_directory(START)),
        replace(REWARDS, max_new_tokens=max(1, round(length))),
        name=path.name,
    )
    sampled = plan_rollouts(
        amount,
        config.stage,
        config.target,
        replace(REWARDS, max_new_tokens=max(1, round(length))),
    )
    learned = sum(step["flops"] for step in steps)
    # The trainer's own log-probabilities are one pass forward, a third of learning.
    flops = sampled.prefill_flops + sampled.decode_flops + learned * 4 / 3
    return {
        "steps": len(steps),
        "flops": flops,
        "rewards": [round(step["reward"], 3) for step in steps],
        "answer_tokens": [round(step["answer_tokens"], 2) for step in steps],
        "informative": [round(step["informative"], 2) for step in steps],
    }


def by_supervision(place: Path, told: Line, lines: Sequence[Line]) -> Line:
    """Learns the right answers, for the operations of the run with the same seed."""
    keys = ("family", "seed", "prompts", "questions")
    (other,) = (
        line
        for line in lines
        if line["way"] == "rewards" and all(line[key] == told[key] for key in keys)
    )
    stage = FINETUNE.learning_from(str(place / "records.json"))
    config = configure(replace(stage, epochs=1), told, None)
    once = operations_of_an_epoch(config, place)
    epochs = max(1, round(other["flops"] / once))
    config = replace(config, stage=replace(config.stage, epochs=epochs))
    steps = train(config, place)
    return {
        "steps": len(steps),
        "epochs": epochs,
        "flops": sum(step["flops"] for step in steps),
        "losses": [round(step["loss"], 3) for step in steps],
    }


def operations_of_an_epoch(config: TrainConfig, place: Path) -> float:
    """Returns the operations of learning every right answer once."""
    path = place / "prompts.jsonl"
    processor = Processor(config.target.inputs, Tokenizer.from_directory(START))
    alone = replace(REWARDS, num_answers=2, max_new_tokens=3)  # answers of about three tokens
    amount = count_prompts(read_rewarded(path), processor, alone, name=path.name)
    one = replace(
        amount,
        text_tokens=amount.text_tokens / 2,
        labelled_tokens=amount.labelled_tokens / 2,
        pairs=(amount.visual_tokens + amount.text_tokens / 2) ** 2 / 2,
    )
    kind = get_device_kind("h100", price_per_hour=None)
    return plan_training(config.stage, config.target, [one], kind=kind).total_operations


def table() -> None:
    """Prints the accuracies as Markdown: before, and the mean over seeds."""
    lines = json.loads(RESULTS.read_text())
    print("| family | before | rewards | supervised | seeds | steps | operations |")
    print("|---|---|---|---|---|---|---|")
    for family in dict.fromkeys(line["family"] for line in lines):
        own = [line for line in lines if line["family"] == family]
        by_way = {way: [x for x in own if x["way"] == way] for way in ("rewards", "supervised")}
        (before,) = (line for line in own if line["way"] == "before")
        cells = [f"{before['accuracy']:.1f}", *(_mean(found) for found in by_way.values())]
        steps = " / ".join(f"{fmean(x['steps'] for x in f):.0f}" for f in by_way.values() if f)
        flops = " / ".join(f"{fmean(x['flops'] for x in f):.2g}" for f in by_way.values() if f)
        seeds = " / ".join(str(len(found)) for found in by_way.values())
        print(f"| {family} | {' | '.join(cells)} | {seeds} | {steps} | {flops} |")


def _mean(lines: Sequence[Line]) -> str:
    values = [line["accuracy"] for line in lines]
    if not values:
        return "not measured"
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{fmean(values):.1f}{spread}"


def main() -> None:
    """Runs one of the commands."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("command", choices=("run", "table"))
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--questions", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.command == "table":
        table()
    else:
        run(options)


if __name__ == "__main__":
    main()
