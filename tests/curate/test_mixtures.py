"""The shipped mixtures say how each part that is missing can be made, and the commands exist."""

import shlex
from pathlib import Path

import pytest
import typer
import yaml
from typer.core import TyperGroup
from typer.exceptions import TyperException

import onevision
from onevision.cli import app
from tests.curate.conftest import run

MIXTURES = Path(onevision.__file__).parent / "mixtures"
MADE = {
    (file.stem, part["name"]): part["make"]
    for file in sorted(MIXTURES.glob("*.yaml"))
    for part in yaml.safe_load(file.read_text()).get("datasets", [])
    if "make" in part
}


def parse(words):
    """Parse a command as the command line does, and return it with its options, but run nothing."""
    command, context = typer.main.get_command(app), None
    name, *words = words
    while isinstance(command, TyperGroup):
        name, *words = words
        command = command.get_command(context, name)
        assert command is not None, f"no command {name!r}"
    return name, command.make_context(name, list(words)).params


@pytest.mark.parametrize(
    ("part", "command", "asked"),
    [
        (("knowledge", "synthdog_zh"), "documents", {"languages": "zh", "count": 100_000}),
        (("knowledge", "synthdog_en"), "documents", {"languages": "en", "count": 100_000}),
        (("knowledge", "ureader_tr"), "documents", {"languages": "en"}),
        (("knowledge", "azure_dc_zh"), "recaption", {"language": "zh"}),
        (("knowledge", "evol_instruct"), "evolve", {}),
        (("knowledge", "recap_cc3m"), "recaption", {"language": "en"}),
        (("llava_v1_instruct", "conversation"), "instruct", {"kinds": "conversation"}),
        (("llava_v1_instruct", "detail"), "instruct", {"kinds": "detail"}),
        (("llava_v1_instruct", "complex_reasoning"), "instruct", {"kinds": "reasoning"}),
        (("llava_v1_align", "cc3m_595k"), "balance", {}),
        (("single_image", "evol_instruct"), "evolve", {}),
        (("single_image_paper", "SynthDog-EN"), "documents", {"count": 40_093}),
    ],
)
def test_a_part_names_the_command_that_makes_it(part, command, asked):
    name, options = parse(shlex.split(MADE[part]))
    assert name == command
    assert {key: options[key] for key in asked} == asked


@pytest.mark.parametrize("part", MADE, ids="/".join)
def test_the_command_line_takes_each_command(part):
    parse(shlex.split(MADE[part]))


@pytest.mark.parametrize(
    "command",
    [
        "onevision curate document -o pages",
        "onevision curate documents -o pages --language zh",
        "onevision curate documents --count 3",
        "onevision curate recaption PICTURES -o made --language fr",
    ],
)
def test_a_command_that_does_not_exist_would_be_noticed(command):
    with pytest.raises((AssertionError, TyperException)):
        parse(shlex.split(command))


def test_a_mixtures_own_note_names_a_command_that_exists():
    note = yaml.safe_load((MIXTURES / "knowledge.yaml").read_text())["note"]
    name, options = parse(shlex.split(note.split("`")[1]))
    assert (name, options["count"], options["languages"]) == ("documents", 1_100_000, "en,zh")


def test_data_check_prints_the_commands_of_what_is_missing():
    found = run("data", "check", "llava_v1_instruct")
    told = found.stdout.split("or make records like them:\n")[1].splitlines()[:3]
    assert found.returncode == 3
    assert [line.strip() for line in told] == [
        MADE["llava_v1_instruct", name] for name in ("conversation", "detail", "complex_reasoning")
    ]
