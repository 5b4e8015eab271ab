"""A run on pairs of answers, from the file to the checkpoint."""

import json
import math
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from onevision.checkpoint.load import inspect, load_network
from onevision.checkpoint.save import save
from onevision.errors import CheckpointError, ConfigError, DataError
from onevision.inputs.processor import Processor
from onevision.model.llava import LlavaNetwork
from onevision.train.config import TrainConfig, list_changes, read_train_config
from onevision.train.options import RunOptions
from onevision.train.preference.data import read_preferences
from onevision.train.preference.feed import PreferenceFeed
from onevision.train.preference.loss import PreferenceConfig
from onevision.train.preference.objective import PreferenceLearner
from onevision.train.report.journal import Callbacks
from onevision.train.run import run_stage
from onevision.train.snapshots import SnapshotReader, snapshots
from onevision.train.stages import DPO
from onevision.train.start import Starts
from tests.cli.conftest import run as command
from tests.conftest import randomise
from tests.data.conftest import write_clip
from tests.train.runs import Told, arguments, lines, settings_of

STAGE = replace(
    DPO,
    global_batch=3,
    learning_rate=1e-3,
    vision_learning_rate=1e-3,
    max_tokens=300,
    num_frames=3,
)
OPTIONS = RunOptions(precision="fp32", save_steps=1, keep=9)


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
def pairs(tmp_path_factory, picture):
    """Eight pairs: an image, two images, a video and text, each twice."""
    directory = tmp_path_factory.mktemp("pairs")
    for number in range(3):
        picture(40 + 30 * number, 50, seed=number).save(directory / f"{number}.png")
    write_clip(directory / "clip.mp4")
    records = [
        {"image": "0.png", "prompt": "What?", "chosen": "a ring", "rejected": "a cat"},
        {"image": ["1.png", "2.png"], "prompt": "Same?", "chosen": "no", "rejected": "yes"},
        {"video": "clip.mp4", "prompt": "<video>\nWhat moves?", "chosen": "it", "rejected": "not"},
        {"prompt": "Say yes.", "chosen": "yes", "rejected": "never in my whole life"},
    ]
    records += [record | {"chosen": f"{record['chosen']} indeed"} for record in records]
    path = directory / "pairs.jsonl"
    path.write_text("".join(json.dumps({"id": f"p{n}"} | r) + "\n" for n, r in enumerate(records)))
    return path


@pytest.fixture
def train(start, pairs, micro_config, tokenizer):
    """Return a function that runs on the pairs in a directory, and its outcome."""

    def train(output, *, options=OPTIONS, stage=STAGE, begin=start, stop_after=None, **preference):
        def step(line):
            if line["step"] == stop_after:
                os.kill(os.getpid(), signal.SIGTERM)

        return run_stage(
            TrainConfig(
                stage=stage.learning_from(str(pairs)),
                target=micro_config,
                options=options,
                preference=PreferenceConfig(**preference),
            ),
            tokenizer=tokenizer,
            starts=Starts(previous=(begin,)),
            output=output,
            callbacks=Callbacks(on_step=step),
        )

    return train


def last_tensors(output):
    reader = SnapshotReader(snapshots(output)[-1])
    return {name: reader.rows(name) for name in reader.names()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_first_step_stands_at_the_reference(train, tmp_path):
    train(tmp_path / "run")
    first = lines(tmp_path / "run")[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert first["margin"] == pytest.approx(0, abs=1e-7)  # sums of other batches round otherwise
    assert first["accuracy"] == 0
    assert first["supervised_tokens"] > 6  # six answers, each with its end


def test_a_run_on_pairs_has_curves_of_its_own(train, tmp_path):
    train(tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert 'aria-label="Pairs whose chosen answer has the higher reward, by step"' in page
    assert 'aria-label="Rewards, smoothed, by step"' in page
    assert (tmp_path / "run" / "curves.png").is_file()
    assert all(line["flops"] > 0 for line in lines(tmp_path / "run"))


def test_pairs_are_learned(train, start, tmp_path):
    outcome = train(tmp_path / "run", stage=replace(STAGE, epochs=8, warmup=0.0))
    told = lines(tmp_path / "run")
    assert [line["step"] for line in told] == list(range(1, 23))  # 64 pairs, three a step
    assert told[-1]["samples"] == 64
    assert told[-1]["margin"] == told[-1]["chosen_reward"] - told[-1]["rejected_reward"] > 0
    assert told[-1]["accuracy"] == 1.0
    assert told[-1]["loss"] < told[0]["loss"]
    before, after = (load_network(inspect(p)).state_dict() for p in (start, outcome.checkpoint))
    moved = {n.partition(".")[0] for n in before if not torch.equal(before[n], after[n])}
    assert moved == {"vision_encoder", "projector", "image_newline", "language_model"}


@pytest.mark.parametrize("rank", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_resumed_run_ends_with_the_same_bits(train, tmp_path, rank):
    options = replace(OPTIONS, lora_rank=rank)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(whole, options=options)
    assert train(cut, options=options, stop_after=1).checkpoint is None
    train(cut, options=options)
    assert same(last_tensors(whole), last_tensors(cut))
    assert [line["margin"] for line in lines(whole)] == [line["margin"] for line in lines(cut)]
    assert (cut / "adapter").is_dir() == bool(rank)


def test_how_pairs_are_packed_changes_nothing(train, tmp_path):
    train(tmp_path / "packed", stage=replace(STAGE, max_tokens=2000))
    train(tmp_path / "single", stage=replace(STAGE, max_tokens=200))
    a, b = (last_tensors(tmp_path / name) for name in ("packed", "single"))
    for name, tensor in a.items():
        torch.testing.assert_close(tensor, b[name], atol=2e-5, rtol=1e-3)


def test_the_reference_of_another_model_is_refused(train, tmp_path, micro_config, tokenizer):
    train(tmp_path / "run", stop_after=1)
    other = tmp_path / "other" / "checkpoint"
    save(randomise(LlavaNetwork(micro_config), std=0.2), micro_config, tokenizer, other)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "reference.jsonl").write_bytes(
        (tmp_path / "run" / "reference.jsonl").read_bytes()
    )
    with pytest.raises(CheckpointError, match="precompute it again from the network"):
        train(tmp_path / "new", begin=other)


def test_a_resumed_run_checks_whose_reference_it_reads(train, tmp_path):
    train(tmp_path / "run", stop_after=1)
    path = tmp_path / "run" / "reference.jsonl"
    head, *rest = path.read_text().splitlines(keepends=True)
    other = json.loads(head) | {"model": "0" * 32 + "/fp32"}
    path.write_text(json.dumps(other) + "\n" + "".join(rest))
    with pytest.raises(CheckpointError, match=r"it is of model 0{32}/fp32 in format 1, expected"):
        train(tmp_path / "run")


def test_a_resumed_run_refuses_other_pairs(train, tmp_path, pairs):
    train(tmp_path / "run", stop_after=1)
    before = pairs.read_text()
    pairs.write_text(before.replace("a ring indeed", "a ring it is"))
    try:
        with pytest.raises(ConfigError, match=r"\(data: pairs\.jsonl has changed\)"):
            train(tmp_path / "run")
    finally:
        pairs.write_text(before)


def test_settings_of_pairs_decide_the_outcome(train, tmp_path):
    train(tmp_path / "run", stop_after=1)
    told = read_train_config(tmp_path / "run" / "settings.json")
    assert told.preference == PreferenceConfig(beta=0.1, sft_weight=0.0)
    other = replace(told, preference=PreferenceConfig(beta=0.2))
    assert list_changes(told, other) == ["preference.beta: 0.1 -> 0.2"]
    with pytest.raises(ConfigError, match=r"preference.beta: 0.1 -> 0.2"):
        train(tmp_path / "run", beta=0.2)


def test_the_recipe_is_the_released_one():
    assert (DPO.learning_rate, DPO.vision_learning_rate) == (5e-7, 5e-7)
    assert (DPO.warmup, DPO.epochs, DPO.global_batch) == (0.1, 1, 8)
    assert DPO.trainable == ("vision_encoder", "projector", "language_model")


def test_pairs_that_are_too_long_are_named(pairs, micro_config, tokenizer):
    processor = Processor(micro_config.inputs, tokenizer)
    preferences = read_preferences(pairs, num_frames=3)

    def make(**changes):
        place = {"name": "pairs.jsonl", "max_positions": 2048, "seed": 0}
        return PreferenceFeed(STAGE, processor, preferences, **place | changes)

    lengths = sorted((make()._length(p), p.id) for p in preferences)
    (most, name), (limit, _) = lengths[-1], lengths[-2]
    with pytest.raises(DataError) as error:
        make(max_positions=limit)
    assert str(error.value).startswith(
        f"pairs.jsonl: 1 of 8 pairs are longer than the limit of {limit} tokens: "
        f"{name!r} ({most}); shorten"
    )
    with pytest.raises(DataError, match="it has no pair"):
        PreferenceFeed(STAGE, processor, [], name="x", max_positions=9, seed=0)


def test_every_epoch_shows_every_pair_once(pairs, micro_config, tokenizer):
    processor = Processor(micro_config.inputs, tokenizer)
    preferences = read_preferences(pairs, num_frames=3)
    feeds = [
        PreferenceFeed(
            replace(STAGE, epochs=2), processor, preferences, name="p", max_positions=2048, seed=0,
            rank=rank, ranks=2,
        )
        for rank in range(2)
    ]  # fmt: skip
    first, second = (
        [feeds[0].number_at(place) for place in range(begin, begin + 8)] for begin in (0, 8)
    )
    assert sorted(first) == sorted(second) == list(range(8))
    assert first != second
    shares = [[one.samples for step in feed.steps(0) for one in step] for feed in feeds]
    assert sum(len(samples) for share in shares for samples in share) == 16
    keys = {key for feed in feeds for one in feed.first_epoch() for key in one.keys}
    assert len(keys) == 8


def test_pairs_that_memory_does_not_hold_are_learned_the_same(train, tmp_path, monkeypatch):
    train(tmp_path / "whole")
    run = PreferenceLearner.forward

    def little(self, pairs, weights):
        if len(weights) > 2:
            raise torch.OutOfMemoryError("no room")
        return run(self, pairs, weights)

    monkeypatch.setattr(PreferenceLearner, "forward", little)
    train(tmp_path / "halves")
    whole, in_halves = lines(tmp_path / "whole"), lines(tmp_path / "halves")
    for key in ("loss", "grad_norm", "margin", "accuracy", "sft_loss", "supervised_tokens"):
        expected = [line[key] for line in whole]
        assert [line[key] for line in in_halves] == pytest.approx(expected, rel=1e-4, abs=1e-6)


@dataclass(frozen=True)
class Pairs:
    """Runs on the pairs of the stage's mixture, in place of training."""

    start: Path

    def __call__(self, told):
        settings = settings_of(told)
        given = arguments(told) | {"starts": Starts(previous=(self.start,))}
        told_pairs = replace(settings, preference=PreferenceConfig())
        return run_stage(told_pairs, **given).exit_code


@pytest.mark.distributed
@pytest.mark.parametrize("sharing", [pytest.param("replicate", marks=pytest.mark.slow), "shard"])
def test_two_processes_learn_as_one(nursery, pairs, start, micro_config, tmp_path, sharing):
    stage = STAGE.learning_from(str(pairs))
    told = Told(
        output=tmp_path / "one", stage=stage, options=OPTIONS, target=micro_config, act=Pairs(start)
    )
    nursery.train(told)
    nursery.train(told.but(output=tmp_path / "two", sharing=sharing), ranks=2)
    one, two = lines(tmp_path / "one"), lines(tmp_path / "two")
    for key in ("loss", "margin", "chosen_reward", "sft_loss"):
        expected = [line[key] for line in one]
        assert [line[key] for line in two] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert [line["supervised_tokens"] for line in one] == [
        line["supervised_tokens"] for line in two
    ]
    assert not list((tmp_path / "two").glob(".reference*"))


def test_the_command_runs(pairs, start, tmp_path):
    done = command(
        *("dpo", pairs, "--from", start, "-o", tmp_path / "run", "--set", "global_batch=4"),
        *("--set", "num_frames=3", "--set", "beta=0.2"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"wrote {tmp_path / 'run' / 'checkpoint'}"
    assert "accuracy" in done.stderr
    told = read_train_config(tmp_path / "run" / "settings.json")
    assert told.preference == PreferenceConfig(beta=0.2)
    wrong = command("dpo", pairs, "--from", start, "-o", tmp_path / "b", "--set", "bta=1")
    assert wrong.returncode == 1
    assert "did you mean 'beta'" in wrong.stderr


@pytest.mark.slow
def test_targets_decide_what_trains(pairs, start, tmp_path):
    settings = ("global_batch=8", "num_frames=3", "lora_rank=2", "lora_rslora=true")
    words = [w for one in (*settings, "lora_targets=attention") for w in ("--set", one)]
    done = command("dpo", pairs, "--from", start, "-o", tmp_path / "run", *words)
    assert done.returncode == 0, done.stderr
    assert "trains whole" not in done.stderr
    values = json.loads((tmp_path / "run" / "adapter" / "adapter_config.json").read_text())
    assert values["use_rslora"] is True
    assert {name.split(".")[-2] for name in values["target_modules"]} == {"self_attn"}
    assert not [name for name in values["modules_to_save"] if "vision" in name]
