"""A picture beside a video, two videos, several screens: from the doors, by files they write."""

import json

import pytest

from tests.cli.conftest import run

# Images and videos of a family's samples, and their tokens: 50 for each of several images (or 49
# and its newlines for one alone), 16 for a frame and one after each video.
FAMILIES = ("referred", "video_pairs", "taps", "edits")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Records of every family, with their media, as `onevision synth write` makes them."""
    folder = tmp_path_factory.mktemp("mixed")
    for family in FAMILIES:
        done = run("synth", "write", folder, "--family", family, "--count", 2, "--seed", 1)
        assert done.returncode == 0, done.stderr
    return folder


def records(sets, family):
    return json.loads((sets / f"{family}.json").read_text())


@pytest.mark.parametrize("family", FAMILIES)
def test_ask_takes_all_media_of_a_question(sets, family):
    record = records(sets, family)[0]
    images, videos = record.get("image", []), record.get("video", [])
    question = record["conversations"][0]["value"].rpartition(">\n")[2]
    media = [word for name in images for word in ("--image", sets / name)]
    media += [word for name in videos for word in ("--video", sets / name)]
    done = run("ask", question, *media, "--json", "--max-new-tokens", 4)
    assert (done.returncode, done.stderr) == (0, "")
    details = json.loads(done.stdout)["usage"]
    assert bool(details["image_tokens"]) == bool(images)
    assert bool(details["video_tokens"]) == bool(videos)
    if len(images) > 1:
        assert details["image_tokens"] == 50 * len(images)
    if len(videos) == 2:  # of the same length
        assert details["video_tokens"] % 2 == 0
        assert (details["video_tokens"] // 2 - 1) % 16 == 0


def test_the_trainer_learns_from_all_of_them(sets, tmp_path, monkeypatch):
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))
    entries = "".join(f"  - json_path: {sets / family}.json\n" for family in FAMILIES)
    mixture = tmp_path / "mixed.yaml"
    mixture.write_text(f"datasets:\n{entries}")
    done = run(
        *("train", "onevision", "--from", "tiny", "--mixture", mixture, "-o", tmp_path / "run"),
        *("--set", "global_batch=8", "--set", "max_tokens=4096", "--set", "precision=fp32"),
        *("--set", "num_workers=0"),
    )
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    told = json.loads(lines[-1])
    assert told["samples"] == 2 * len(FAMILIES)
    assert set(told["loss_per_source"]) == {f"{family}.json" for family in FAMILIES}
    assert not (tmp_path / "run" / "quarantine.jsonl").exists()
