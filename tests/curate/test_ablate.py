"""The rule that writes instruction data, and what an ablation makes of scores."""

import json

import pytest

from onevision.curate.instruct import KINDS
from onevision.curate.learning.ablate import ARMS, PUBLISHED, summarize, write_data
from tests.curate.conftest import lines, run


def test_the_rule_writes_all_kinds_and_no_rule_of_instruct_is_broken(tmp_path):
    found = write_data(tmp_path / "train", "train", count=12)
    summary = json.loads((tmp_path / "train" / "data" / "summary.json").read_text())
    assert summary["kept"] == {kind: 12 for kind in KINDS} and summary["refused"] == {}
    caption = lines(tmp_path / "train" / "captions.jsonl")[0]["captions"][0]
    (_, answer) = (turn["value"] for turn in found["detail"][0]["conversations"])
    for thing in caption.removesuffix(".").split(". ")[1:]:
        name, _, place = thing.removeprefix("A ").partition(" at the ")
        if not thing.startswith("The "):  # writing
            assert f"At the {place} there is a {name}." in answer
    for record in found["reasoning"]:
        said = record["conversations"][1]["value"]
        counts = dict(pair.rsplit(" ", 1) for pair in _counted(said).split(", "))
        most = max(counts.values(), key=int)
        winners = [colour for colour, count in counts.items() if count == most]
        if len(winners) == 1:
            assert f"{winners[0]} would win" in said
        else:
            assert said.endswith("the vote has no winner.")


def test_seeds_have_pictures_of_their_own(tmp_path):
    first, second = (write_data(tmp_path / f"train-{seed}", "train", count=3, begin=3 * seed)
                     for seed in (0, 1))  # fmt: skip
    said = [{one["conversations"][1]["value"] for one in found["detail"]}
            for found in (first, second)]  # fmt: skip
    assert len(said[0]) == len(said[1]) == 3 and not said[0] & said[1]


def _counted(said):
    return said.partition("Counting by colour gives ")[2].partition(".")[0]


def test_arms_are_those_of_the_table_and_their_order_is_compared():
    assert ARMS.keys() == PUBLISHED.keys()
    one = {"conversation": 1.0, "detail": 2.0, "reasoning": 3.0, "mean": 2.0}
    two = {kind: 2 * value for kind, value in one.items()}
    found = summarize({"none": [one, two], "all": [two]})
    assert found["arms"]["none"]["mean"] == {"mean": 3.0, "deviation": 1.0, "seeds": 2}
    assert found["order"] == found["published_order"] == ["all", "none"]


@pytest.mark.slow
def test_an_ablation_of_one_seed_from_the_door(tmp_path):
    told = ("curate", "ablate", "-o", tmp_path / "runs", "--pictures", 2, "--heldout", 1,
            "--seeds", 1, "--set", "global_batch=4", "--set", "num_workers=0")  # fmt: skip
    found = run(*told)
    assert found.returncode == 0, found.stderr
    assert "LLaVA's order: all > detail-reasoning > conversation-5-10 > conversation > none" in (
        found.stdout
    )
    results = json.loads((tmp_path / "runs" / "results.json").read_text())
    assert results["arms"].keys() == ARMS.keys()
    records = json.loads((tmp_path / "runs" / "conversation-5-10-0.json").read_text())
    assert len(records) == 2 + 1 + 1
