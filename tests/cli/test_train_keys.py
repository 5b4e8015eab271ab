"""`onevision train --keys`: the table of settings, in the docs and complete."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from onevision.cli import app
from onevision.cli.training.keys import list_keys
from onevision.train.options import RunOptions
from onevision.train.preference.loss import PreferenceConfig
from onevision.train.stage import Stage

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


@pytest.mark.parametrize("kind", [Stage, RunOptions, PreferenceConfig])
def test_every_key_has_a_sentence(kind):
    assert [key.name for key in list_keys(kind) if not key.meaning.endswith((".", "]"))] == []


def test_the_page_holds_what_the_command_prints():
    done = CliRunner().invoke(app, ["train", "--keys"])
    assert done.exit_code == 0, done.exception
    assert "| `lora_base` | full | " in done.stdout
    assert "One of full, int8, int4, nf4." in done.stdout
    text = PAGE.read_text(encoding="utf-8")
    assert text[text.index("## ") :] == done.stdout  # onevision train --keys writes it
