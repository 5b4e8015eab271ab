"""Trials in a directory: end to end on a few samples, stopped, gone on with, skipped."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from onevision.errors import ConfigError
from onevision.eval.heldout import HeldoutQuestion, HeldoutResult
from onevision.science.evaluation import best_constants, evaluate_arm
from onevision.science.study import Study, run_trials
from onevision.synth.sample import Question
from onevision.train.report.journal import Callbacks
from onevision.train.report.metrics import read_metrics
from tests.science.conftest import WANTED, told


def test_every_trial_is_done_in_order_and_written_down(rehearsed):
    study, heard = rehearsed
    done = [name for said, name in heard if said == "done"]
    assert done == [trial.name for trial in WANTED]
    assert all(study.is_finished(trial) for trial in WANTED)


def test_a_record_is_what_was_trained_and_asked(rehearsed):
    study, _ = rehearsed
    records = {trial.arm: study.record(trial) for trial in WANTED}
    lines = read_metrics(study.directory("seed-0/onevision") / "metrics.jsonl")
    assert records["onevision"].samples == 16
    assert records["onevision"].tokens == sum(line["tokens"] for line in lines)
    assert records["vision"].answers == []
    asked = {}
    for row in records["onevision"].answers:
        asked[row["scenario"]] = asked.get(row["scenario"], 0) + row["asked"]
        assert max(row["right"], row["blind"], row["constant"]) <= row["asked"]
    assert asked == {"single_image": 4, "multi_image": 4, "video": 4}
    cells = {(r["aspect"], r["share"], r["family"]) for r in records["higher_9"].answers}
    assert len(cells) == len(records["higher_9"].answers) == 3 * 4


def test_higher_rules_take_more_tokens(rehearsed):
    study, _ = rehearsed
    tokens = {
        trial.arm: sum(row["tokens"] for row in study.record(trial).answers)
        for trial in WANTED
        if trial.arm in ("base", "higher_9")
    }
    assert tokens["base"] == 16 * 12
    assert tokens["higher_9"] > 5 * tokens["base"]


def test_finished_trials_are_skipped(rehearsed):
    study, _ = rehearsed
    before = {trial.name: study.record(trial) for trial in WANTED}
    heard = []
    assert run_trials(study, WANTED, jobs=1, on_event=told(heard))
    assert {said for said, _ in heard} == {"finished"}
    assert {trial.name: study.record(trial) for trial in WANTED} == before


def test_what_was_finished_with_other_settings_is_refused(rehearsed):
    study, _ = rehearsed
    trial = replace(WANTED[0], stage=replace(WANTED[0].stage, learning_rate=0.5))
    with pytest.raises(ConfigError, match=r"learning_rate: 0.002 -> 0.5"):
        study.is_finished(trial)


@pytest.mark.slow
def test_a_trial_whose_exam_was_lost_is_examined_alone(rehearsed):
    study, _ = rehearsed
    trial = next(trial for trial in WANTED if trial.arm == "base")
    before = study.record(trial)
    log = study.directory(trial.name) / "metrics.jsonl"
    lines = log.read_text()
    (study.directory(trial.name) / "trial.json").unlink()
    assert not study.is_finished(trial)
    assert study.run(trial)
    assert log.read_text() == lines  # no step was taken again
    after = study.record(trial)
    assert (after.answers, after.operations) == (before.answers, before.operations)


def test_beginnings_are_not_examined(rehearsed):
    assert evaluate_arm(None, "knowledge", rehearsal=True) == []


@pytest.fixture
def one_thread():
    """As in the processes of a study: sums of several threads have other last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_a_stopped_trial_goes_on_to_the_same_weights(rehearsed, tmp_path):
    """The trainer's own tests stop it anywhere; here, that a study picks the snapshot up."""
    whole, _ = rehearsed
    trial, study = WANTED[0], Study(output=tmp_path, rehearsal=True)
    stop = Callbacks(on_step=lambda line: os.kill(os.getpid(), signal.SIGTERM))
    assert not study.run(trial, stop)
    assert not study.is_finished(trial)
    assert len(read_metrics(study.directory(trial.name) / "metrics.jsonl")) == 1
    assert study.run(trial)
    files = [s.directory(trial.name) / "checkpoint" / "model.safetensors" for s in (whole, study)]
    one, other = map(load_file, files)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_constant_answer_is_right_as_often_as_its_family_has_it():
    questions = [("colour", "red"), ("colour", "red"), ("colour", "blue"), ("count", "2")]
    items = tuple(
        HeldoutQuestion(media=(), question=Question(family=family, question="?", answer=answer))
        for family, answer in questions
    )
    result = HeldoutResult(scenario="x", blind=False, items=items, answers=("",) * 4)
    assert best_constants(result) == {"colour": 2, "count": 1}
