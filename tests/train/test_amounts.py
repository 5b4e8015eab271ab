import json

import pytest

from onevision.data.mixture import open_mixture, published_mixtures
from onevision.data.planner import make_plan
from onevision.data.samples import SampleReader
from onevision.errors import DataError
from onevision.inputs.processor import Processor
from onevision.known_models import ONEVISION_7B, TINY
from onevision.train.cost.amounts import count_families, count_mixture, simulate_mixture
from onevision.train.cost.devices import get_device_kind
from onevision.train.cost.plan import plan_training
from onevision.train.stage import stage_config
from onevision.train.stages import CURRICULA, stage_named

MIXTURES = published_mixtures()
KNOWLEDGE = stage_named("knowledge", "7b")


def test_published_mixtures_are_simulated():
    totals = {}
    for stage in CURRICULA["7b"].values():
        config = stage_config(stage, ONEVISION_7B)
        read = simulate_mixture(MIXTURES / stage.mixture, stage, config.inputs)
        plan_ = plan_training(stage, ONEVISION_7B, read, kind=get_device_kind("h100"))
        totals[stage.name] = (plan_.num_samples, plan_.num_steps, len(plan_.uncounted))
        assert plan_.simulated
    assert totals == {
        "align": (558_000, 1090, 0),
        "knowledge": (4_071_000, 15903, 0),
        "single_image": (3_240_291, 12658, 0),
        "onevision": (1_962_810, 7668, 4),
    }


def test_simulated_samples_climb_the_ladder():
    def mean(stage, scenario):
        stage = stage_named(stage, "7b")
        inputs = stage_config(stage, ONEVISION_7B).inputs
        read = simulate_mixture(MIXTURES / stage.mixture, stage, inputs)
        return next(one for one in read if one.scenario == scenario)

    align = mean("align", "single_image")
    assert (align.num_crops, align.visual_tokens, align.text_tokens) == (1, 729, 16)
    knowledge, onevision = (mean(s, "single_image") for s in ("knowledge", "onevision"))
    assert 729 < knowledge.visual_tokens < onevision.visual_tokens <= 8765
    # The mean of squares is at least the square of the mean.
    assert onevision.pairs > onevision.num_tokens**2 / 2
    video = mean("onevision", "video")
    assert (video.num_crops, video.visual_tokens) == (32, 32 * 196 + 1)
    assert mean("onevision", "multi_image").visual_tokens == 4 * 730
    assert mean("onevision", "text").visual_tokens == 0


def test_a_mixture_without_scenarios_cannot_be_simulated(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("datasets:\n  - json_path: mine.json\n")
    with pytest.raises(DataError, match=r"'mine\.json' needs a scenario and no share"):
        simulate_mixture(path, KNOWLEDGE, ONEVISION_7B.inputs)


def test_drawn_samples_are_counted(tokenizer):
    stage = stage_named("onevision")
    read = count_families(stage, Processor(TINY.inputs, tokenizer), rows_each=4)
    assert {one.name: one.num_samples for one in read} == {
        "scenes": 6000,
        "pairs": 7000,
        "clips": 6400,
        "texts": 600,
    }
    scenes, pairs, clips, texts = read
    assert (scenes.scenario, pairs.scenario, clips.scenario) == (
        "single_image",
        "multi_image",
        "video",
    )
    assert texts.num_crops == 0
    assert scenes.visual_tokens >= 49
    # Branches share their prefix and do not see each other.
    assert scenes.pairs < scenes.num_tokens**2 / 2
    plan_ = plan_training(stage, TINY, read, kind=get_device_kind("cpu"))
    assert (plan_.num_steps, plan_.simulated, plan_.fits) == (625, False, True)


def test_planned_mixtures_are_counted(tmp_path, monkeypatch, picture, micro_config, tokenizer):
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))
    picture(50, 50).save(tmp_path / "a.png")
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A thing."}]
    records = [{"id": str(n), "image": "a.png", "conversations": turns} for n in range(7)]
    (tmp_path / "mine.json").write_text(json.dumps(records))
    reader = SampleReader(
        mixture=open_mixture(tmp_path / "mine.json"),
        processor=Processor(micro_config.inputs, tokenizer),
        max_tokens=400,
    )
    (read,) = count_mixture(reader, make_plan(reader, num_workers=0), rows_each=3)
    example = reader.processor.example(reader.fit(0, 0).outline)
    assert read.num_samples == 7
    assert read.num_tokens == pytest.approx(len(example.input_ids))
    assert read.visual_tokens == pytest.approx(int(example.visual_mask.sum()))
    assert read.labelled_tokens == pytest.approx(int((example.labels != -100).sum()))
    assert (read.scenario, read.simulated) == ("single_image", False)


def test_planned_lengths_are_those_of_every_usable_row(
    tmp_path, monkeypatch, picture, micro_config, tokenizer
):
    """The rows that are looked at are the shortest and the longest of five; two are broken."""
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))
    picture(50, 50).save(tmp_path / "a.png")
    records = [
        {
            "image": "a.png" if row < 5 else "gone.png",
            "conversations": [
                {"from": "human", "value": "<image>\nWhat?" + " Well?" * row**2},
                {"from": "gpt", "value": "A thing."},
            ],
        }
        for row in range(7)
    ]
    (tmp_path / "mine.json").write_text(json.dumps(records))
    reader = SampleReader(
        mixture=open_mixture(tmp_path / "mine.json"),
        processor=Processor(micro_config.inputs, tokenizer),
        max_tokens=400,
    )
    (read,) = count_mixture(reader, make_plan(reader, num_workers=0), rows_each=2)
    lengths = [len(reader.decode(0, row)) for row in range(5)]
    assert read.num_samples == 5
    assert read.num_tokens == pytest.approx(sum(lengths) / 5)
    assert read.pairs == pytest.approx(sum(n**2 for n in lengths) / 10)
    assert 0 < read.visual_tokens < read.num_tokens
