"""`--limit`: the page lists every name with its default, and each reaches what it limits."""

import re
from dataclasses import asdict
from pathlib import Path

import httpx2
import pytest

from onevision.conversation import Video
from onevision.errors import InputError, MediaError
from onevision.inputs.media import open_image
from onevision.inputs.sandbox_worker import UNTRUSTED_LIMITS
from onevision.inputs.video import choose_frames
from onevision.serve.settings import Limits
from tests.inputs.test_work import IMAGE_BOMBS, jpeg_of_scans
from tests.serve.conftest import CHAT, CLIP, GOOD, image_part, start, stop, text_part, user

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
UNITS = {"": 1, "MiB": 2**20, "KiB": 2**10, "MB": 10**6, "million": 10**6}


def documented():
    """Reads the table: name -> default, None where that is words."""
    section = PAGE.read_text(encoding="utf-8").partition("\n## Limits\n")[2].partition("\n## ")[0]
    for line in re.findall(r"^\| `.*", section, re.M):
        names, defaults = (cell.strip() for cell in line.split("|")[1:3])
        found = [re.fullmatch(r"([\d,]+) ?(\w*)", text) for text in defaults.split(", ")]
        values = [int(m[1].replace(",", "")) * UNITS[m[2]] if m else None for m in found]
        yield from zip(re.findall(r"`(\w+)`", names), values, strict=True)


def test_the_page_lists_every_limit_with_its_default():
    table = dict(documented())
    limits = asdict(Limits())
    assert table["kv_bytes"] is None
    assert table | {"kv_bytes": limits["kv_bytes"]} == limits


def test_the_defaults_are_those_of_the_sandbox():
    assert Limits().sandbox.limits == UNTRUSTED_LIMITS


@pytest.mark.parametrize(
    ("limit", "data"),
    [
        ("image_scans=2600", jpeg_of_scans(2500)),
        ("image_blocks=10000", IMAGE_BOMBS["JPEG comments"][0]),
        ("image_pieces=300000", IMAGE_BOMBS["GIF junk"][0]),
    ],
)
def test_a_limit_that_is_raised_lets_the_picture_pass(limit, data):
    with pytest.raises(MediaError, match="the limit is"):
        open_image(data, limits=Limits().sandbox.limits)
    assert open_image(data, limits=Limits.parse([limit]).sandbox.limits).size


@pytest.mark.parametrize("limit", ["video_boxes=5", "video_samples=3", "video_edits=0"])
def test_a_limit_of_videos_that_is_lowered_refuses_one(limit):
    choose_frames(Video(CLIP), limits=Limits().sandbox.limits)
    with pytest.raises(MediaError, match="the limit is"):
        choose_frames(Video(CLIP), limits=Limits.parse([limit]).sandbox.limits)


@pytest.mark.slow
def test_a_server_started_with_a_limit_keeps_it(tmp_path):
    picture = IMAGE_BOMBS["JPEG comments"][0]
    asked = GOOD | {"messages": user(image_part(picture), text_part())}
    for options, status in (((), 400), (("--limit", "image_blocks=10000"), 200)):
        running = start(tmp_path, *options)
        answer = httpx2.post(f"{running.url}{CHAT}", json=asked, timeout=120)
        listed = httpx2.get(f"{running.url}/v1/models").json()["data"][0]["limits"]
        assert stop(running) == 0
        assert (answer.status_code, listed["image_blocks"]) == (status, 10_000 if options else 2000)


def test_a_misspelt_limit_is_refused():
    with pytest.raises(InputError, match="image_scans"):
        Limits.parse(["image_scan=3"])
