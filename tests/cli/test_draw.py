"""Boxes and points of an answer, drawn by `ask` and `explain`: from the command to the picture."""

import json

import pytest
from PIL import Image

from onevision.boxes import Box, Point
from onevision.boxes_drawing import COLOURS, draw_marks
from tests.cli.conftest import run

GREY = (90, 90, 90)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (200, 100), GREY).save(path)
    return path


def pixels_of(path, colour):
    """The pixels of a colour: (left, top, right, bottom) around them."""
    wanted = tuple(int(colour[n : n + 2], 16) for n in (1, 3, 5))
    image = Image.open(path).convert("RGB")
    found = [
        (x, y)
        for x in range(image.width)
        for y in range(image.height)
        if image.getpixel((x, y)) == wanted
    ]
    xs, ys = zip(*found, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def test_marks_lie_where_they_say(tmp_path, picture):
    box = Box(left=0.25, top=0.2, right=0.75, bottom=0.7)
    with Image.open(picture) as image:
        draw_marks(image, [box, Point(x=0.9, y=0.5)]).save(tmp_path / "out.png")
        assert image.getpixel((50, 20)) == GREY  # the original stays
    left, top, right, bottom = pixels_of(tmp_path / "out.png", COLOURS[0])
    assert (left, top) == (50, 20)
    assert right == pytest.approx(149, abs=1)
    assert bottom == pytest.approx(69, abs=1)
    left, top, right, bottom = pixels_of(tmp_path / "out.png", COLOURS[1])
    assert left < 0.9 * 199 < right
    assert top < 0.5 * 99 < bottom


def test_a_model_learns_a_box_and_ask_draws_it(tmp_path, picture):
    """From records to a model, and from its answer to a picture; 10 s."""
    said = "[0.25, 0.20, 0.75, 0.70]"
    talk = [{"from": "human", "value": "<image>\nWhere is it?"}, {"from": "gpt", "value": said}]
    records = [{"id": f"{n}", "image": "a.png", "conversations": talk} for n in range(24)]
    (tmp_path / "mine.json").write_text(json.dumps(records))
    faster = ("global_batch=1", "learning_rate=1e-3", "num_workers=0")
    settings = [word for one in faster for word in ("--set", one)]
    output = tmp_path / "run"
    arguments = ("--held-out", "none", "--epochs", 1, "--output", output, *settings)
    done = run("finetune", tmp_path / "mine.json", *arguments)
    assert done.returncode == 0, done.stderr

    drawn, model = tmp_path / "drawn.png", output / "checkpoint"
    done = run("ask", "Where is it?", "--image", picture, "--model", model, "--draw", drawn)
    assert done.stdout.splitlines() == [said, f"drawn: {drawn}"]
    assert pixels_of(drawn, COLOURS[0])[:2] == (50, 20)


def test_an_answer_without_a_box_is_an_error_and_draws_nothing(tmp_path, picture):
    output = tmp_path / "drawn.png"
    done = run("ask", "What colour is the background?", "--image", picture, "--draw", output)
    assert done.returncode == 1
    assert "the answer names no box or point ([left, top, right, bottom]" in done.stderr
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "--draw draws on one image, and the question has 0 images or videos; give one"),
        (("--image", "a.png", "--image", "a.png"), "the question has 2 images or videos"),
    ],
)
def test_a_question_without_one_image_is_refused_first(picture, monkeypatch, arguments, problem):
    monkeypatch.chdir(picture.parent)
    done = run("ask", "Where?", *arguments, "--draw", "out.png")
    assert done.returncode == 1
    assert problem in done.stderr


def test_explain_draws_boxes_and_says_their_pixels(tmp_path, picture):
    output = tmp_path / "layout.png"
    done = run("explain", picture, "--boxes", "[0.25, 0.2, 0.75, 0.7]", "--output", output)
    assert "box 1: 100 x 50 px at 50, 20" in done.stdout
    colours = Image.open(output).convert("RGB").get_flattened_data()
    assert any(red > 180 and 90 < green < 200 and blue < 70 for red, green, blue in colours)


def test_explain_reads_the_convention_of_the_model(picture):
    done = run("explain", picture, "--model", "onevision-1.5-4b", "--boxes", "(250,200),(750,700)")
    assert "box 1: 100 x 50 px at 50, 20" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--boxes", "the cat"), "--boxes is 'the cat'; expected [left, top, right, bottom]"),
        (("--boxes", "[0.1,0.2]", "--keep", "0.5"), "leave out --boxes or --keep"),
        (("--boxes", "[0.1,0.2]", "a.png"), "--boxes draws on one image, and 2 files were given"),
    ],
)
def test_boxes_that_cannot_be_drawn_are_refused(picture, monkeypatch, arguments, problem):
    monkeypatch.chdir(picture.parent)
    done = run("explain", "a.png", *arguments)
    assert done.returncode == 1
    assert problem in done.stderr
