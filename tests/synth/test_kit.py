"""The toolkit of the worlds: choosing questions, English words, shapes."""

import random

import pytest
from PIL import Image as PIL

from onevision.synth.kit.questions import ask_twice, choose
from onevision.synth.kit.shapes import COLOURS, Look
from onevision.synth.kit.words import article, join, number_of, plural
from onevision.synth.sample import Question


def question(text, answer):
    return Question(family="f", question=text, answer=answer)


def test_a_question_with_two_answers_is_a_fault_of_its_world():
    with pytest.raises(AssertionError, match="two answers to 'a'"):
        choose(random.Random(0), [question("a", "1"), question("a", "2"), question("b", "3")])


@pytest.mark.parametrize(
    ("num_open", "num_asked", "num_closed"), [(4, 4, 1), (8, 8, 2), (12, 8, 2)]
)
def test_closed_questions_are_a_quarter_at_most(num_open, num_asked, num_closed):
    opened = [question(str(n), f"it is {n}") for n in range(num_open)]
    closed = [question(f"g{n}", "yes") for n in range(6)]
    chosen = choose(random.Random(0), [*closed, *opened])
    assert len(chosen) == num_asked
    assert sum(question.answer == "yes" for question in chosen) == num_closed


def test_a_family_is_asked_a_second_time_if_the_answer_differs():
    given = iter((question("a", "1"), question("b", "1"), question("c", "2"), None))
    asked = ask_twice([lambda content, rng: next(given)] * 2, "content", random.Random(0))
    assert [q.question for q in asked] == ["a", "c"]


def test_words():
    assert [plural(word) for word in ("star", "box", "entry", "day")] == [
        *("stars", "boxes", "entries", "days")
    ]
    assert (number_of(1, "star"), number_of(2, "star")) == ("1 star", "2 stars")
    assert (article("orange ring"), article("red ring")) == ("an orange ring", "a red ring")
    assert (join([]), join(["a", "b", "c"])) == ("none", "a, b and c")


def test_a_shape_is_drawn_where_it_stands():
    canvas = PIL.new("RGB", (60, 60), (255, 255, 255))
    Look(colour="red", shape="circle").stamp(canvas, x=20, y=30, radius=10)
    assert canvas.getpixel((20, 30)) == COLOURS["red"]
    assert canvas.getpixel((40, 30)) == (255, 255, 255)
