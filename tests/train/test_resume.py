"""A run that was stopped goes on as if nothing had happened."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from onevision.config import FORMAT_VERSION
from onevision.errors import ConfigError
from onevision.train.directory import RunDirectory, content_changes
from onevision.train.parallel import join_processes
from onevision.train.report.journal import Callbacks
from onevision.train.run import TrainingRun
from onevision.train.snapshots import SnapshotReader, newest_snapshot, read_state, snapshots
from onevision.train.state import save_snapshot
from tests.train.runs import (
    SHORT,
    Told,
    arguments,
    left,
    lines,
    loss_values,
    losses,
    run,
    settings_of,
    tensors,
)

FIVE_STEPS = replace(SHORT, num_samples=20)


def checkpoint(output):
    """The file itself is not the same: its header has no fixed order."""
    tensors = load_file(output / "checkpoint" / "model.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("ranks", "sharing", "precision"),
    [
        (1, "replicate", "fp32"),
        (2, "shard", "bf16"),
        pytest.param(1, "replicate", "bf16", marks=pytest.mark.slow),
        pytest.param(2, "replicate", "fp32", marks=pytest.mark.slow),
        pytest.param(2, "replicate", "bf16", marks=pytest.mark.slow),
        pytest.param(2, "shard", "fp32", marks=pytest.mark.slow),
    ],
)
def test_resume_is_bit_exact(nursery, tmp_path, precision, ranks, sharing):
    told = Told(output=tmp_path / "whole", stage=FIVE_STEPS)
    told = told.but(precision=precision, sharing=sharing)
    nursery.train(told, ranks)
    parts = told.but(output=tmp_path / "parts")
    nursery.train(parts.but(stop_after=2), ranks)
    assert [line["step"] for line in lines(parts.output)] == [1, 2]
    assert not (parts.output / "checkpoint").exists()
    nursery.train(parts, ranks)
    assert [line["step"] for line in lines(parts.output)] == [1, 2, 3, 4, 5]
    assert left(parts.output) == left(told.output)
    assert checkpoint(parts.output) == checkpoint(told.output)
    assert len(set(tensors(told.output).values())) > 3 * 40  # weights and both moments of them


def test_resume_of_muon_is_bit_exact(nursery, tmp_path):
    told = Told(output=tmp_path / "whole", stage=replace(FIVE_STEPS, optimizer="muon"))
    nursery.train(told)
    parts = told.but(output=tmp_path / "parts")
    nursery.train(parts.but(stop_after=2))
    nursery.train(parts)
    assert checkpoint(parts.output) == checkpoint(told.output)
    momenta = [name for name in tensors(told.output) if name.startswith("momentum_buffer/")]
    assert momenta
    assert all(".blocks." in name for name in momenta)


@pytest.mark.distributed
def test_resume_with_a_mixture_whatever_the_workers(nursery, tmp_path, mixture_file):
    stage = replace(SHORT.learning_from(str(mixture_file)), resolution="target")
    stage = replace(stage, epochs=2, global_batch=32)
    told = Told(output=tmp_path / "whole", stage=stage).but(num_workers=0)
    nursery.train(told)
    assert len(lines(told.output)) == 5
    parts = told.but(output=tmp_path / "parts")
    nursery.train(parts.but(stop_after=1, num_workers=1))
    nursery.train(parts.but(stop_after=3, num_workers=2))  # into the second epoch
    nursery.train(parts)
    assert left(parts.output) == left(told.output)
    two = told.but(output=tmp_path / "two")
    nursery.train(two, 2)
    parts = told.but(output=tmp_path / "two parts")
    nursery.train(parts.but(stop_after=2), 2)
    nursery.train(parts, 2)
    assert left(parts.output) == left(two.output)
    assert loss_values(two.output) == pytest.approx(loss_values(told.output), rel=1e-4)


@pytest.fixture(scope="module")
def whole(nursery, tmp_path_factory):
    """Five steps of one process."""
    told = Told(output=tmp_path_factory.mktemp("whole"), stage=FIVE_STEPS).but(save_steps=100)
    nursery.train(told)
    return told


def save_again(told):
    """Load the newest snapshot and write it again, as these processes hold it."""
    options = told.options
    processes = join_processes(sharing=options.sharing, timeout_seconds=options.patience_seconds)
    given = arguments(told)
    directory = RunDirectory(given.pop("output"))
    loaded = TrainingRun(
        settings_of(told), processes=processes, callbacks=Callbacks(), directory=directory, **given
    )
    save_snapshot(loaded.trainer, told.output / "again", content=loaded.content)


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("before", "sharing", "after"), [(2, "shard", 1), (2, "shard", 4), (1, "replicate", 2)]
)
def test_resume_on_another_number_of_processes(nursery, tmp_path, whole, before, sharing, after):
    parts = whole.but(output=tmp_path / "parts", sharing=sharing)
    nursery.train(parts.but(stop_after=2), before)
    saved = tensors(parts.output)
    parts = parts.but(sharing="shard")
    nursery.train(parts.but(act=save_again), after)
    (again,) = snapshots(parts.output / "again")
    assert len(list(again.glob("rank-*.safetensors"))) == after
    assert tensors(parts.output / "again") == saved
    nursery.train(parts, after)
    assert loss_values(parts.output) == pytest.approx(loss_values(whole.output), rel=1e-4)
    for key in ("samples", "supervised_tokens", "learning_rates"):
        assert [line[key] for line in lines(parts.output)] == [
            line[key] for line in lines(whole.output)
        ]


def test_resume_reads_every_row_of_every_rank(nursery, tmp_path):
    """The pieces of two ranks, put together, are what the checkpoint holds."""
    told = Told(output=tmp_path, stage=FIVE_STEPS).but(sharing="shard", save_steps=100)
    nursery.train(told.but(stop_after=1), 2)
    reader = SnapshotReader(snapshots(tmp_path)[-1])
    name = "weight/language_model.embedding.weight"
    whole = reader.rows(name)
    assert whole.shape == (4099, 32)
    assert torch.equal(reader.rows(name, first=2040, count=20), whole[2040:2060])
    assert reader.rows(name, first=4099).shape == (0, 32)


def test_resume_with_other_settings_is_refused(tmp_path, nursery):
    told = Told(output=tmp_path, stage=FIVE_STEPS)
    nursery.train(told.but(stop_after=2))
    other = told.but(stage=replace(FIVE_STEPS, learning_rate=1e-4))
    with pytest.raises(ConfigError, match=r"learning_rate: 0.003 -> 0.0001.*--allow-change"):
        run(other)
    with pytest.raises(ConfigError, match="precision: fp32 -> bf16"):
        run(told.but(precision="bf16"))
    nursery.train(other.but(allow_change=("learning_rate",), stop_after=2))
    assert max(lines(tmp_path)[-1]["learning_rates"].values()) < 1e-3
    # What decides nothing may change: how often it saves, how many processes there are.
    nursery.train(other.but(save_steps=2, keep=1), 2)
    assert [path.name for path in snapshots(tmp_path)] == ["step-00000005"]


def test_a_run_of_an_older_release_resumes(tmp_path, nursery):
    """Before format version 3, settings did not say which kind the vision encoder is."""
    told = Told(output=tmp_path, stage=FIVE_STEPS)
    nursery.train(told.but(stop_after=2))
    path = tmp_path / "settings.json"
    settings = json.loads(path.read_text())
    settings["target"]["format_version"] = 2
    assert settings["target"]["vision"].pop("rule") == "VisionConfig"
    path.write_text(json.dumps(settings))
    nursery.train(told)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5]
    assert json.loads(path.read_text())["target"]["format_version"] == FORMAT_VERSION


@pytest.fixture
def on_mixture(mixture_file, tmp_path):
    """A run on the mixture that has ended two of its steps."""
    stage = replace(SHORT.learning_from(str(mixture_file)), resolution="target", global_batch=16)
    return Told(output=tmp_path / "run", stage=stage).but(num_workers=0)


def test_resume_on_other_words_is_refused(nursery, on_mixture, mixture_file):
    nursery.train(on_mixture.but(stop_after=2))
    path = mixture_file.parent / "texts.json"
    path.write_text(path.read_text().replace("thing 3", "thing 33"))
    said = nursery.train(on_mixture, code=1)
    assert "(data: texts.json has changed); use those" in said
    assert "or allow it: --allow-change data" in said
    nursery.train(on_mixture.but(allow_change=("data",)))
    assert lines(on_mixture.output)[-1]["step"] == 5


def test_resume_with_another_tokenizer_is_refused(nursery, tmp_path):
    told = Told(output=tmp_path, stage=FIVE_STEPS)
    nursery.train(told.but(stop_after=2))
    (path,) = snapshots(tmp_path)
    content = read_state(path)["content"]
    assert content["data"] == {}
    other = content | {"tokenizer": "0" * 16}
    with pytest.raises(ConfigError, match=r"\(tokenizer: it has changed\); use those"):
        RunDirectory(tmp_path).agree_on_content(path, other, allow_change=["data"])
    RunDirectory(tmp_path).agree_on_content(path, other, allow_change=["tokenizer"])


def test_what_data_changed_is_named():
    before = {"data": {"a": "1", "b": "1", "c": "1"}, "tokenizer": "1"}
    after = {"data": {"a": "2", "c": "1", "d": "1"}, "tokenizer": "1"}
    assert content_changes(before, after) == [
        "data: a has changed", "data: b is gone", "data: d is new",
    ]  # fmt: skip


def test_resume_neither_counts_nor_writes_a_bad_sample_again(nursery, on_mixture, mixture_file):
    """76 samples in two epochs may have one bad one; it is met before the stop and after it."""
    path = mixture_file.parent / "texts.json"
    records = json.loads(path.read_text())
    (mixture_file.parent / "own.json").write_text(json.dumps([records[0] | {"image": "own.png"}]))
    own = json.loads((mixture_file.parent / "own.json").read_text())
    own[0]["conversations"][0]["value"] = "<image>\nWhat?"
    (mixture_file.parent / "own.json").write_text(json.dumps(own))
    shutil.copy(mixture_file.parent / "0.png", mixture_file.parent / "own.png")
    with mixture_file.open("a") as file:
        file.write("  - json_path: own.json\n")
    told = on_mixture.but(stage=replace(on_mixture.stage, epochs=2))
    nursery.train(told.but(output=told.output / "planned", stop_after=1))  # fills the cache
    (mixture_file.parent / "own.png").write_bytes(b"")
    nursery.train(told.but(stop_after=7))
    nursery.train(told)
    noted = (told.output / "quarantine.jsonl").read_text().splitlines()
    assert [(json.loads(line)["source"], json.loads(line)["row"]) for line in noted] == [
        ("own.json", 0)
    ]


def test_resume_after_the_end_writes_the_checkpoint_again(tmp_path, nursery):
    told = Told(output=tmp_path, stage=FIVE_STEPS)
    nursery.train(told)
    before = left(tmp_path), checkpoint(tmp_path)
    nursery.train(told)
    assert (left(tmp_path), checkpoint(tmp_path)) == before


def test_resume_takes_the_newest_snapshot(tmp_path, nursery):
    told = Told(output=tmp_path, stage=FIVE_STEPS).but(save_steps=2)
    nursery.train(told)
    newest = newest_snapshot(tmp_path, warn=pytest.fail)
    assert newest is not None
    assert newest.name == "step-00000005"
    assert losses(tmp_path)[-1][0] == 5
