"""A model on several devices, a process for each: the answers of one, and what happens to errors.

Processes on a CPU, which sum by gloo.
"""

import os
from contextlib import closing

import pytest
import torch

from onevision import load
from onevision.errors import CheckpointError, InputError
from onevision.generate.parallel.encoder import LeadingEncoder, divide_crops
from onevision.generate.parallel.processes import Followers, current_version, new_meeting_place
from onevision.generate.parallel.protocol import PartSpec
from tests.generate.parallel import CLOSE, LANGUAGE, logits


@pytest.fixture(scope="module")
def one(checkpoint):
    return load(checkpoint)


@pytest.fixture(scope="module")
def two(checkpoint):
    with closing(load(checkpoint, devices=2)) as model:
        yield model


@pytest.mark.parametrize("kind", ["words", "an image", "images", "a video"])
def test_two_devices_give_the_logits_of_one(one, two, talks, kind):
    torch.testing.assert_close(
        logits(two, talks[kind]), logits(one, talks[kind]), rtol=CLOSE, atol=CLOSE
    )


def test_each_holds_half_of_the_heads(one, two):
    assert two.config == one.config
    assert two.parallel.part.config.language.num_heads == LANGUAGE.num_heads // 2
    assert two.arithmetic.endswith("on each of 2 devices")


@pytest.mark.parametrize("num_crops", [1, 2, 5])
def test_each_encodes_a_part_of_the_crops(one, two, num_crops):
    side = one.config.vision.image_size
    crops = torch.randn(num_crops, 3, side, side, generator=torch.Generator().manual_seed(0))
    assert isinstance(two.network.vision_encoder, LeadingEncoder)
    with torch.inference_mode():
        found, expected = (model.network.vision_encoder(crops) for model in (two, one))
    torch.testing.assert_close(found, expected, rtol=CLOSE, atol=CLOSE)


def test_crops_are_divided_evenly():
    assert divide_crops(10, 4) == [3, 3, 2, 2]
    assert divide_crops(2, 4) == [1, 1, 0, 0]


def test_they_answer_alike_alone_together_and_again(one, two, talks):
    conversations = list(talks.values())
    expected = [reply.text for reply in one.ask_all(conversations, max_new_tokens=12)]
    assert [r.text for r in two.ask_all(conversations, max_new_tokens=12)] == expected
    again = [two.ask(talk, max_new_tokens=12) for talk in conversations]  # of cached prefixes
    assert [reply.text for reply in again] == expected
    assert two.engine.prefix_cache.hits > 0


def test_sampled_answers_are_alike(one, two, talks):
    options = {"max_new_tokens": 12, "temperature": 1.0, "seed": 3}
    for talk in talks.values():
        assert two.ask(talk, **options).text == one.ask(talk, **options).text


def test_an_answer_that_is_cancelled_harms_no_other(one, two, talks):
    pieces = two.stream(talks["an image"], max_new_tokens=200)
    next(pieces)
    pieces.close()
    reply = two.ask(talks["images"], max_new_tokens=12)
    assert reply.text == one.ask(talks["images"], max_new_tokens=12).text


def test_a_second_model_on_several_devices_is_refused(two, checkpoint):
    with pytest.raises(InputError, match="belongs to a process group already"):
        load(checkpoint, devices=2)


@pytest.mark.parametrize("devices", [0, -1, 3, 8])
def test_devices_that_do_not_divide_the_heads_are_refused(checkpoint, devices):
    expected = rf"{devices} devices cannot share the 4 key/value heads .* one of 1, 2, 4"
    with pytest.raises(InputError, match=expected):
        load(checkpoint, devices=devices)


@pytest.fixture
def spec(checkpoint):
    return PartSpec(
        model=str(checkpoint), adapter=None, dtype="float32", quantize=None, device="cpu",
        in_memory=False, verify=True, rank=1, count=2, num_threads=1,
        meeting_place=new_meeting_place(), version=current_version(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"model": "/no/such/place"}, "device 1: /no/such/place"),
        pytest.param(
            {"version": "0.0"}, "device 1: runs .*, the first device 0.0", marks=pytest.mark.slow
        ),
    ],
)
def test_a_device_that_cannot_load_is_named(spec, change, problem):
    values = {name: getattr(spec, name) for name in PartSpec.__struct_fields__}
    followers = Followers([PartSpec(**values | change)])
    with pytest.raises(CheckpointError, match=problem):
        followers.wait_until_loaded()
    assert not any(is_alive(process_id) for process_id in followers.process_ids)


def is_alive(process_id):
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True
