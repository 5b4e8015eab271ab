"""The model card: what the hub reads in it, and that nothing in it is made up."""

import pytest
import yaml
from huggingface_hub import ModelCard

from onevision import __version__
from onevision.errors import ConfigError
from onevision.train.report.card import HeldoutScore, ModelFacts, Source, Spent, Start, model_card

FULL = ModelFacts(
    name="small-onevision",
    num_parameters={"vision_encoder": 3_000_000, "language_model": 5_000_000},
    stages={
        "align": {"learning_rate": 3e-3, "trainable": ("projector",)},
        "onevision": {"seed": 4},
    },
    sources=[
        Source(name="ai2d", num_rows=2_434, licence="CC-BY-SA-4.0", hub_id="lmms-lab/data"),
        Source(name="mine"),
    ],
    starts=[Start(name="Qwen2-0.5B", hub_id="Qwen/Qwen2-0.5B", revision="abc", licence="Apache")],
    spent=Spent(hours=2.5, device="2 CPU cores", num_tokens=1_000_000),
    scores={
        "exact match": HeldoutScore(value="49.8 %", command="onevision eval --model x | tee log")
    },
    limits="It cannot read.",
    licence="Apache-2.0",
    model="someone/small-onevision",
)


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


def section(card, title):
    return card.split(f"## {title}\n\n")[1].split("\n\n## ")[0].strip()


def test_the_hub_reads_the_front_matter():
    data = ModelCard(model_card(FULL)).data.to_dict()
    assert data["license"] == "apache-2.0"
    assert data["base_model"] == ["Qwen/Qwen2-0.5B"]
    assert data["datasets"] == ["lmms-lab/data"]
    assert data["pipeline_tag"] == "image-text-to-text"
    assert "llava-onevision" in data["tags"]


def test_a_full_card_says_what_was_given():
    card = model_card(FULL)
    assert "# small-onevision\n" in card
    assert f"onevision {__version__}" in card
    assert "| all | 8,000,000 |" in section(card, "Architecture")
    assert "| ai2d | 2,434 | CC-BY-SA-4.0 |" in section(card, "Data")
    assert "| Qwen2-0.5B | Qwen/Qwen2-0.5B | abc | Apache |" in section(card, "Starting points")
    assert "| hours | 2.5 |" in section(card, "Cost")
    assert section(card, "Limits") == "It cannot read."
    assert 'onevision ask --model someone/small-onevision "' in section(card, "How to use it")


def test_stages_are_columns_and_what_one_lacks_is_not_recorded():
    table = section(model_card(FULL), "Training").splitlines()
    assert table[0] == "| setting | align | onevision |"
    assert table[2:] == [
        "| learning rate | 0.003 | not recorded |",
        "| trainable | projector | not recorded |",
        "| seed | not recorded | 4 |",
    ]


def test_a_score_stands_beside_its_command():
    scores = section(model_card(FULL), "Scores")
    assert scores.splitlines()[2] == (
        "| exact match | 49.8 % | `onevision eval --model x \\| tee log` |"
    )


def test_what_is_not_given_is_not_made_up():
    card = model_card(ModelFacts(name="bare"))
    for title in ("Architecture", "Training", "Starting points", "Data", "Limits", "Licence"):
        assert section(card, title) == "Not recorded."
    assert section(card, "Scores") == "Not evaluated."
    assert section(card, "Cost").count("not recorded") == 4
    assert front_matter(card).keys() == {"library_name", "pipeline_tag", "tags"}


def test_energy_is_said_only_where_it_was_measured():
    assert "| energy (kWh, measured) | not recorded |" in model_card(FULL)
    measured = ModelFacts(name="x", spent=Spent(energy_kwh=1.25))
    assert "| energy (kWh, measured) | 1.25 |" in model_card(measured)


def test_only_the_hubs_names_enter_the_front_matter():
    facts = ModelFacts(name="x", starts=[Start(name="runs/align")], sources=[Source(name="a/b")])
    assert not {"base_model", "datasets"} & front_matter(model_card(facts)).keys()


def test_names_cannot_break_the_table_or_the_front_matter():
    facts = ModelFacts(
        name="a\n---\nb", licence="x: [y", sources=[Source(name="a|b\nc", licence="---")]
    )
    card = model_card(facts)
    assert front_matter(card)["license"] == "x: [y"
    assert "\n# a --- b\n" in card
    assert "| a\\|b c | not recorded | --- |" in card


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModelFacts(name=" "), "has no name"),
        (
            lambda: HeldoutScore(value="50 %", command=" "),
            "no command; give the one that measured it",
        ),
        (lambda: ModelFacts(name="x", starts=[Start(name="q", hub_id="q")]), "not OWNER/NAME"),
    ],
)
def test_facts_that_cannot_stand_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
