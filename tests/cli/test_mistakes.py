"""Mistakes that a command finds before it does any work, and says in one line."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image as PIL

from onevision.cli.demo import DEMO
from tests.cli.conftest import run

FULL = Path("/dev/full")


def check_is_one_line(done, *messages):
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    for message in messages:
        assert message in done.stderr


@pytest.fixture
def image(tmp_path):
    PIL.new("RGB", (300, 200), "white").save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.fixture
def broken_model(tmp_path):
    """A model whose loading fails, so that only what comes before it can be reported."""
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


@pytest.mark.parametrize(
    "command",
    [
        ("synth", "preview", "--family", "charts", "--output"),
        ("explain", "--size", "300x200", "--output"),
        ("data", "view", "none.json", "--output"),
        ("eval", "--output"),
    ],
)
def test_an_output_that_cannot_be_written_is_named_first(command, image, broken_model):
    arguments = ("--model", broken_model) if command[0] == "eval" else ()
    done = run(*command, image / "x.png", *arguments)
    check_is_one_line(done, f"{image} is a file; expected a directory")
    done = run(*command, image.parent, *arguments)
    check_is_one_line(done, "it is a directory; expected the name of a file")


def test_an_output_is_made_with_its_directory(tmp_path):
    path = tmp_path / "new" / "sheet.png"
    done = run("synth", "preview", "--family", "charts", "--count", 1, "-o", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", [("ask", "Hi"), ("models",)])
def test_a_full_disk_is_one_line(command):
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "onevision", *command],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=120,
        )  # fmt: skip
    check_is_one_line(done, "the output: cannot be read or written (No space left on device)")


@pytest.mark.parametrize("option", ["--image", "--video"])
def test_media_are_looked_at_before_the_model_is_loaded(option, tmp_path, broken_model):
    (tmp_path / "words.txt").write_text("words")
    for name, message in (("none.png", "no such file"), ("words.txt", "not a")):
        done = run("ask", "Hi", option, tmp_path / name, "--model", broken_model)
        check_is_one_line(done, name, message)


def test_a_port_in_use_is_named_before_anything_is_loaded(tmp_path, broken_model):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("serve", "--port", port, "--model", broken_model)
        check_is_one_line(done, f"port {port} of 127.0.0.1 is in use; give another --port")
        done = run("data", "view", "none.json", "-o", tmp_path / "a.html", "--port", port)
        check_is_one_line(done, f"port {port} of 127.0.0.1 is in use")


def test_requests_that_are_missing_are_named_first(tmp_path, broken_model):
    done = run("batch", tmp_path / "none.jsonl", "-o", tmp_path / "a", "--model", broken_model)
    check_is_one_line(done, "none.jsonl: no such file")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--scenario", "dragons"), "no scenario 'dragons'"),
        (("--count", "0"), "--count is 0"),
    ],
)
def test_heldout_options_are_checked_first(arguments, message, broken_model):
    check_is_one_line(run("eval", "--model", broken_model, *arguments), message)


@pytest.mark.parametrize("key", ["scorer", "judge"])
def test_a_tasks_scorer_is_checked_before_a_question_is_asked(key, tmp_path, broken_model):
    values = {"title": "Mine", "groups": [], "dataset": "me/mine", "split": "test",
              "images": ["image"], "prompt": "{question}", key: "dragons"}  # fmt: skip
    (tmp_path / "mine.yaml").write_text(json.dumps(values))
    done = run("eval", "--tasks", tmp_path / "mine.yaml", "-o", tmp_path / "out",
               "--model", broken_model)  # fmt: skip
    check_is_one_line(done, f"no {key} 'dragons'; there are ")


def test_a_set_that_is_there_is_not_overwritten(tmp_path):
    command = ("synth", "write", tmp_path, "--family", "tables", "--count")
    assert run(*command, 3).returncode == 0
    before = (tmp_path / "tables.json").read_bytes()
    check_is_one_line(run(*command, 1), "tables.json: a set of tables is there already")
    assert (tmp_path / "tables.json").read_bytes() == before
    assert run("synth", "write", tmp_path, "--family", "charts", "--count", 1).returncode == 0
    (tmp_path / "tables.json").unlink()  # as if the first had been interrupted
    check_is_one_line(run(*command, 1), "tables: a set of tables is there already")
    assert run(*command, 1, "--overwrite").returncode == 0
    assert len(json.loads((tmp_path / "tables.json").read_text())) == 1


def test_several_images_are_explained_as_one_conversation(image):
    def tokens(*files):
        return [one["num_tokens"] for one in json.loads(run("explain", *files, "--json").stdout)]

    (alone,) = tokens(image)
    assert alone > 729
    assert tokens(image, image) == [730, 730]
    done = run("explain", image, image)
    assert "together in one conversation: 1,460 visual tokens" in done.stdout
    assert "together" not in run("explain", image).stdout


@pytest.mark.parametrize(
    ("more", "counts"),
    [
        (("--model", "tiny"), [50, 50, 50]),
        (("--keep", "0.5"), [366, 366, 366]),
        (("--model", "llava-1.5-7b"), [576, 576, 576]),
        (("--model", "llava-interleave-7b"), [730, 730, 730]),
    ],
)
def test_three_images_are_explained_as_the_model_reads_them(image, more, counts):
    told = json.loads(run("explain", image, image, image, *more, "--json").stdout)
    assert [one["num_tokens"] for one in told] == counts


def test_an_image_beside_a_video_is_explained_as_the_only_image(image):
    (alone,) = json.loads(run("explain", image, "--json").stdout)
    beside, clip = json.loads(run("explain", image, DEMO / "clip.mp4", "--json").stdout)
    assert beside["num_tokens"] == alone["num_tokens"]
    assert clip["num_tokens"] > 196
