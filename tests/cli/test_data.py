import json

import pytest

from tests.cli.conftest import run
from tests.data.conftest import record


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def mixture(tmp_path, picture):
    picture(50, 40).save(tmp_path / "a.png")
    records = [record(n, question=f"<image>\n{n}?", image="a.png") for n in range(3)]
    path = tmp_path / "set.json"
    path.write_text(json.dumps(records))
    return path


def test_check_passes_a_good_mixture_and_writes_a_manifest(mixture, tmp_path):
    result = run("data", "check", mixture, "--manifest", tmp_path / "pin", "--num-workers", 0)
    assert result.returncode == 0
    assert "3 samples, nothing to fix" in result.stdout
    manifest = json.loads((tmp_path / "pin" / "manifest.json").read_text())
    assert manifest["sources"][0]["num_usable"] == 3
    assert manifest["format_version"] == 2


def test_check_fails_where_something_must_be_fixed(mixture):
    (mixture.parent / "a.png").unlink()
    result = run("data", "check", mixture, "--num-workers", 0, "--show", 1)
    assert result.returncode == 1
    assert "3 of 3 samples must be fixed or left out" in result.stdout
    assert "set.json, row 0: " in result.stdout
    assert "a.png: no such file" in result.stdout
    assert "... and 2 more" in result.stdout


def test_stats_and_view(mixture, tmp_path):
    result = run("data", "stats", mixture, "--num-workers", 0)
    assert "set.json" in result.stdout
    assert "3 single" in result.stdout
    page = tmp_path / "page.html"
    result = run("data", "view", mixture, "--output", page, "--num-workers", 0)
    assert result.stdout == f"wrote {page}\n"
    assert page.read_text().count("<article>") == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.yaml",), "none.yaml: cannot be read"),
        (("none.json",), "none.json: no such file"),
        (("a.json", "--model", "0.5b"), "give --tokenizer DIRECTORY"),
        (("a.json", "--model", "huge"), "no model 'huge'"),
    ],
)
def test_a_mistake_is_one_line(arguments, message):
    result = run("data", "check", *arguments)
    assert result.returncode == 1
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
