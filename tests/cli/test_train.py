"""`onevision train`: what it refuses, plans, trains and resumes."""

import json
import re

import pytest
from typer.testing import CliRunner

from onevision.checkpoint.hub import BUNDLED
from onevision.cli import app
from onevision.errors import OneVisionError
from onevision.train.config import read_train_config
from tests.cli.conftest import run
from tests.cli.invoke import fail

SMALL = ("num_samples=4", "global_batch=2", "max_tokens=1500", "precision=fp32")


def train(*arguments, settings=()):
    told = [word for setting in settings for word in ("--set", setting)]
    return run("train", *arguments, *told)


def test_a_stage_with_adapters(tmp_path):
    output = tmp_path / "run"
    settings = (*SMALL, "lora_rank=2", "eval_steps=2", "eval_questions=1")
    done = train("onevision", "--from", BUNDLED["tiny"], "-o", output, settings=settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"wrote {output / 'checkpoint'}"
    assert "held-out questions after step 2  single_image" in done.stderr
    assert (output / "adapter" / "adapter_config.json").is_file()
    assert (output / "report.html").is_file()
    assert "--scenario video --count 1" in (output / "checkpoint" / "README.md").read_text()
    assert read_train_config(output / "settings.json").options.lora_rank == 2
    changed = train(
        *("onevision", "--from", BUNDLED["tiny"], "-o", output),
        settings=(*SMALL, "lora_rank=4"),
    )
    assert changed.returncode == 1
    assert "lora_rank: 2 -> 4" in changed.stderr
    lines = (output / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("onevisin",), "no stage 'onevisin' of tiny"),
        (("align", "--set", "learning_rat=1"), "did you mean 'learning_rate'"),
        (("align", "--set", "lora_rank=-1"), "lora_rank is -1; expected 0 or more"),
        (("align", "--set", "lora_parts=head"), "lora_parts is 'head'"),
        (("vision",), "--tokenizer is None; give a tokenizer.json"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_line(arguments, said, tmp_path):
    done = CliRunner().invoke(app, ["train", *arguments, "-o", str(tmp_path / "run")])
    assert isinstance(done.exception, OneVisionError)
    assert said in str(done.exception)
    assert "\n" not in str(done.exception)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("align", "--devices", "8"), "--devices has no effect on a run without --plan"),
        (("align", "--device-kind", "h100"), "--device-kind has no effect on a run without --plan"),
        (("align", "--price", "2"), "--price has no effect on a run without --plan"),
        (("align", "--plan", "--tensorboard"), "--tensorboard has no effect on a plan"),
        (("align", "--plan", "--allow-change", "seed"), "--allow-change has no effect on a plan"),
        (("tokenizer", "--set", "seed=1"), "--set has no effect on the stage tokenizer"),
        (("tokenizer", "--plan"), "--plan has no effect on the stage tokenizer"),
    ],
)
def test_an_option_without_effect_is_refused(arguments, said, tmp_path):
    assert fail("train", *arguments, "-o", tmp_path / "run").startswith(said)
    assert not (tmp_path / "run").exists()


def planned(*arguments):
    done = CliRunner().invoke(app, ["train", *map(str, arguments), "--plan"])
    assert done.exit_code == 0, done.exception
    return done.stdout


def gib(plan, name):
    """Return the value of a name in the table of memory."""
    return float(re.search(rf"^ *{name} +([\d.]+)", plan, re.MULTILINE)[1])


def test_a_plan_trains_nothing_and_knows_adapters(tmp_path):
    told = ("onevision", "-m", "7b", "-o", tmp_path / "run")
    whole = planned(*told)
    beside = planned(*told, "--set", "lora_rank=8")
    in_int8 = planned(*told, "--set", "lora_rank=8", "--set", "lora_base=int8")
    assert "simulated" in whole
    assert gib(beside, "moments") < gib(whole, "moments") / 10  # the vision encoder's, most of it
    assert gib(beside, "weights") > gib(whole, "weights") > 2 * gib(in_int8, "weights")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def mixture(tmp_path, monkeypatch):
    """A file of five questions about text, one of them broken."""
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))
    turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A thing."}]
    records = [{"conversations": turns}] * 4 + [{"conversations": []}]
    (tmp_path / "mine.json").write_text(json.dumps(records))
    return tmp_path / "mine.json"


def test_a_plan_counts_a_mixture_that_is_here(mixture, tmp_path):
    said = planned("onevision", "--mixture", mixture, "-o", tmp_path / "run")
    assert "simulated" not in said
    assert re.search(r"mine\.json +4 +0 ", said)
    assert re.search(r"samples +4 *\n", said)
    held = planned("onevision", "--mixture", mixture, "-o", tmp_path / "r", "--set", "held_out=0.5")
    assert re.search(r"samples +2 *\n", held)
    tokenizer = BUNDLED["tiny"] / "tokenizer.json"
    told = ("onevision", "-m", "0.5b", "--mixture", mixture, "-o", tmp_path / "run")
    assert "simulated" not in planned(*told, "--tokenizer", tokenizer)
    done = CliRunner().invoke(app, ["train", *map(str, told), "--plan"])
    assert "cannot be counted without a tokenizer; give --tokenizer" in str(done.exception)


def test_a_plan_says_what_lies_in_host_memory(tmp_path):
    told = ("onevision", "-m", "7b", "--devices", "1", "-o", tmp_path / "run")
    plain = planned(*told)
    more = ("--set", "offload_optimizer=true", "--set", "offload_activations=true")
    moved = planned(*told, *more)
    for name in ("moments", "activations"):
        assert gib(moved, f"{name}, in host memory") > 0
        assert gib(moved, name) < 0.2 * gib(plain, name)
        assert f"{name}, in host memory" not in plain


def test_a_manifest_of_another_mixture_is_refused(mixture, tmp_path):
    told = ("data", "check", mixture, "--manifest", tmp_path / "pinned")
    assert CliRunner().invoke(app, [*map(str, told)]).exit_code == 1  # one sample must be fixed
    other = tmp_path / "other.json"
    mixture.rename(other)
    told = (
        "train",
        "onevision",
        "--from",
        BUNDLED["tiny"],
        "--mixture",
        other,
        "-o",
        tmp_path / "a",
    )
    done = CliRunner().invoke(app, [*map(str, told), "--manifest", str(tmp_path / "pinned")])
    assert isinstance(done.exception, OneVisionError)
    assert "the mixture has no data set 'mine.json'" in str(done.exception)
    assert read_train_config(tmp_path / "a" / "settings.json").options.manifest == str(
        tmp_path / "pinned"
    )


def test_a_run_goes_on_from_an_address_in_another_directory(tmp_path):
    settings = (*SMALL, "save_steps=1", f"snapshots=file://{tmp_path / 'store'}")
    outputs = [tmp_path / "here", tmp_path / "there"]
    for output in outputs:
        done = train("onevision", "--from", BUNDLED["tiny"], "-o", output, settings=settings)
        assert done.returncode == 0, done.stderr
    assert not list(outputs[0].glob("step-*"))
    assert len(list((tmp_path / "store").glob("step-*"))) == 2
    assert not (outputs[1] / "metrics.jsonl").exists()  # no step was left to be taken
    here, there = ((one / "checkpoint" / "model.safetensors").read_bytes() for one in outputs)
    assert here == there
    lost = train(
        *("onevision", "--from", BUNDLED["tiny"], "-o", tmp_path / "x"),
        settings=("snapshots=abfs://bucket/a",),
    )
    assert lost.returncode == 1
    assert "needs a package that is not installed: pip install adlfs" in lost.stderr
    assert "Traceback" not in lost.stderr
