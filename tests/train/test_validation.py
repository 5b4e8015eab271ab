"""Held-out samples: what is held out, what their loss decides, and that nothing leaks."""

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from onevision.checkpoint.load import inspect, load_network
from onevision.cli import app
from onevision.data.mixture import open_mixture
from onevision.data.planner import make_plan
from onevision.data.samples import SampleReader
from onevision.errors import ConfigError, DataError
from onevision.inputs.processor import Processor
from onevision.train.config import make_run_options
from onevision.train.validation.best import Losses
from onevision.train.validation.held_out import mean_of_ratios, sums_of
from onevision.train.validation.split import count_held_out, hold_out_others, hold_out_share
from tests.train.runs import MICRO, lines
from tests.train.test_own_data import train


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def planned(tokenizer):
    def plan(path):
        reader = SampleReader(
            mixture=open_mixture(path),
            processor=Processor(MICRO.inputs, tokenizer),
            max_tokens=2000,
        )
        return reader, make_plan(reader, num_workers=0)

    return plan


def held_ids(opened, share=0.2) -> set[str]:
    """Return the ids of the records that are held out."""
    reader, plan = opened
    masks = hold_out_share(reader, plan, share=share).held_out
    source = reader.mixture.datasets[0].source
    rows = plan.datasets[0].rows[masks[0]].tolist()
    return {str(source.read(row).fields["id"]) for row in rows}


def rewrite(path: Path, order: Sequence[int]) -> None:
    records = json.loads(path.read_text())
    path.write_text(json.dumps([records[n] for n in order]))


def test_content_alone_decides_what_is_held_out(pictures, planned, tmp_path):
    data = pictures(20)
    before = held_ids(planned(data))
    assert len(before) == 4
    rewrite(data, range(19, -1, -1))
    assert held_ids(planned(data)) == before
    for file in tmp_path.glob("*.png"):
        file.rename(tmp_path / f"renamed-{file.name}")
    data.write_text(data.read_text().replace('"image": "', '"image": "renamed-'))
    assert held_ids(planned(data)) == before


@pytest.mark.parametrize("kind", ["same file", "copy", "same record", "text alone"])
def test_what_shows_the_same_is_on_one_side(pictures, planned, tmp_path, kind):
    def repeat(records):
        for one in records[12:]:
            twin = records[int(one["id"]) - 12]
            if kind == "copy":
                shutil.copy(tmp_path / twin["image"], tmp_path / f"copy-{twin['image']}")
            one["image"] = f"copy-{twin['image']}" if kind == "copy" else twin["image"]
            if kind in ("same record", "text alone"):
                one["conversations"] = twin["conversations"]
        if kind == "text alone":
            for one in records:
                del one["image"]
                turn = one["conversations"][0]
                turn["value"] = turn["value"].replace("<image>", f"Number {int(one['id']) % 12}:")

    held = held_ids(planned(pictures(24, repeat)))
    assert held
    assert {str((int(n) + 12) % 24) for n in held} == held


def test_samples_that_all_show_the_same_are_divided_and_said(pictures, planned, small, tmp_path):
    def share(records):
        for one in records:
            one["image"] = "0.png"

    reader, plan = planned(pictures(12, share))
    held = hold_out_share(reader, plan, share=0.25)
    assert held.divided
    assert held.held_out[0].sum() == 3
    assert not (held.held_out[0] & held.learned[0]).any()
    said = train("onevision", pictures(12, share), small, tmp_path / "run", "held_out=0.25")
    assert "so those held out show pictures that are learned from" in said


@pytest.mark.parametrize(
    ("num_samples", "share", "held"),
    [
        (4, 0.05, 1),
        (9, 0.05, 1),
        (10, 0.05, 2),
        (60, 0.05, 12),
        (80, 0.05, 16),
        (320, 0.05, 16),
        (1000, 0.05, 50),
        (20, 0.5, 10),  # who asks for more gets it
    ],
)
def test_small_sets_hold_out_sixteen_or_a_fifth(num_samples, share, held):
    assert count_held_out(num_samples, share=share) == held


def test_the_standard_error_is_that_of_a_ratio():
    # Two samples of one token each, and one of two: losses 1, 2 and 3, 5.
    losses, owners = torch.tensor([1.0, 2.0, 3.0, 5.0]), torch.tensor([0, 4, 7, 7])
    found = mean_of_ratios(*sums_of(losses, owners))
    mean, sums, counts = 11 / 4, [1, 2, 8], [1, 1, 2]
    spread = sum((s - mean * n) ** 2 for s, n in zip(sums, counts, strict=True))
    assert found.mean == pytest.approx(mean)
    assert found.standard_error == pytest.approx(math.sqrt(spread * 3 / 2) / 4)
    one = mean_of_ratios(*sums_of(losses[:1], owners[:1]))
    assert (one.mean, one.standard_error) == (1.0, None)


def test_too_few_samples_are_refused(pictures, planned):
    with pytest.raises(DataError, match="3 usable samples, too few to hold some out; give 4"):
        hold_out_share(*planned(pictures(3)), share=0.5)


def test_a_file_of_held_out_samples_is_not_learned_from(pictures, planned, tmp_path):
    reader, plan = planned(pictures(8))
    records = json.loads((tmp_path / "mine.json").read_text())
    (tmp_path / "others.json").write_text(json.dumps(records[2:4]))
    other, others = planned(tmp_path / "others.json")
    held = hold_out_others(reader, plan, other=other, others=others)
    assert [len(m) for m in held.held_out] == [2]
    assert held.learned[0].tolist() == [True, True, False, False, True, True, True, True]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["held_out=1.5"], "held_out is 1.5; expected a share above 0 and below 1"),
        (["early_stop=2"], "held_out_steps and early_stop need held-out samples"),
        (["held_out_steps=5"], "held_out_steps and early_stop need held-out samples"),
    ],
)
def test_settings_that_contradict_each_other(settings, said):
    with pytest.raises(ConfigError, match=said):
        make_run_options(settings)


def test_the_lowest_of_equal_losses_is_the_first():
    losses = Losses(by_step={0: 3.0, 5: 1.0, 10: 1.0, 15: 2.0})
    assert (losses.best, losses.num_stale) == (5, 2)
    assert losses.written(keep_best=True) == 5
    assert losses.written(keep_best=False) == 15
    assert Losses(by_step={0: 1.0, 5: 2.0}).written(keep_best=True) == 5  # nothing better came


# In a run

TOLD = ("global_batch=4", "max_tokens=1500", "epochs=3", "learning_rate=3e-3")


def validation(output):
    return [json.loads(line) for line in (output / "validation.jsonl").read_text().splitlines()]


def test_measuring_changes_no_bit_and_none_of_it_is_learned(pictures, small, tmp_path):
    data = pictures(20)
    keys = (*TOLD, "held_out=0.2", "keep_best=false")
    said = train("onevision", data, small, tmp_path / "a", *keys, "held_out_steps=3")
    assert "held-out loss before the first step" in said
    assert [line["step"] for line in validation(tmp_path / "a")] == [0, 3, 6, 9, 12]
    assert {line["samples"] for line in validation(tmp_path / "a")} == {4}
    assert lines(tmp_path / "a")[-1]["samples"] == 3 * 16
    train("onevision", data, small, tmp_path / "b", *keys, "held_out_steps=12")
    first, second = (
        load_network(inspect(tmp_path / one / "checkpoint")).state_dict() for one in "ab"
    )
    assert all(bool((first[name] == second[name]).all()) for name in first)


def test_a_run_ends_early_and_writes_its_best_weights(pictures, small, tmp_path):
    data, output = pictures(20), tmp_path / "run"
    told = ("held_out=0.2", "held_out_steps=1", "early_stop=2", "epochs=30", "learning_rate=0.3")
    train("onevision", data, small, output, *TOLD[:2], *told, "vision_learning_rate=0.3")
    losses = {line["step"]: line["loss"] for line in validation(output)}
    best = min(losses, key=losses.get)
    assert max(losses) == best + 2 < 120  # two more, neither of them better
    assert len(lines(output)) == max(losses)
    again = train("onevision", data, small, output, *TOLD[:2], *told, "vision_learning_rate=0.3")
    assert "held-out loss" not in again  # it takes no more steps
    assert len(lines(output)) == max(losses)


def test_what_has_nothing_to_hold_out_says_so(small, tmp_path):
    pairs = [{"id": str(n), "prompt": f"What {n}?", "chosen": "A", "rejected": "B"} for n in "1234"]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    told = ("dpo", tmp_path / "pairs.jsonl", "--from", small, "-o", tmp_path / "run")
    done = CliRunner().invoke(app, [*map(str, told), "--set", "held_out=0.5"])
    assert "stage dpo has no samples to hold out" in str(done.exception)
