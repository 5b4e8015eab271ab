"""The site's generated reference: what it names, and how it translates links."""

import importlib.util
import re
from pathlib import Path

import pytest
import typer
import yaml
from typer.core import TyperGroup

from onevision.cli import app

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site():
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "hooks" / "site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands(group, path):
    for name, command in group.commands.items():
        yield f"{path} {name}"
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{path} {name}")


def test_the_reference_names_every_command_and_option(site):
    text = site.describe_commands()
    root = typer.main.get_command(app)
    for path in commands(root, "onevision"):
        section = re.search(rf"^#+ `{path}`$.*?(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
        assert section, path
        command = root
        for name in path.split()[1:]:
            command = command.commands[name]
        for option in (option for param in command.params for option in param.opts):
            assert option.strip("-") in section[0], (path, option)


def test_the_reference_has_the_public_api(site):
    for names in site.API.values():
        for name in names:
            module, _, attribute = name.rpartition(".")
            if importlib.util.find_spec(module) and attribute[0].isupper():
                assert hasattr(importlib.import_module(module), attribute), name
            else:
                assert importlib.import_module(module)


def test_every_page_is_in_the_navigation():
    lines = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").splitlines()
    nav = "\n".join(lines[lines.index("nav:") :])
    named = set(re.findall(r"[\w./-]+\.md", nav))
    assert yaml.safe_load(nav)
    assert {path.name for path in (ROOT / "docs").glob("*.md")} <= named
    assert {f"examples/{path.stem}.md" for path in (ROOT / "examples").glob("*.ipynb")} <= named


def test_every_environment_variable_is_documented():
    text = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
    read = set()
    for path in (ROOT / "onevision").rglob("*.py"):
        read |= set(re.findall(r"[\"'](ONEVISION_\w+)[\"']", path.read_text(encoding="utf-8")))
    read |= {"RANK", "WORLD_SIZE"}
    assert len(read) > 6
    assert {name for name in read if f"`{name}`" not in text} == set()
