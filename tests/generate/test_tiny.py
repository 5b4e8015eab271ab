"""The embedded model really sees: its published scores, and a lower bound on fewer questions.

python -m tests.generate.test_tiny      write new scores, for other weights (50 s)

Scores are kept by kind of arithmetic: bf16, bf16 in AMX tiles, whose sums round otherwise, and fp32
for processors that do not multiply in bf16.
"""

import json
from pathlib import Path

import pytest
import torch

from onevision import Conversation, Message, load
from onevision.checkpoint.hub import BUNDLED
from onevision.eval.heldout import SCENARIOS, run_heldout
from onevision.synth.sample import CANNOT_TELL

GOLDEN = Path(__file__).parent / "golden" / "tiny.json"
# Some answers may differ between CPUs: bf16 sums depend on their instructions.
TOLERANCE = 0.01
FAMILY_TOLERANCE = 2  # answers


@pytest.fixture(scope="module")
def tiny():
    return load("tiny")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_tiny_sees(tiny, scenario):
    published = golden(tiny)[scenario]
    sighted = run_heldout(tiny, scenario, count=100)
    blind = run_heldout(tiny, scenario, count=100, blind=True)
    assert sighted.accuracy >= published["sighted"] - 0.1
    assert sighted.accuracy >= blind.accuracy + 0.2


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_tiny_answers_as_published(tiny, scenario):
    published, found = golden(tiny)[scenario], scores(tiny, scenario)
    assert found["sighted"] == pytest.approx(published["sighted"], abs=TOLERANCE)
    assert found["blind"] == pytest.approx(published["blind"], abs=TOLERANCE)
    assert found["families"].keys() == published["families"].keys()
    for family, (right, asked) in found["families"].items():
        was_right, were_asked = published["families"][family]
        assert asked == were_asked
        assert abs(right - was_right) <= FAMILY_TOLERANCE, family


def test_tiny_says_so_when_there_is_nothing_to_see(tiny):
    reply = tiny.ask(Conversation([Message("user", "What colour is the circle?")]))
    assert reply.text == CANNOT_TELL


def test_tiny_is_small():
    assert sum(p.stat().st_size for p in BUNDLED["tiny"].iterdir()) < 25 * 2**20


def golden(model):
    """Returns the published scores for the arithmetic of a model on this processor."""
    return json.loads(GOLDEN.read_text())[arithmetic(model)]


def arithmetic(model):
    dtype = str(model.engine.dtype).removeprefix("torch.")
    in_tiles = dtype == "bfloat16" and torch.cpu._is_amx_tile_supported()
    return f"{dtype}, AMX" if in_tiles else dtype


def scores(model, scenario):
    """Returns the scores of a model on all held-out questions of a scenario."""
    sighted = run_heldout(model, scenario)
    return {
        "sighted": round(sighted.accuracy, 4),
        "blind": round(run_heldout(model, scenario, blind=True).accuracy, 4),
        "families": dict(sorted(sighted.by_family().items())),
    }


if __name__ == "__main__":
    model = load("tiny")
    found = {scenario: scores(model, scenario) for scenario in SCENARIOS}
    published = json.loads(GOLDEN.read_text()) | {arithmetic(model): found}
    GOLDEN.write_text(json.dumps(published, indent=1) + "\n")
