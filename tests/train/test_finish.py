"""What a finished run leaves beside its weights."""

import json
from dataclasses import replace

import pytest

from onevision.data.mixture import open_mixture
from onevision.train import finish
from onevision.train.finish import list_sources
from onevision.train.mixture_feed import MixtureFeed
from onevision.train.objectives.table import make_objective
from onevision.train.report.card import Source
from tests.train.runs import MICRO, OPTIONS, SHORT, Told, context_of, run, settings_of

STAGE = replace(SHORT, num_samples=8, resolution="target")


@pytest.fixture
def told(tmp_path):
    return Told(output=tmp_path / "run", stage=STAGE, options=OPTIONS, target=MICRO)


def test_curves_and_card_lie_there(told):
    run(told)
    assert (told.output / "report.html").is_file()
    assert (told.output / "curves.png").is_file()
    card = (told.output / "checkpoint" / "README.md").read_text()
    assert "| vision encoder |" in card
    assert "| projector |" in card
    assert "| global batch | 4 |" in card
    assert "| precision | fp32 |" in card
    assert "| scenes | not recorded | not recorded |" in card
    assert "| num samples | 8 |" in card
    assert not [word for word in ("| lora ", "| labels ", "| early stop ") if word in card]
    lines = [json.loads(line) for line in (told.output / "metrics.jsonl").read_text().splitlines()]
    assert f"| tokens | {sum(line['tokens'] for line in lines):,} |" in card
    assert "Not evaluated." in card


def test_a_score_stands_with_its_command(told):
    run(told.but(eval_steps=2, eval_questions=1))
    card = (told.output / "checkpoint" / "README.md").read_text()
    model = told.output / "checkpoint"
    assert f"`onevision eval --model {model} --scenario video --count 1 --no-blind`" in card


def test_what_cannot_be_drawn_loses_no_weights(told, monkeypatch, capsys):
    def fail(directory, **_):
        raise OSError("no room")

    monkeypatch.setattr(finish, "write_curves", fail)
    run(told)
    assert (told.output / "checkpoint" / "model.safetensors").is_file()
    assert "the curves could not be written (no room); the weights are safe" in "".join(
        capsys.readouterr()
    )


def test_sources_of_a_mixture_have_rows_and_licences(told, mixture_file, monkeypatch, tmp_path):
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))
    mixture_file.write_text(
        "datasets:\n  - json_path: texts.json\n    licence: cc-by-4.0\n    source: us/texts\n"
    )
    stage = replace(STAGE, families={}, num_samples=None, mixture=str(mixture_file))
    feed = make_objective(context_of(told.but(stage=stage, num_workers=0))).feed
    assert isinstance(feed, MixtureFeed)
    (found,) = list_sources(feed)
    assert replace(found, name="") == Source(
        name="", num_rows=20, licence="cc-by-4.0", hub_id="us/texts"
    )
    assert len(open_mixture(mixture_file)) == 20
    assert settings_of(told).preference is None
