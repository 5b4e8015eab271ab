"""More devices, quantised weights, and a device that dies."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace

import pytest
import torch

from onevision import load
from onevision.checkpoint.save import save
from onevision.errors import EngineError
from onevision.generate.parallel.encoder import LeadingEncoder
from onevision.model.llava import LlavaNetwork
from onevision.quantization.quantize import QuantizeConfig
from onevision.quantization.rounding import SCHEMES
from onevision.quantization.run import quantize_model
from tests.conftest import randomise
from tests.generate.parallel import CLOSE, GRAPHED, LANGUAGE, alike, answer_all, logits
from tests.native import NATIVE, native_tokenizer

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("quantize", [None, "int8", "int4"])
def test_four_devices_answer_as_one(checkpoint, talks, quantize):
    alone = load(checkpoint, quantize=quantize)
    with closing(load(checkpoint, devices=4, quantize=quantize)) as four:
        for talk in talks.values():
            found, expected = logits(four, talk), logits(alone, talk)
            apart = (found - expected).norm() / expected.norm()
            assert apart < (CLOSE if quantize is None else 0.05)


@pytest.mark.parametrize(
    ("scheme", "quantize"), [("w8a8", None), ("w4a16", None), ("w4a16", "int4")]
)
def test_two_devices_share_a_quantised_file(
    micro_config, tokenizer, talks, tmp_path, scheme, quantize
):
    language = replace(LANGUAGE, hidden_size=128, intermediate_size=256)
    config = replace(micro_config, language=language)
    save(randomise(LlavaNetwork(config)), config, tokenizer, tmp_path / "model")
    chosen = QuantizeConfig(scheme=SCHEMES[scheme], max_error=9)
    quantize_model(tmp_path / "model", tmp_path / "small", chosen)
    alone = load(tmp_path / "small", quantize=quantize)
    with closing(load(tmp_path / "small", devices=2, quantize=quantize)) as two:
        kind = "int8 (" if scheme == "w8a8" else "int4 (" if quantize else "float32"
        assert two.arithmetic.startswith(kind)
        assert alone.arithmetic.startswith(kind)
        for talk in talks.values():
            found, expected = logits(two, talk), logits(alone, talk)
            apart = (found - expected).norm() / expected.norm()
            assert apart < (CLOSE if kind == "float32" else 0.05)


def test_the_first_device_encodes_at_native_resolution_alone(talks, tmp_path):
    save(randomise(LlavaNetwork(NATIVE)), NATIVE, native_tokenizer(), tmp_path / "model")
    alone = load(tmp_path / "model")
    with closing(load(tmp_path / "model", devices=2)) as two:
        assert not isinstance(two.network.vision_encoder, LeadingEncoder)
        for kind in ("an image", "images"):
            found, expected = logits(two, talks[kind]), logits(alone, talks[kind])
            torch.testing.assert_close(found, expected, rtol=CLOSE, atol=CLOSE)


def test_four_devices_decode_as_one_in_fixed_shapes(checkpoint, talks):
    many = [*talks.values()] * 2
    lengths = [3 + 5 * (n % 4) for n in range(len(many))]
    with closing(load(checkpoint, devices=4, settings=GRAPHED)) as four:
        alike(load(checkpoint), four, lambda *own: answer_all(*own, many, lengths), max_running=3)


def test_no_device_outlives_the_first_process_even_in_a_sum_without_end():
    """On a CPU a sum ends with an error; a sleep stands for one that waits on a GPU."""
    follower = (
        "import time; from onevision.generate.parallel.follower import end_with_leader; "
        "end_with_leader(); print('watching', flush=True); time.sleep(100)"
    )
    leader = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {follower!r}])"
    with subprocess.Popen([sys.executable, "-c", leader], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"watching\n"
        process.kill()
        began = time.monotonic()
        assert process.stdout.read() == b""  # open as long as the follower lives
    assert time.monotonic() - began < 10


def test_the_first_device_may_have_the_head_alone(micro_config, tokenizer, talks, tmp_path):
    config = replace(micro_config, language=replace(LANGUAGE, vocab_size=4201))
    save(randomise(LlavaNetwork(config)), config, tokenizer, tmp_path / "model")
    with closing(load(tmp_path / "model", devices=2, settings=GRAPHED)) as two:
        alone = load(tmp_path / "model")
        alike(alone, two, lambda *own: answer_all(*own, list(talks.values()), [12, 3, 7, 9]))


@pytest.mark.parametrize("settings", [None, GRAPHED])
def test_a_device_that_dies_ends_the_model_with_one_error(checkpoint, talks, settings):
    told = []
    with closing(load(checkpoint, devices=2, settings=settings)) as model:
        model.parallel.leader.on_loss(told.append)
        pieces = model.stream(talks["words"], max_new_tokens=500, end_ids=())
        for _ in range(3):
            next(pieces)
        assert (model.engine.stats.graphed_steps > 0) is (settings is GRAPHED)
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
