"""`onevision train`: what it refuses, plans, trains and goes on with."""

import json

import pytest
from typer.testing import CliRunner

from onevision.checkpoint.hub import BUNDLED
from onevision.cli import app
from onevision.errors import OneVisionError
from onevision.train.settings import read_settings
from tests.cli.conftest import run

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
    assert read_settings(output / "settings.json").options.lora_rank == 2
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


def test_a_plan_trains_nothing(tmp_path):
    told = ["train", "onevision", "-m", "7b", "--plan", "-o", str(tmp_path / "run")]
    assert "Counted as if whole parts learned" not in CliRunner().invoke(app, told).stdout
    done = CliRunner().invoke(app, [*told, "--set", "lora_rank=8"])
    assert done.exit_code == 0
    assert "Counted as if whole parts learned" in done.stdout
    assert not (tmp_path / "run").exists()
