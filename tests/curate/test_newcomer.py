"""The path of docs/curation.md: a folder -> descriptions -> check -> training -> score."""

import json

import pytest

from tests.curate.conftest import run, write_pictures


@pytest.mark.slow
def test_from_a_folder_of_pictures_to_a_model_that_is_evaluated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path, 6, size=None)
    described = run("curate", "recaption", "pictures", "-o", "described")
    assert described.returncode == 0, described.stderr
    checked = run("data", "check", "described/mixture.yaml")
    assert checked.returncode == 0 and "nothing to fix" in checked.stdout
    gated = run("curate", "gate", "described/mixture.yaml", "-o", "kept", "--gate", "length=5-400",
                "--gate", "duplicates")  # fmt: skip
    assert gated.returncode == 0, gated.stderr
    tuned = run("finetune", "kept/mixture.yaml", "-o", "runs/mine", "--held-out", "none",
                "--epochs", 1, "--set", "num_workers=0")  # fmt: skip
    assert tuned.returncode == 0, tuned.stderr
    scored = run("eval", "--data", "kept/mixture.yaml", "--model", "runs/mine/checkpoint",
                 "--output", "scores", "--limit", 2)  # fmt: skip
    assert scored.returncode == 0, scored.stderr
    (result,) = (tmp_path / "scores").rglob("results.json")
    assert json.loads(result.read_text())
