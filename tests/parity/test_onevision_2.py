"""OneVision-2 against numbers of the official code (record_onevision_2.py made them).

Random weights, true geometry: patches of 14 pixels, cells of 2 x 2 and 3 x 3, positions in time.
"""

import json
from dataclasses import replace

import pytest
import torch

from onevision import Conversation, Image, Message, Text, Video, load
from onevision.anyres import plan, plan_video
from onevision.inputs.frame_times import NumFrames
from onevision.inputs.image import cut_frames, normalise
from onevision.inputs.samplers import spread_frames
from onevision.inputs.upright import ImageSize
from tests.conftest import GOLDEN
from tests.native import NATIVE_2, with_merge, write_native
from tests.parity.onevision_1_5 import CASES, COUNTED, NEW_TOKENS, QUESTION, draw, sample
from tests.parity.onevision_2 import CLIPS, NINE, NUMBERS, RATE, SAMPLED, WINDOWED

EXPECTED = json.loads((GOLDEN / "onevision_2.json").read_text())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    place = tmp_path_factory.mktemp("native")
    return load(write_native(place, layout="onevision-2"), dtype="float32")


def conversation(kind, sizes):
    pictures = draw(sizes)
    media = [Video(pictures)] if kind == "video" else [Image(one) for one in pictures]
    return Conversation([Message("user", [*media, Text(QUESTION)])])


def close(found, expected, *, within):
    assert torch.tensor(expected).std() > 0.01
    assert (torch.tensor(sample(found)) - torch.tensor(expected)).abs().max() <= within


@torch.inference_mode()
def check(network, inputs, expected):
    """Compares ids, patches, features, visual tokens and logits."""
    assert inputs.input_ids[0].tolist() == expected["ids"]
    owners = [owner for layout in inputs.layouts for owner in layout.owners]
    assert len(owners) == expected["visual_tokens"]
    side = inputs.layouts[0].side
    patches = inputs.pixel_values.unflatten(2, (side, 14)).unflatten(4, (side, 14))
    close(patches.permute(0, 2, 4, 1, 3, 5), expected["patches"], within=1e-5)
    features = network.vision_encoder(inputs.pixel_values, owners)
    close(features, expected["features"], within=1e-4)
    close(network.project(features, owners), expected["tokens"], within=1e-4)
    close(network(inputs), expected["logits"], within=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_ids_features_logits_and_greedy_text_are_the_official_codes(model, name):
    expected, talk = EXPECTED["cases"][name], conversation(*CASES[name])
    check(model.network, model.processor(talk), expected)
    reply = model.ask(talk, max_new_tokens=NEW_TOKENS, end_ids=())
    assert reply.text == model.processor.tokenizer.decode(expected["answer"]).strip()


def test_cells_of_nine_patches(tmp_path):
    config = with_merge(NATIVE_2, 3)
    model = load(write_native(tmp_path, layout="onevision-2", config=config), dtype="float32")
    check(model.network, model.processor(conversation(*NINE)), EXPECTED["nine"])


def test_frames_of_a_file_have_their_numbers_and_times(model):
    """The numbers turn patches, the times stand before the frames."""
    sizes = [(200, 120)] * len(NUMBERS)
    seconds = tuple(number / RATE for number in NUMBERS)
    fact = NumFrames(len(NUMBERS), seconds, ImageSize(width=200, height=120), NUMBERS)
    outline = model.processor.outline(conversation("video", sizes), facts=[fact])
    mean = model.processor.config.image_mean
    crops = cut_frames(draw(sizes), outline.layouts[0], image_mean=mean)
    inputs = model.processor.inputs(model.processor.example(outline, crops=crops))
    check(model.network, inputs, EXPECTED["numbered"])
    still = replace(inputs.layouts[0], numbers=(0,) * len(NUMBERS))
    with torch.inference_mode():
        seen, unmoved = (
            model.network.encode(inputs.pixel_values, (layout,))
            for layout in (inputs.layouts[0], still)
        )
    assert (seen - unmoved).abs().max() > 1e-3


@torch.inference_mode()
def test_frames_of_a_window_see_each_other(model):
    rule = replace(NATIVE_2.inputs.video, window=4)
    layout = plan_video(num_frames=len(WINDOWED), rule=rule, width=200, height=120)
    config = NATIVE_2.inputs
    crops = cut_frames(draw(WINDOWED), layout, image_mean=config.image_mean)
    pixels = normalise(crops, mean=config.image_mean, std=config.image_std)
    features = model.network.vision_encoder(pixels, layout.owners)
    close(features, EXPECTED["windows"], within=1e-4)
    network = model.network
    whole, parts = (network.encode(pixels, (layout,), crops_at_once=n) for n in (None, 1))
    assert (whole - parts).abs().max() < 1e-5
    alone = replace(layout, window=1)
    apart = model.network.vision_encoder(pixels, alone.owners)
    assert (apart - features).abs().max() > 0.01


def test_an_image_beside_a_video_keeps_its_place(model):
    """The official processor gives one's tokens to the other, unless the image comes first; then
    its features still go to the wrong places, since patches of videos come first."""
    assert EXPECTED["mixed"] == {"image_first": [77, 28, 28], "video_first": [104, 28, 1]}
    picture, frames = Image(draw([(300, 200)])[0]), Video(draw([(200, 120)] * 2))
    for order in CLIPS.values():
        media = [picture if kind == "image" else frames for kind in order]
        talk = Conversation([Message("user", [*media, Text(QUESTION)])])
        inputs = model.processor(talk)
        runs = inputs.visual_mask[0].int().diff(prepend=torch.zeros(1, dtype=torch.int32))
        begins, ends = (runs == 1).nonzero()[:, 0], (runs == -1).nonzero()[:, 0]
        found = (ends - begins).tolist()
        assert found == [77, 28, 28] if order[0] == "image" else [28, 28, 77]
        assert [la.is_video for la in inputs.layouts] == [kind == "video" for kind in order]


@pytest.mark.parametrize("merge", [2, 3])
def test_tokens_of_ten_thousand_sizes_are_those_of_smart_resize(merge):
    rule = with_merge(NATIVE_2, merge).inputs.image
    counts = [plan(width=w, height=h, rule=rule).num_tokens for w, h in COUNTED]
    assert [sum(counts), sum(n * count for n, count in enumerate(counts))] == (
        EXPECTED["counts"][str(merge)]
    )


def test_frames_of_two_thousand_videos_are_the_official_processors():
    total = 0
    for count, rate, most in SAMPLED:
        chosen = spread_frames("processor", count=count, rate=rate, most=most)
        total += sum(place * index for place, index in enumerate(chosen, start=1))
    assert total == EXPECTED["samplers"]
