"""The reproduction scripts: what they plan, and that every stage of them runs at tiny shape."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PUBLISHED = ("onevision_0.5b.sh", "onevision_7b.sh", "onevision_72b.sh")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (ROOT / ".venv" / "bin" / "torchrun").exists(), reason="scripts call .venv/bin"
    ),
]


def run(script, output, **environment):
    done = subprocess.run(
        [ROOT / "runs" / script, output],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("script", PUBLISHED)
def test_a_published_recipe_is_planned_without_weights(script, tmp_path):
    told = run(script, tmp_path, PLAN="1")
    for stage in ("align", "knowledge", "single_image", "onevision"):
        assert f"{stage}: what it reads" in told
    assert told.count("optimiser steps") == 4
    assert "left out, no count published" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", ["tiny.sh", "onevision_0.5b.sh"])
def test_every_stage_runs_at_tiny_shape(script, tmp_path):
    run(script, tmp_path, ONEVISION_DRY_RUN="1")
    for stage in ("align", "knowledge", "single_image", "onevision"):
        assert (tmp_path / stage / "checkpoint" / "model.safetensors").is_file()
        assert (tmp_path / stage / "report.html").is_file()


def test_reading_goes_on_from_the_bundled_model(tmp_path):
    run("tiny_reading.sh", tmp_path, ONEVISION_DRY_RUN="1")
    for stage in ("letters", "onevision_reading"):
        assert (tmp_path / stage / "checkpoint" / "model.safetensors").is_file()
