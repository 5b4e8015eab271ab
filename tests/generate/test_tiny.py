"""The embedded model really sees: a floor under its published accuracies, on fewer questions."""

import pytest

from onevision import Conversation, Message, load
from onevision.checkpoint.hub import BUNDLED
from onevision.eval.runner import run_heldout
from onevision.synth.sample import CANNOT_TELL


@pytest.fixture(scope="module")
def tiny():
    return load("tiny")


@pytest.mark.parametrize(
    ("scenario", "floor"), [("single_image", 0.5), ("multi_image", 0.5), ("video", 0.37)]
)
def test_tiny_sees(tiny, scenario, floor):
    sighted = run_heldout(tiny, scenario, count=100)
    blind = run_heldout(tiny, scenario, count=100, blind=True)
    assert sighted.accuracy >= floor
    assert sighted.accuracy >= blind.accuracy + 0.15


def test_tiny_says_so_when_there_is_nothing_to_see(tiny):
    reply = tiny.ask(Conversation([Message("user", "What colour is the circle?")]))
    assert reply.text == CANNOT_TELL


def test_tiny_is_small():
    assert sum(p.stat().st_size for p in BUNDLED["tiny"].iterdir()) < 25 * 2**20
