"""ScienceQA by two, with a text model that knows by rule."""

import pytest

from onevision.errors import DataError, InputError
from onevision.eval.judging.science_qa import answer_without_images, arbitrate, complement
from tests.eval.judge_server import serve
from tests.eval.test_judge_run import make_judge

ITEMS = [
    {"question": "Which is a metal?", "choices": ["iron", "wood"], "hint": "Think of magnets."},
    {"question": "Which colour is the flag in the picture?", "choices": ["red", "blue"]},
    {"question": "Which is a gas?", "choices": ["stone", "helium", "glass"]},
    {"question": "Which is a planet?", "choices": ["Mars", "Sirius"]},
]


def text_model(words):
    if "Two people disagree" in words:
        return "A" if "iron" in words else "not sure"
    if "picture" in words:
        return "UNKNOWN"
    return next(line[0] for line in words.splitlines() if line[3:] in ("wood", "helium", "Sirius"))


def test_two_ways_to_join():
    with serve(text_model) as server:
        judge = make_judge(server)
        alone = answer_without_images(ITEMS, judge)
        assert alone.letters == ("B", None, "B", "B")
        assert alone.num_asked == 4
        ours = ["A", "A", "B", "A"]
        assert complement(ours, alone).letters == ("B", "A", "B", "B")
        settled = arbitrate(ITEMS, ours, alone, judge)
        # They differ on the metal (settled as A) and the planet (no letter: ours stands).
        assert settled.letters == ("A", "A", "B", "A")
        assert (settled.num_asked, settled.num_unreadable) == (2, 1)


def test_the_text_model_sees_hint_and_options():
    with serve(text_model) as server:
        answer_without_images(ITEMS[:1], make_judge(server))
    (message,) = server.requests[0]["messages"]
    assert "Context: Think of magnets.\nWhich is a metal?\nA. iron\nB. wood" in message["content"]


def test_mistakes_are_named():
    with serve(text_model) as server:
        judge = make_judge(server)
        with pytest.raises(DataError, match="choices None; expected a list"):
            answer_without_images([{"question": "q"}], judge)
        alone = answer_without_images(ITEMS, judge)
        with pytest.raises(InputError, match="1 answer of ours and 4 of the text model"):
            complement(["A"], alone)
