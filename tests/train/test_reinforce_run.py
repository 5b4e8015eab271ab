"""A run of GRPO, from the command to the checkpoint: rewards rise, it resumes, it is refused."""

import json
import os
import re
import signal
from dataclasses import replace

import pytest
import torch

from onevision.checkpoint.save import save
from onevision.model.llava import LlavaNetwork
from onevision.train.config import TrainConfig, list_changes, read_train_config
from onevision.train.options import RunOptions
from onevision.train.reinforce.config import ReinforceConfig
from onevision.train.report.journal import Callbacks
from onevision.train.run import run_stage
from onevision.train.snapshots import SnapshotReader, snapshots
from onevision.train.stages import REINFORCE
from onevision.train.start import Starts
from tests.cli.conftest import run as command
from tests.conftest import randomise
from tests.eval.judge_server import serve
from tests.train.runs import lines

STAGE = replace(
    REINFORCE, global_batch=2, learning_rate=1e-3, vision_learning_rate=1e-3, max_tokens=600
)
OPTIONS = RunOptions(precision="fp32", save_steps=1, keep=9)
REWARDS = ReinforceConfig(num_answers=4, max_new_tokens=5, steps_per_rollout=2)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def start(tmp_path_factory, micro_config, tokenizer):
    """A checkpoint with random weights."""
    path = tmp_path_factory.mktemp("start") / "checkpoint"
    save(randomise(LlavaNetwork(micro_config), std=0.1), micro_config, tokenizer, path)
    return path


@pytest.fixture(scope="module")
def prompts(tmp_path_factory, picture):
    """Six prompts about a picture, rewarded by similarity to a text: most answers have some."""
    directory = tmp_path_factory.mktemp("prompts")
    picture(60, 50, seed=1).save(directory / "0.png")
    records = [
        {"id": f"p{n}", "image": "0.png", "prompt": f"Say {n}.", "type": "box",
         "answer": [0.1, 0.1, 0.9, 0.9]}
        for n in range(5)
    ]  # fmt: skip
    records.append({"id": "words", "prompt": "Hi", "type": "exact", "answer": ["a", "the"]})
    path = directory / "prompts.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def train(start, prompts, micro_config, tokenizer):
    """Returns a function that runs on the prompts in a directory, and its outcome."""

    def train(output, *, options=OPTIONS, rewards=REWARDS, stop_after=None):
        def step(line):
            if line["step"] == stop_after:
                os.kill(os.getpid(), signal.SIGTERM)

        return run_stage(
            TrainConfig(
                stage=STAGE.learning_from(str(prompts)),
                target=micro_config,
                options=options,
                reinforce=rewards,
                starts=(str(start),),
            ),
            tokenizer=tokenizer,
            starts=Starts(previous=(start,)),
            output=output,
            callbacks=Callbacks(on_step=step),
        )

    return train


def last_tensors(output):
    reader = SnapshotReader(snapshots(output)[-1])
    return {name: reader.rows(name) for name in reader.names()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(("rank", "stop"), [(0, 1), (2, 2)])
def test_a_resumed_run_ends_with_the_same_bits(train, tmp_path, rank, stop):
    """Stopped within a rollout, and at the end of one; with all weights, and with adapters.

    The price of moving away keeps a gradient where no answer of random weights is right.
    """
    options = replace(OPTIONS, lora_rank=rank)
    rewards = replace(REWARDS, kl_weight=0.1)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(whole, options=options, rewards=rewards)
    assert train(cut, options=options, rewards=rewards, stop_after=stop).checkpoint is None
    train(cut, options=options, rewards=rewards)
    assert same(last_tensors(whole), last_tensors(cut))
    assert [line["loss"] for line in lines(whole)] == [line["loss"] for line in lines(cut)]
    for number in range(2):
        name = f"rollouts/{number:06d}-0.jsonl"
        assert (whole / name).read_text() == (cut / name).read_text()
    assert (tmp_path / "whole" / "adapter").is_dir() == (rank > 0)


def test_a_rollout_that_is_gone_cannot_be_resumed(train, tmp_path):
    output = tmp_path / "run"
    train(output, stop_after=1)
    for path in (output / "rollouts").iterdir():
        path.unlink()
    with pytest.raises(Exception, match="the weights that answered them are gone"):
        train(output)


def test_the_engine_and_the_trainer_agree(train, tmp_path):
    """In fp32 the same weights give the same probabilities, whoever computes them."""
    train(tmp_path / "run")
    found = [
        (engine, trainer)
        for line in (tmp_path / "run" / "rollouts" / "000000-0.jsonl").read_text().splitlines()
        for answer in json.loads(line)["answers"]
        for engine, trainer in zip(answer["logprobs"], answer["proximal"], strict=True)
    ]
    assert len(found) >= 16
    assert all(engine == pytest.approx(trainer, abs=1e-4) for engine, trainer in found)
    assert all(line["left_out"] == 0 for line in lines(tmp_path / "run"))


def test_settings_are_kept_and_changes_refused_by_name(train, tmp_path):
    train(tmp_path / "run", stop_after=1)
    config = read_train_config(tmp_path / "run" / "settings.json")
    assert config.reinforce == REWARDS
    other = replace(config, reinforce=replace(REWARDS, clip_high=0.3))
    assert list_changes(config, other) == ["reinforce.clip_high: 0.28 -> 0.3"]
    with pytest.raises(Exception, match=r"began with other .*reinforce.num_answers: 4 -> 2"):
        train(tmp_path / "run", rewards=replace(REWARDS, num_answers=2))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (replace(OPTIONS, compiled=True), "compiled=true: its network cannot answer"),
        (replace(OPTIONS, held_out="0.5"), "held_out is 0.5"),
    ],
)
def test_options_that_do_not_fit_are_refused(train, tmp_path, options, problem):
    with pytest.raises(Exception, match=problem):
        train(tmp_path / "run", options=options)


def world(directory):
    """Writes prompts of the embedded model's worst family that a picture of it can answer."""
    arguments = ("--family", "scenes", "--count", 8, "--teaches", "prompts")
    assert command("synth", "write", directory, *arguments).returncode == 0
    records = json.loads((directory / "scenes.json").read_text())
    chosen = [one for one in records if one["family"] in ("count_some", "read", "exists")][:8]
    path = directory / "prompts.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in chosen))
    return path


def settings(*given):
    return [word for one in given for word in ("--set", one)]


@pytest.mark.slow
def test_rewards_rise_from_the_door(tmp_path):
    """Prompts that tiny answers right now and then, six epochs; 22 s of one core."""
    path, output = world(tmp_path), tmp_path / "run"
    told = settings(
        *("global_batch=4", "epochs=6", "num_answers=6", "max_new_tokens=5", "steps_per_rollout=1"),
        *("learning_rate=1e-4", "vision_learning_rate=1e-4", "select=true", "select_answers=6"),
        *("precision=fp32", "num_workers=0"),
    )
    done = command("reinforce", path, "--from", "tiny", "--output", output, *told)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"wrote {output / 'checkpoint'}"

    tried = map(json.loads, (output / "selection.jsonl").read_text().splitlines())
    kept = [line for line in tried if line["kept"]]
    assert 2 <= len(kept) < 8
    assert all(0.05 <= line["pass_at_1"] <= 0.95 < line["pass_at_n"] + 0.06 for line in kept)
    rewards = [line["reward"] for line in lines(output)]
    third = len(rewards) // 3
    assert third >= 2
    assert sum(rewards[-third:]) / third > sum(rewards[:third]) / third + 0.1

    page = (output / "report.html").read_text()
    assert 'aria-label="Reward, smoothed, by step"' in page
    assert 'aria-label="Tokens of an answer, by step"' in page
    card = (output / "checkpoint" / "README.md").read_text()
    assert "| clip high | 0.28 |" in card
    asked = command("ask", "How many objects are there?", "--model", output / "checkpoint")
    assert asked.returncode == 0


def test_a_plan_needs_no_weights_and_writes_nothing(tmp_path):
    path, output = world(tmp_path), tmp_path / "run"
    done = command(
        "reinforce", path, "--from", "tiny", "--output", output, "--plan",
        *settings("max_new_tokens=10"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "rollouts: what is sampled before it is learned" in done.stdout
    assert re.search(r"answers\s+128, 16 from each prefill", done.stdout)
    assert re.search(r"tokens sampled, at most\s+1.28k", done.stdout)
    assert not output.exists()


def test_mistakes_are_one_line(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"prompt": "What?", "type": "judge"}) + "\n")
    output = tmp_path / "run"
    done = command("reinforce", path, "--from", "tiny", "--output", output)
    assert done.returncode == 1
    assert "1 prompt of type judge" in done.stderr
    assert "give --judge-url and --judge" in done.stderr
    done = command("reinforce", path, "--from", "tiny", "--output", output, "--devices", 2)
    assert "--devices has no effect on a run without --plan" in done.stderr
    done = command("reinforce", tmp_path / "no", "--from", "tiny", "--output", output)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) <= 2


def test_a_judge_rewards_free_answers(tmp_path, train, start, micro_config, tokenizer):
    """Every answer gets 40 of 100; the replies are remembered in the run's directory."""
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"id": "a", "prompt": "Say much.", "type": "judge"}) + "\n")
    said = lambda words: "yes" if "<answer>" not in words else "Fine.\nScore: 40"  # noqa: E731
    with serve(said) as server:
        done = command(
            "reinforce", path, "--from", start, "--output", tmp_path / "run",
            "--judge", "rules", "--judge-url", server.url,
            *settings("num_answers=2", "max_new_tokens=4", "steps_per_rollout=1", "max_tokens=400",
                      "precision=fp32"),
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = lines(tmp_path / "run")
    assert line["reward"] == pytest.approx(0.4)
    assert any((tmp_path / "run" / "judge").iterdir())


def test_answers_that_the_judge_does_not_score_are_counted(tmp_path, train, start):
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"id": "a", "prompt": "Say much.", "type": "judge"}) + "\n")
    with serve(lambda _: "yes") as server:
        done = command(
            "reinforce", path, "--from", start, "--output", tmp_path / "run",
            "--judge", "rules", "--judge-url", server.url,
            *settings("num_answers=2", "max_new_tokens=4", "steps_per_rollout=1", "max_tokens=400",
                      "precision=fp32"),
        )  # fmt: skip
    assert "2 of 2 answers have no reward, since the judge's reply gives no score" in done.stderr
