"""The shipped mixtures say how each part that is missing can be made."""

import re
from pathlib import Path

import pytest
import yaml

import onevision
from onevision.cli.curate.commands import curate

MIXTURES = Path(onevision.__file__).parent / "mixtures"
COMMANDS = {one.name or one.callback.__name__ for one in curate.registered_commands}


@pytest.mark.parametrize(
    ("file", "part", "command"),
    [
        ("knowledge.yaml", "synthdog_zh", "documents"),
        ("knowledge.yaml", "synthdog_en", "documents"),
        ("knowledge.yaml", "ureader_tr", "documents"),
        ("knowledge.yaml", "azure_dc_zh", "recaption"),
        ("knowledge.yaml", "evol_instruct", "evolve"),
        ("knowledge.yaml", None, "recaption"),
        ("llava_v1_instruct.yaml", None, "instruct"),
        ("llava_v1_align.yaml", None, "balance"),
    ],
)
def test_a_part_names_the_command_that_makes_it(file, part, command):
    mixture = yaml.safe_load((MIXTURES / file).read_text())
    notes = {one["name"]: one.get("note", "") for one in mixture["datasets"]} | {
        None: mixture["note"]
    }
    found = re.findall(r"onevision curate\s+(\w+)", notes[part])
    assert command in found and set(found) <= COMMANDS
