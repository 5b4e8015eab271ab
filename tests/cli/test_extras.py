"""A command whose optional package is missing names the extra that brings it, in one line."""

import json
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image as PIL

from onevision.extras import MODULES, imports_of_extra

# Runs the command line as if a package were not installed.
WITHOUT = """
import sys
from importlib.machinery import PathFinder
from onevision.cli import main

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name == missing or name.startswith(missing + ".")
        return None if hidden else super().find_spec(name, path, target)

missing = sys.argv.pop(1)
sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
main()
"""


def run_without(package, *arguments):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, package, *map(str, arguments)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with a picture, records of it, and the requests of a batch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))
    PIL.new("RGB", (98, 98), "white").save("a.png")
    turns = [{"from": "human", "value": "<image>\nWhich?"}, {"from": "gpt", "value": "This."}]
    (tmp_path / "mine.json").write_text(json.dumps([{"image": "a.png", "conversations": turns}]))
    (tmp_path / "mine.parquet").write_bytes(b"PAR1")
    (tmp_path / "requests.jsonl").write_text("{}\n")
    return tmp_path


FONTS = ("noto_cjk_sans_otc", "synth")
TRAIN = ("train", "onevision", "--from", "tiny", "--mixture", "mine.json", "-o", "run")


@pytest.mark.parametrize(
    ("package", "extra", "command"),
    [
        ("fastapi", "serve", ("serve",)),
        ("uvicorn", "serve", ("serve",)),
        ("prometheus_client", "serve", ("serve",)),
        pytest.param(
            *("prometheus_client", "serve", ("batch", "requests.jsonl", "-o", "answers.jsonl")),
            marks=pytest.mark.slow,
        ),
        ("pyarrow", "data", ("data", "check", "mine.parquet")),
        ("tensorboard", "tensorboard", (*TRAIN, "--tensorboard")),
        pytest.param("wandb", "wandb", (*TRAIN, "--wandb", "mine"), marks=pytest.mark.slow),
        (*FONTS, ("synth", "preview", "--family", "chinese_documents", "-o", "p.png")),
    ],
)
def test_a_missing_package_names_its_extra(package, extra, command, desk):
    before = sorted(desk.iterdir())
    done = run_without(package, *command)
    *notes, error = done.stderr.splitlines()
    assert (done.returncode, error[:7]) == (1, "error: ")
    assert f"pip install 'onevision[{extra}]'" in error
    assert all(note.startswith("device ") for note in notes)
    assert sorted(set(desk.iterdir()) - {desk / "cache", desk / "run"}) == before
    assert not (desk / "run" / "metrics.jsonl").exists()


ADDRESS = ("ask", "--allow-urls", "--image", "https://a.example/a.png", "Which?")


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("onevision.serve.keys", ("serve",)),
        ("fastapi.openapi.utils", ("serve",)),
        pytest.param(
            *("onevision.serve.turns", ("batch", "requests.jsonl", "-o", "answers.jsonl")),
            marks=pytest.mark.slow,
        ),
        pytest.param("onevision.serve.schema.problems", ADDRESS, marks=pytest.mark.slow),
        pytest.param("pyarrow.parquet", ("data", "check", "mine.parquet"), marks=pytest.mark.slow),
    ],
)
def test_a_broken_import_is_not_taken_for_a_missing_package(module, command, desk):
    done = run_without(module, *command)
    assert done.returncode != 0
    assert "pip install" not in done.stderr
    assert f"No module named '{module}'" in done.stderr


def test_only_a_missing_module_of_the_extra_gives_its_advice():
    for name in ("onevision.serve.keys", "fastapi.missing", "numpy"):
        with pytest.raises(ModuleNotFoundError), imports_of_extra("serve", "install it"):
            raise ModuleNotFoundError(name=name)
    with pytest.raises(ImportError), imports_of_extra("serve", "install it"):
        raise ImportError("cannot import name 'Guard'", name="onevision.serve.guard")


def test_the_extras_that_give_advice_are_those_of_the_package():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert set(MODULES) <= set(project["project"]["optional-dependencies"])
    named = set[str]().union(*MODULES.values())
    assert all(find_spec(module) for module in named - {"wandb", "bitsandbytes"})  # not installed


@pytest.mark.slow
def test_a_constrained_answer_names_the_extra(desk):
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}],
            "structured_outputs": {"choice": ["a", "b"]}}  # fmt: skip
    request = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    (desk / "requests.jsonl").write_text(json.dumps(request) + "\n")
    run_without("llguidance", "batch", "requests.jsonl", "-o", "answers.jsonl")
    assert "pip install 'onevision[constrain]'" in (desk / "answers.jsonl").read_text()


def test_a_report_without_plots_is_written_and_says_so(desk):
    done = run_without("matplotlib", "report", "-o", "report")
    assert done.returncode == 0
    assert "pip install 'onevision[plots]'" in done.stderr
    assert (desk / "report" / "report.html").is_file()
