"""Procedural pictures with captions and boxes, and a writer that is a rule behind HTTP."""

import hashlib
import io
import itertools
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch

import pytest

from onevision.cli import main
from onevision.synth.sample import CANNOT_TELL
from onevision.synth.worlds.shapes import scenes
from tests.eval.judge_server import serve

LONG = (
    "The scene is simple and calm, with a plain background behind everything that it shows, and "
    "each shape has a colour of its own. Nothing overlaps at the edges of the picture, the light "
    "is even, and every outline is sharp, so that all of it can be named at a glance."
)
FAULTS = {
    "refusal": ("I'm sorry, but I cannot help with that.", "stop"),
    "cut off": ("Q: What is shown?\nA: It shows a ring and", "length"),
    "empty": ("  ", "stop"),
    "mentions its sources": ("Q: What do the captions say?\nA: They name a ring.", "stop"),
    "no questions and answers": ("It shows a ring.", "stop"),
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))
    for name in ("MODEL", "URL", "KEY", "PRICES"):
        monkeypatch.delenv(f"ONEVISION_WRITER_{name}", raising=False)


def write_pictures(directory, count, *, size=56):
    """Write pictures of shapes, with what the world knows of them; return the captions.

    They are squares of `size`, or as the world draws them if it is None.
    """
    (directory / "pictures").mkdir(parents=True, exist_ok=True)
    path, lines = directory / "captions.jsonl", []
    samples = (scenes.make("train", number) for number in itertools.count())
    plain = (one for one in samples if CANNOT_TELL not in one.caption)
    for number, sample in enumerate(itertools.islice(plain, count)):
        picture = sample.media[0].source
        sized = picture if size is None else picture.resize((size, size))
        sized.save(directory / "pictures" / f"{number}.png")
        boxes = [{"class": "background", "box": [0, 0, 1, 1]}]
        captions = [sample.caption, *sample.aspects]
        lines.append({"image": f"pictures/{number}.png", "captions": captions, "boxes": boxes})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def run(*arguments):
    """Run the command line as a user does, but in this process."""
    told = ["onevision", *map(str, arguments)]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with patch.object(sys, "argv", told), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    return subprocess.CompletedProcess(told, code, out.getvalue(), err.getvalue())


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def records(output):
    return json.loads((output / "records.json").read_text())


def good(body):
    """Reply to a request as its kind demands."""
    system, query = body["messages"][0]["content"], body["messages"][-1]["content"]
    first = query.splitlines()[0]
    if "dialogue" in system:
        return f"Q: What is shown?\nA: It shows this: {first}\nQ: Is there a cat?\nA: No, none."
    if "teach someone" in system:
        return f"Q: Why is it easy to name what is shown?\nA: {LONG} {first}"
    return f"{first} {LONG}"


def moody(body):
    """Reply well or break a rule, by the words and the seed of the request alone."""
    text = json.dumps([body["messages"][-1], body.get("seed")])
    mood = hashlib.sha256(text.encode()).digest()[0]
    if mood < 100:
        return FAULTS[sorted(FAULTS)[mood % len(FAULTS)]]
    return good(body), "stop"


@pytest.fixture
def writer():
    """A writer that keeps to all rules."""
    with serve(str, models=["rules"], writes=lambda body: (good(body), "stop")) as server:
        yield server
