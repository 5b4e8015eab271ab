import random

import pytest
from PIL import Image as PIL
from PIL import ImageDraw

from onevision.conversation import Video
from onevision.synth.kit.shapes import COLOURS
from onevision.synth.worlds.clips import cameras, pans, pointed
from onevision.synth.worlds.rooms.shading import draw_solid
from onevision.synth.worlds.rooms.solids import TINTS
from onevision.synth.worlds.screens import screens
from onevision.synth.worlds.screens.widgets import Widget, draw_widget
from onevision.synth.worlds.sets import statements
from onevision.synth.worlds.sets.processes import PROCESSES, draw_stage, random_style
from onevision.synth.worlds.sets.puzzles import random_puzzle
from onevision.synth.worlds.shapes import marks
from tests.synth.conftest import outlines, pictures

CLIPS = (cameras, pointed, pans)
FAMILIES = ("screens", "marks", "rooms", "statements", "sequences", "cameras", "pointed", "pans")
PLACES = [f"{row} {col}".strip() for row in ("top", "", "bottom") for col in ("left", "", "right")]
PLACES[4] = "center"


def share_of(picture, tint, tolerance=15):
    """Return the share of a picture's pixels that are of a tint."""
    counts = picture.getcolors(picture.width * picture.height)
    near = (
        n for n, c in counts if max(abs(a - b) for a, b in zip(c, tint, strict=True)) <= tolerance
    )
    return sum(near) / (picture.width * picture.height)


def shows(picture, colour, tolerance=2):
    return share_of(picture, COLOURS[colour], tolerance) > 0.002


def answers(sample):
    return {question.family: question for question in sample.questions}


@pytest.mark.parametrize("family", FAMILIES)
def test_no_answer_is_in_its_question_alone(family):
    """A question that ends in its answer offers another one before it."""
    for outline in outlines(family):
        for question in outline.sample.questions:
            if len(question.answer) > 3 and question.question.endswith(f" {question.answer}?"):
                assert " or " in question.question


@pytest.mark.parametrize("family", CLIPS)
def test_clips_have_few_small_frames_of_one_size(family):
    for index in range(40):
        for video in family.make("train", index).media:
            assert isinstance(video, Video)
            assert 6 <= len(video.source) <= 16
            (size,) = {frame.size for frame in video.source}
            assert all(98 <= side <= 200 for side in size)


@pytest.mark.parametrize(
    ("kind", "set_state", "unset_state"),
    [("check box", "ticked", "empty"), ("switch", "on", "off"), ("option", "chosen", "")],
)
def test_controls_show_the_accent_colour_when_they_are_set(kind, set_state, unset_state):
    theme = screens.random_theme(random.Random(0))
    for state, is_set in ((set_state, True), (unset_state, False)):
        picture = PIL.new("RGB", (200, 30), theme.panel)
        widget = Widget(kind=kind, label="Loop", state=state, left=5, width=190, height=30)
        draw_widget(ImageDraw.Draw(picture), widget, theme)
        assert (share_of(picture, theme.accent) > 0.002) == is_set


def test_named_marks_are_on_things_of_the_named_colour():
    checked = 0
    for index in range(60):
        sample = marks.make("train", index)
        (picture,) = pictures(sample)
        for sentence in sample.detail.split(". ")[1:]:
            words, place = sentence.rstrip(".").split(" at the ")
            if words.startswith("Mark"):
                col, row = PLACES.index(place) % 3, PLACES.index(place) // 3
                w, h = picture.width / 3, picture.height / 3
                cell = picture.crop(
                    (int(col * w), int(row * h), int(col * w + w), int(row * h + h))
                )
                assert share_of(cell, COLOURS[words.split()[-2]], 16) > 0.02
                checked += 1
    assert checked > 200


@pytest.mark.parametrize("shape", ["sphere", "cube", "cylinder"])
@pytest.mark.parametrize("material", ["shiny", "matte"])
def test_only_shiny_solids_have_white_light(shape, material):
    canvas = PIL.new("RGB", (120, 120), (100, 100, 100))
    draw_solid(canvas, shape, material, TINTS["blue"], turn=3, x=60, bottom=110, side=100)
    whitest = max(min(colour) for _, colour in canvas.getcolors(120 * 120))
    assert (whitest > 130) == (material == "shiny")


def test_the_number_of_differences_is_the_number_of_places_that_differ():
    checked = 0
    for index in range(300):
        sample = statements.make("train", index)
        said = answers(sample).get("differences")
        if said is None or len(sample.media) != 2:
            continue
        first, second = (medium.source for medium in sample.media)
        w, h = first.width / 3, first.height / 3
        boxes = [
            (
                round(c * w + w / 3),
                round(r * h + h / 3),
                round(c * w + 2 * w / 3),
                round(r * h + 2 * h / 3),
            )
            for r in range(3)
            for c in range(3)
        ]
        touched = sum(first.crop(box).tobytes() != second.crop(box).tobytes() for box in boxes)
        # A size alone may change nothing in the middle of a cell.
        assert touched <= int(said.answer)
        assert (first.tobytes() != second.tobytes()) == (said.answer != "0")
        checked += 1
    assert checked > 20


def test_a_glass_holds_more_the_fuller_it_is():
    style = random_style(random.Random(0))
    glass = next(process for process in PROCESSES if process.noun == "glass")
    filled = [share_of(draw_stage(glass, n / 4, style), style.tint) for n in range(5)]
    assert filled == sorted(filled)
    assert len(set(filled)) == 5


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.noun)
def test_stages_of_a_process_look_different(process):
    style = random_style(random.Random(0))
    shares = [(n + 0.5 + jitter) / 5 for n, jitter in enumerate((0.2, -0.2, 0.2, -0.2, 0.2))]
    assert len({draw_stage(process, share, style).tobytes() for share in shares}) == 5


def test_a_puzzle_has_its_answer_once_among_its_options():
    for seed in range(200):
        puzzle = random_puzzle(random.Random(seed))
        assert len(set(puzzle.options)) == 4
        assert puzzle.options.count(puzzle.answer) == 1


def test_cameras_see_what_is_said():
    checked = 0
    for index in range(60):
        sample = cameras.make("train", index)
        if len(sample.media) == 1:
            continue
        for question in sample.questions:
            if question.family == "ever":
                words = question.question.rstrip("?").split()
                frames = sample.media[int(words[2]) - 1].source
                seen = any(shows(frame, words[-2]) for frame in frames)
                assert seen == (question.answer == "yes")
                checked += 1
    assert checked > 30


def test_pointed_things_end_in_the_colour_that_is_said():
    checked = 0
    for index in range(60):
        sample = pointed.make("train", index)
        for family, frame in (("colour", 0), ("colour_at_end", -1)):
            if family in answers(sample):
                assert shows(sample.media[0].source[frame], answers(sample)[family].answer)
                checked += 1
    assert checked > 30


def test_a_pan_begins_and_ends_with_the_things_that_are_said():
    checked = 0
    for index in range(60):
        sample = pans.make("train", index)
        for family, frame in (("at_first", 0), ("at_last", -1)):
            if family in answers(sample):
                picture = sample.media[0].source[frame]
                assert [c for c in COLOURS if shows(picture, c)] == [
                    answers(sample)[family].answer.split()[0]
                ]
                checked += 1
    assert checked > 20
