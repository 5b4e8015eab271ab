"""What a release passes on is named: packages, licences, the libraries inside their wheels."""

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "licences.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Extras that a user installs; wandb is not installed here, and the rest are for development.
EXTRAS = ("data", "synth", "serve", "constrain", "plots", "ray", "small", "tensorboard")


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def versions(text, pattern):
    return {plain(name): version for name, version in re.findall(pattern, text, re.MULTILINE)}


LISTED = versions(PAGE, r"^\| ([\w.-]+) \| (\d[\w.+]*) \|")
PINNED = versions((ROOT / "constraints.txt").read_text(), r"^([\w.-]+)==(\S+)$")


def test_every_dependency_has_its_licence_on_the_page():
    wanted = [*PROJECT["dependencies"]]
    for extra in EXTRAS:
        wanted += PROJECT["optional-dependencies"][extra]
    names = {plain(re.match(r"[\w.-]+", one)[0]) for one in wanted} - {"onevision"}
    assert len(names) > 15
    assert names <= LISTED.keys(), "run python deploy/licences.py"


def test_the_page_has_the_versions_that_a_release_is_tested_with():
    both = LISTED.keys() & PINNED.keys()
    assert len(both) > 40
    assert {name: LISTED[name].partition("+")[0] for name in both} == {
        name: PINNED[name] for name in both
    }


@pytest.mark.parametrize("library", ["x264", "x265"])
def test_gpl_encoders_inside_a_wheel_are_told(library):
    carried = [file for file in distribution("av").files or () if library in file.name]
    assert carried, "the wheel carries it no more: so should the page"
    row = next(line for line in PAGE.splitlines() if line.startswith("| av "))
    assert f"**{library}** (GPL-2.0-or-later)" in row


def test_the_workflow_makes_the_list_and_looks_for_vulnerabilities():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in ("sbom", "audit"):
        assert f"run: make {target}" in workflow
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    tools = (ROOT / "deploy" / "sbom-requirements.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", line) for line in tools if line[0] != "#")
