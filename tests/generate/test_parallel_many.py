"""More devices, quantised weights, and a device that dies."""

import os
import signal
import time
from contextlib import closing

import pytest

from onevision import load
from onevision.errors import EngineError
from tests.generate.parallel import CLOSE, logits

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("quantize", [None, "int8", "int4"])
def test_four_devices_answer_as_one(checkpoint, talks, quantize):
    alone = load(checkpoint, quantize=quantize)
    with closing(load(checkpoint, devices=4, quantize=quantize)) as four:
        for talk in talks.values():
            found, expected = logits(four, talk), logits(alone, talk)
            apart = (found - expected).norm() / expected.norm()
            assert apart < (CLOSE if quantize is None else 0.05)


def test_a_device_that_dies_ends_the_model_with_one_error(checkpoint, talks):
    told = []
    with closing(load(checkpoint, devices=2)) as model:
        model.parallel.leader.on_loss(told.append)
        pieces = model.stream(talks["words"], max_new_tokens=500)
        next(pieces)
        os.kill(model.parallel.leader.followers.process_ids[0], signal.SIGKILL)
        with pytest.raises(EngineError):
            for _ in pieces:
                pass
        with pytest.raises(EngineError, match="load the model again"):
            model.ask(talks["words"])
        deadline = time.monotonic() + 10
        while not told:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    with closing(load(checkpoint, devices=2)) as again:
        assert again.ask(talks["words"], max_new_tokens=3).text
