"""Ours against vLLM's CPU build and OpenVINO GenAI: same pictures, same random weights, in turns.

    python -m benchmarks.peers --prepare --directory W --vllm PYTHON --openvino PYTHON
    python -m benchmarks.peers --directory W --vllm .venv-vllm/bin/python --only "vllm bf16"
    python -m benchmarks.peers --directory W --openvino env/bin/python --only "openvino"

Each side is a process of its own, in its environment, that answers lines: peers_ours.py,
integrations/vllm/answer.py, peers_openvino.py. peers_world.py says what they are asked about. Both
have loaded, warmed up and answered the same question before anything is timed: prompts must be
equally long and answers alike. Then they take turns:

    reading   a picture that is new: from the file to the first token
    writing   a token, from 64 tokens more of an answer whose prompt was just read
    A, B      16 requests at once, as benchmarks/serving.py has them, but in process, without HTTP:
              A a new picture each, 32 tokens; B in turn a question about one shared picture,
              32 tokens, and text, 128 tokens

Seconds are by the wall, of an idle machine; medians over the turns, of which there are few.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.inference import RESULTS
from benchmarks.peers_world import (
    LLAVA_SIDE,
    SIDE,
    beside,
    environment_of,
    export_openvino,
    llava_config,
    onevision_config,
    write_model,
    write_pictures,
    write_w8a8,
)
from onevision.checkpoint.load import inspect, load_tokenizer
from onevision.conversation import Conversation, Image, Message, Text
from onevision.inputs.chat import MediaSlot
from onevision.inputs.processor import Processor

ROOT = Path(__file__).parents[1]
Question = dict[str, Any]  # Any: JSON
Line = dict[str, object]
WRITTEN = 64
# How far the logarithms of the first token's probability may be apart.
APART = {"bf16": 0.1, "int8": 0.3}
CASES = ("vllm bf16", "vllm int8", "openvino bf16", "openvino int8", "vllm A", "vllm B")


class Side:
    """A process that answers batches of questions."""

    def __init__(self, words: Sequence[object], stack: ExitStack, environment: Any) -> None:
        path = Path(os.environ.get("PEERS_LOG", os.devnull))
        log = stack.enter_context(path.open("ab"))
        self.process = stack.enter_context(
            subprocess.Popen(
                [str(word) for word in words], cwd=ROOT, env=environment, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )
        )  # fmt: skip
        stack.callback(self.process.kill)
        self.about = self._read(words)

    def ask(self, questions: Sequence[Question], *, tokens: int = 1) -> dict[str, Any]:
        """Return seconds and answers of a batch."""
        assert self.process.stdin is not None
        line = json.dumps({"questions": list(questions), "tokens": tokens})
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self._read("an answer")

    def _read(self, what: object) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"no line from {what}; PEERS_LOG=FILE keeps what it says")
        return json.loads(line)


def sides(case: str, options: argparse.Namespace, stack: ExitStack) -> tuple[Side, Side]:
    """Start ours and the peer."""
    name, kind = case.split()
    kind = kind if kind == "int8" else "bf16"
    model = options.directory / ("onevision" if name == "vllm" else "llava")
    ours: list[object] = [sys.executable, "-m", "benchmarks.peers_ours"]
    if name == "vllm":
        file = beside(model, "vllm") if kind == "int8" else beside(model, "hf")
        script = ROOT / "integrations" / "vllm" / "answer.py"
        theirs = [options.vllm, script, file, "--dtype", "bfloat16"]
        ours += [file, "--dtype", "bfloat16"]
        environment = environment_of(options.vllm)
    else:
        theirs = [options.openvino, ROOT / "benchmarks" / "peers_openvino.py", beside(model, kind)]
        ours += [model, "--dtype", "bfloat16", *(["--quantize", "int8"] if kind == "int8" else [])]
        environment = {**os.environ}
    return Side(ours, stack, {**os.environ}), Side(theirs, stack, environment)


def question_of(path: str, options: argparse.Namespace) -> Question:
    """Return a question about a picture; for OpenVINO with the whole prompt, by our template."""
    question: Question = {"text": "What is this?", "images": [path]}
    if f"{LLAVA_SIDE}-" in Path(path).name:
        info = inspect(options.directory / "llava")
        processor = Processor(info.config.inputs, load_tokenizer(info))
        talk = Conversation([Message("user", [Image(path), Text(question["text"])])])
        pieces = processor.outline(talk).pieces
        decode = processor.tokenizer.decode
        words = ["<image>" if isinstance(p, MediaSlot) else decode([*p.ids]) for p in pieces]
        question["prompt"] = "".join(words)
    return question


def compare(ours: Side, theirs: Side, question: Question, kind: str) -> Line:
    """Say how alike the answers to one question are; refuse to time what differs."""
    own, other = (side.ask([question], tokens=16)["answers"][0] for side in (ours, theirs))
    if own["prompt_tokens"] != other["prompt_tokens"]:
        raise SystemExit(f"prompts differ: {own['prompt_tokens']} and {other['prompt_tokens']}")
    line: Line = {"prompt_tokens": own["prompt_tokens"]}
    if "ids" in other:
        pairs = zip(own["ids"], other["ids"], strict=True)
        same = [*(a == b for a, b in pairs), False].index(False)
        line |= {"first_tokens_equal": same, "of": len(own["ids"])}
        apart = abs(own["logprobs"][0] - other["logprobs"][0])
        line["first_logprobs_apart"] = round(apart, 4)
        if apart > APART[kind]:
            raise SystemExit(f"answers differ: {line}")
    else:
        pairs = zip(own["text"].strip(), other["text"].strip(), strict=False)
        same = [*(a == b for a, b in pairs), False].index(False)
        line |= {"first_characters_equal": same, "of": len(own["text"].strip())}
        if not same:
            raise SystemExit(f"answers differ: {own['text']!r}, {other['text']!r}")
    return line


def reading(side: Side, question: Question) -> float:
    """Seconds to the first token of an answer about a new picture."""
    return side.ask([question])["seconds"]


def writing(side: Side, question: Question) -> float:
    """Seconds of a token after the first, of an answer whose prompt has been read."""
    short = side.ask([question], tokens=1)["seconds"]
    return (side.ask([question], tokens=1 + WRITTEN)["seconds"] - short) / WRITTEN


def phases(ours: Side, theirs: Side, questions: Sequence[Question]) -> Iterator[Line]:
    """Let both take turns at each question."""
    for name, measure in {"reading": reading, "writing": writing}.items():
        seconds = [[measure(side, one) for side in (ours, theirs)] for one in questions]
        yield result(name, *zip(*seconds, strict=True))


def result(phase: str, ours: Sequence[float], theirs: Sequence[float]) -> Line:
    """Return a line of the table."""
    spread = max((max(own) - min(own)) / median(own) for own in (ours, theirs))
    return {
        "phase": phase,
        "ours_seconds": round(median(ours), 4),
        "theirs_seconds": round(median(theirs), 4),
        "ratio": round(median(theirs) / median(ours), 2),
        "turns": len(ours),
        "spread": round(spread, 2),
        "load": round(os.getloadavg()[0], 1),
    }


def workload(name: str, paths: Sequence[str]) -> list[Question]:
    """Return the 16 requests of a workload."""
    if name == "A":
        return [{"text": "Describe it.", "images": [path], "tokens": 32} for path in paths]
    shared = [
        {"text": f"What is number {n}?", "images": [paths[0]], "tokens": 32}
        for n in range(0, len(paths), 2)
    ]
    texts = [{"text": f"Tell me about number {n}.", "tokens": 128} for n in range(1, len(paths), 2)]
    return [question for pair in zip(shared, texts, strict=True) for question in pair]


def run(case: str, options: argparse.Namespace) -> Line:
    """Measure one case."""
    name, kind = case.split()
    side = SIDE if name == "vllm" else LLAVA_SIDE
    paths = write_pictures(options.directory, 20, side)
    first, *asked = [question_of(path, options) for path in paths[: 1 + options.turns]]
    with ExitStack() as stack:
        ours, theirs = sides(case, options, stack)
        line: Line = {"case": case, "ours": ours.about, "theirs": theirs.about}
        line["answers"] = compare(ours, theirs, first, "int8" if kind == "int8" else "bf16")
        if kind in ("A", "B"):
            requests = workload(kind, paths[4:20])
            seconds = [[one.ask(requests)["seconds"]] for one in (ours, theirs)]
            line["phases"] = [result(f"{kind}, 16 requests", *seconds)]
        else:
            line["phases"] = [*phases(ours, theirs, asked)]
    return line


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", type=Path, required=True, help="of checkpoints, kept")
    parser.add_argument("--prepare", action="store_true", help="write checkpoints, and end")
    parser.add_argument("--vllm", type=Path, help="its environment's python")
    parser.add_argument("--openvino", type=Path, help="its environment's python")
    parser.add_argument("--only", default="", help=f"cases that hold this word, of {CASES}")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS / "peers-cpu.json")
    options = parser.parse_args()
    options.directory.mkdir(exist_ok=True)
    options.directory = options.directory.resolve()
    if options.prepare:
        prepare(options)
        return
    known = json.loads(options.output.read_text()) if options.output.exists() else {}
    for case in CASES:
        if options.only in case and getattr(options, case.split()[0]) is not None:
            known[case] = run(case, options)
            print(json.dumps(known[case]), flush=True)
            options.output.write_text(json.dumps(known, indent=1) + "\n")


def prepare(options: argparse.Namespace) -> None:
    """Write the checkpoints of the peers that are given."""
    if options.vllm is not None:
        write_model(options.directory / "onevision", onevision_config())
        write_w8a8(options.directory / "onevision", all_layers=False)
    if options.openvino is not None:
        write_model(options.directory / "llava", llava_config())
        export_openvino(options.directory / "llava", options.openvino)


if __name__ == "__main__":
    main()
