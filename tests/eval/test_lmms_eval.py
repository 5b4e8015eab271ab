"""lmms-eval itself, in its own environment, asks the embedded model through the plug-in."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image as PIL

from onevision.eval.reference_prompt import to_conversation, to_media
from onevision.generate.answer import load
from onevision.inputs.processor import Processor
from tests.eval.lmms_world import write_tasks

PYTHON = Path(__file__).parents[2] / ".venv-lmms" / "bin" / "python"
COUNT = 5

pytestmark = [pytest.mark.slow, pytest.mark.lmms]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    if not PYTHON.is_file():
        pytest.skip("no .venv-lmms; make it with `make lmms`")
    directory = tmp_path_factory.mktemp("lmms")
    return directory, write_tasks(directory, count=COUNT)


def run(directory, out, *, names, profile, options):
    """Run lmms-eval; returns (answer, prompt tokens) of every item of every task."""
    command = [
        PYTHON, "-m", "lmms_eval", "--model", "onevision", "--log_samples",
        "--model_args", f"pretrained=tiny,profile={profile}",
        "--tasks", ",".join(f"local_{name}" for name in names),
        "--include_path", directory, "--output_path", directory / out, *options,
    ]  # fmt: skip
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(directory / "hf")}
    done = subprocess.run(command, env=os.environ | offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = {}
    for name in names:
        (path,) = (directory / out).rglob(f"*_samples_local_{name}.jsonl")
        samples = sorted(map(json.loads, path.read_text().splitlines()), key=lambda s: s["doc_id"])
        found[name] = [(s["filtered_resps"], s["token_counts"][0]["input_tokens"]) for s in samples]
    return found


def conversation(row):
    visuals = [row["video"]] if row["video"] else [PIL.open(path) for path in row["images"]]
    return to_conversation(row["question"], to_media(visuals, image_mean=(0.5, 0.5, 0.5)))


def ask(model, row):
    reply = model.ask(conversation(row), max_new_tokens=24)
    return reply.text, reply.usage.prompt_tokens


@pytest.mark.parametrize(
    ("mode", "batch_size"), [("simple", 1), ("simple", 3), ("chat", 1), ("chat", 3)]
)
def test_answers_are_those_of_the_model_alone(tasks, mode, batch_size):
    directory, rows = tasks
    options = ["--batch_size", str(batch_size), *["--force_simple"] * (mode == "simple")]
    out = f"{mode}-{batch_size}"
    found = run(directory, out, names=tuple(rows), profile="now", options=options)
    model = load("tiny")
    assert found == {name: [ask(model, row) for row in rows[name]] for name in rows}
    (path,) = (directory / out).rglob("*_results.json")
    scores = json.loads(path.read_text())["results"]
    for name in rows:
        right = sum(a == row["answer"] for (a, _), row in zip(found[name], rows[name], strict=True))
        assert scores[f"local_{name}"]["exact_match,none"] == pytest.approx(right / COUNT)


def test_once_it_has_seen_several_the_wrapper_of_the_paper_pads_lone_pictures(tasks):
    directory, rows = tasks
    names = ("single", "pairs")
    found = run(directory, "p24", names=names, profile="p24", options=["--batch_size", "2"])
    model = load("tiny")
    inputs = replace(model.config.inputs, image=model.config.inputs.multi_image)
    padded = replace(model, processor=Processor(inputs, model.processor.tokenizer))
    words = model.processor.tokenizer.encode
    asked = [(name, n, rows[name][n]) for name in names for n in range(COUNT)]
    asked.sort(key=lambda one: (-len(words(one[2]["question"]).ids), one[2]["question"]))
    several, kinds = False, set()
    for name, number, row in asked:
        several |= name == "pairs"
        sees_all = model if not several or name == "pairs" else padded
        kinds.add((name, several))
        assert found[name][number] == ask(sees_all, row)
    assert ("single", True) in kinds
