"""OneVision-1.5 against numbers of the official code (record_onevision_1_5.py made them).

Random weights, true geometry: patches of 14 pixels, cells of 2 x 2, a class token per picture.
"""

import json
from dataclasses import replace

import pytest
import torch

from onevision import Conversation, Image, Message, Text, Video, load
from onevision.anyres import plan
from tests.conftest import GOLDEN
from tests.native import RULE, write_native
from tests.parity.onevision_1_5 import CASES, COUNTED, NEW_TOKENS, QUESTION, draw, sample

EXPECTED = json.loads((GOLDEN / "onevision_1_5.json").read_text())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(write_native(tmp_path_factory.mktemp("native")), dtype="float32")


def conversation(name):
    kind, sizes = CASES[name]
    pictures = draw(sizes)
    media = [Video(pictures)] if kind == "video" else [Image(one) for one in pictures]
    return Conversation([Message("user", [*media, Text(QUESTION)])])


def close(found, expected, *, within):
    assert torch.tensor(expected).std() > 0.01
    assert (torch.tensor(sample(found)) - torch.tensor(expected)).abs().max() <= within


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_features_logits_and_greedy_text_are_the_official_codes(model, name):
    expected, talk, network = EXPECTED["cases"][name], conversation(name), model.network
    inputs = model.processor(talk)
    assert inputs.input_ids.shape[1] == expected["prompt_tokens"]
    owners = [owner for layout in inputs.layouts for owner in layout.owners]
    assert len(owners) == expected["visual_tokens"]
    # The official patches are [patches, 3 * 14 * 14], ours are cut by the convolution.
    patches = inputs.pixel_values.unflatten(2, (2, 14)).unflatten(4, (2, 14))
    close(patches.permute(0, 2, 4, 1, 3, 5), expected["patches"], within=1e-4)
    features = network.vision_encoder(inputs.pixel_values, owners)
    close(features, expected["features"], within=1e-4)
    close(network.project(features, owners), expected["tokens"], within=1e-4)
    close(network(inputs), expected["logits"], within=1e-4)
    reply = model.ask(talk, max_new_tokens=NEW_TOKENS, end_ids=())
    assert reply.text == model.processor.tokenizer.decode(expected["answer"]).strip()


def test_the_official_file_shifts_patches_of_all_but_the_first_picture():
    """Recorded, as the reason why its pictures and frames are encoded one at a time."""
    assert {name: case["shifts"] for name, case in EXPECTED["cases"].items()} == {
        "one": [0],
        "tall": [0],
        "small": [0],
        "several": [0, 1, 2, 3],
        "video": [0, 1, 2],
    }


def test_tokens_of_ten_thousand_sizes_are_those_of_smart_resize():
    counts = [plan(width=w, height=h, rule=RULE).num_tokens for w, h in COUNTED]
    assert sum(counts) == EXPECTED["counts_sum"]
    assert sum(n * count for n, count in enumerate(counts)) == EXPECTED["counts_weighted"]


def test_tokens_of_many_sizes_are_those_of_transformers():
    """Beside those of the file, at the bounds of the released models."""
    module = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")
    rule = replace(RULE, max_pixels=3_240_000)
    for width, height in [*COUNTED[:2000], (28, 5000), (1, 200), (13, 14), (42, 70), (1920, 1080)]:
        rows, cols = module.smart_resize(height, width, 28, rule.min_pixels, rule.max_pixels)
        layout = plan(width=width, height=height, rule=rule)
        assert layout.size == (cols, rows)
