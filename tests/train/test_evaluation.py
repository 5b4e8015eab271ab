"""Questions asked while a network learns: they leave no trace in it."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from onevision.model.llava import LlavaNetwork
from onevision.train.evaluation import preserve_state
from onevision.train.report.notes import read_notes
from tests.train.runs import MICRO, OPTIONS, SHORT, Told, left, run

STAGE = replace(SHORT, num_samples=16, resolution="target")
EVALUATED = {"eval_steps": 2, "eval_questions": 1}


@pytest.fixture
def told(tmp_path):
    return Told(output=tmp_path / "run", stage=STAGE, options=OPTIONS, target=MICRO)


def evaluations(told):
    return [json.loads(line) for line in (told.output / "eval.jsonl").read_text().splitlines()]


def test_a_run_with_questions_ends_as_one_without(told, tmp_path):
    run(told)
    asked = told.but(output=tmp_path / "asked", **EVALUATED)
    run(asked)
    assert left(told.output) == left(asked.output)
    assert not (told.output / "eval.jsonl").exists()


def test_every_scenario_is_asked_now_and_then_and_at_the_end(told):
    run(told.but(eval_steps=3, eval_questions=2))
    lines = evaluations(told)
    assert [line["step"] for line in lines] == [3, 4]
    assert all(line["questions"] == 2 for line in lines)
    assert set(lines[0]["accuracy"]) == {"single_image", "multi_image", "video"}
    assert all(0 <= share <= 1 for share in lines[0]["accuracy"].values())


def test_a_resumed_run_has_every_line_once(told):
    asked = told.but(**EVALUATED, save_steps=1)
    run(replace(asked, stop_after=3))
    with (told.output / "eval.jsonl").open("a") as file:
        file.write(json.dumps({"step": 4}) + "\n")  # of a step that was not saved
    run(asked)
    assert [line["step"] for line in evaluations(told)] == [2, 4]
    assert "accuracy" in evaluations(told)[1]


def test_modes_and_random_streams_come_back():
    network = LlavaNetwork(MICRO).train()
    network.projector.eval()
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    with preserve_state(network):
        assert not any(module.training for module in network.modules())
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]
    assert network.training and network.language_model.training
    assert not network.projector.training


def test_questions_that_cannot_be_asked_are_a_warning(told, capsys):
    language = replace(MICRO.language, max_positions=16)
    run(told.but(target=replace(MICRO, language=language), **EVALUATED))
    assert "step 2 could not be evaluated: the prompt has" in "".join(capsys.readouterr())
    assert (told.output / "checkpoint").is_dir()


def test_a_stage_of_one_crop_is_asked_too(told):
    scenes = replace(STAGE, resolution="one_crop", template="plain", families={"scenes": 1.0})
    run(told.but(stage=scenes, **EVALUATED))
    assert set(evaluations(told)[0]["accuracy"]) == {"single_image", "multi_image", "video"}


def test_no_file_is_no_evaluation(tmp_path):
    assert read_notes(tmp_path / "eval.jsonl") == []


@pytest.mark.distributed
@pytest.mark.parametrize(
    "options",
    [
        {"sharing": "replicate"},
        {"sharing": "shard"},
        pytest.param({"tensor": 2}, marks=pytest.mark.slow),
    ],
)
def test_two_processes_end_as_without_questions(told, nursery, tmp_path, options):
    nursery.train(told.but(**options), ranks=2)
    asked = told.but(output=tmp_path / "asked", **options, **EVALUATED)
    nursery.train(asked, ranks=2)
    assert left(told.output) == left(asked.output)
    assert [line["step"] for line in evaluations(asked)] == [2, 4]
