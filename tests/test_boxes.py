"""Boxes and points in words: found, compared, written."""

import pytest

from onevision.boxes import (
    Box,
    Point,
    find_boxes,
    find_marks,
    match_boxes,
    to_mark,
    write_mark,
)
from onevision.inputs.templates import TEMPLATES, coordinates_of


def box(left, top, right, bottom):
    return Box(left=left, top=top, right=right, bottom=bottom)


@pytest.mark.parametrize(
    ("text", "coordinates", "marks"),
    [
        ("A ring [0.12, 0.30, 0.55, 0.80].", "unit", [box(0.12, 0.3, 0.55, 0.8)]),
        ("(.1,.2,.3,.4)", "unit", [box(0.1, 0.2, 0.3, 0.4)]),
        ("It is at [0.50, 0.25], I think", "unit", [Point(x=0.5, y=0.25)]),
        ("[0.1, 0.2, 0.3, 0.4] and [0, 0.5, 1, 1.0]", "unit",
         [box(0.1, 0.2, 0.3, 0.4), box(0, 0.5, 1, 1)]),
        ("<|box_start|>(120,300),(550,800)<|box_end|>", "thousandths",
         [box(0.12, 0.3, 0.55, 0.8)]),
        ("[[120, 300], [550, 800]]", "thousandths", [box(0.12, 0.3, 0.55, 0.8)]),
        ("the dog (330,550)", "thousandths", [Point(x=0.33, y=0.55)]),
    ],
)  # fmt: skip
def test_marks_are_found_in_words(text, coordinates, marks):
    assert find_marks(text, coordinates=coordinates) == marks


@pytest.mark.parametrize(
    "text",
    [
        "no numbers",
        "three numbers [0.1, 0.2, 0.3]",
        "out of range [0.1, 0.2, 1.3, 0.4]",
        "pixels [12, 30, 55, 80]",
        "right edge left of the left one [0.5, 0.2, 0.3, 0.4]",
        "nothing inside [0.5, 0.2, 0.5, 0.4]",
        "negative [-0.1, 0.2, 0.3, 0.4]",
        "(call 0.5, 0.6)",
    ],
)
def test_other_words_hold_no_mark(text):
    assert find_marks(text) == []


def test_thousandths_are_not_shares_of_one():
    assert find_boxes("(120,300),(550,800)") == []
    assert find_boxes("[120, 300, 550, 1001]", coordinates="thousandths") == []


def test_iou_by_hand():
    a, b = box(0.0, 0.0, 0.5, 0.5), box(0.25, 0.0, 0.75, 0.5)
    assert a.area == 0.25
    assert a.iou(b) == pytest.approx(0.125 / 0.375)
    assert a.iou(a) == 1
    assert a.iou(box(0.6, 0.6, 0.7, 0.7)) == 0
    assert a.contains(Point(x=0.5, y=0.5))
    assert not a.contains(Point(x=0.51, y=0.5))
    assert b.centre == Point(x=0.5, y=0.25)


def test_sets_of_boxes_match_one_to_one():
    a, b = box(0, 0, 0.5, 0.5), box(0.5, 0.5, 1, 1)
    assert match_boxes([b, a], [a, b]) == 1
    assert match_boxes([a], [a, b]) == 0.5
    assert match_boxes([a, a, b], [a, b]) == pytest.approx(2 / 3)
    assert match_boxes([], [a]) == 0


@pytest.mark.parametrize("coordinates", ["unit", "thousandths"])
@pytest.mark.parametrize("mark", [box(0.12, 0.3, 0.55, 0.8), Point(x=0.33, y=1.0)])
def test_what_is_written_is_read(mark, coordinates):
    assert find_marks(write_mark(mark, coordinates=coordinates), coordinates=coordinates) == [mark]


def test_shares_become_a_mark():
    assert to_mark([0.1, 0.2, 0.3, 0.4]) == box(0.1, 0.2, 0.3, 0.4)
    assert to_mark([0.1, 0.2]) == Point(x=0.1, y=0.2)
    assert to_mark([0.1, 0.2, 0.3]) is None
    assert to_mark([0.1, 1.2]) is None


def test_the_convention_is_a_value_of_the_template():
    ways = {name: chat.coordinates for name, chat in TEMPLATES.items()}
    assert {name for name, way in ways.items() if way == "thousandths"} == {
        "onevision_1_5",
        "onevision_2",
    }
    assert coordinates_of("plain") == "unit"
