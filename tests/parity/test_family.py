"""The family before OneVision against transformers' Llava, LlavaNext and LlavaNextVideo.

Random weights, the released geometry (24 x 24 patches of CLIP at 336 pixels), toy widths.
"""

import random
from dataclasses import replace

import pytest
import torch

from onevision import Conversation, Image, Message, Text, Video, load
from onevision.anyres import AnyRes, SingleCrop, VideoLayout, plan
from onevision.checkpoint.load import inspect
from onevision.checkpoint.save import convert
from tests.parity.family import IMAGE_ID, MEMBERS, VIDEO_ID, build, write

pytestmark = pytest.mark.filterwarnings("ignore")
transformers = pytest.importorskip("transformers")

NEXT = AnyRes(crop_size=336, max_crops=None, grids=((2, 1), (1, 2), (2, 2), (1, 3), (3, 1)))


@pytest.fixture(scope="module", params=MEMBERS)
def pair(request, tmp_path_factory):
    """A model of theirs, and what we make of its directory."""
    member = MEMBERS[request.param]
    theirs = build(member)
    directory = write(theirs, member, tmp_path_factory.mktemp("member"))
    return request.param, theirs, load(directory, dtype="float32"), directory


def question(picture, *, detail="auto", frames=0):
    parts = [Image(picture(500, 375), detail=detail)]
    if frames:
        parts = [Video([picture(64, 48, seed=s) for s in range(frames)])]
    return Conversation([Message("user", [*parts, Text("What is this?")])])


def their_arguments(inputs):
    """Our ModelInputs, of one picture or one video, in the form transformers takes."""
    (layout,) = inputs.layouts
    video = isinstance(layout, VideoLayout)
    ids = inputs.input_ids.masked_fill(inputs.visual_mask, VIDEO_ID if video else IMAGE_ID)
    arguments = {"input_ids": ids, "attention_mask": inputs.attention_mask.long()}
    if video:
        return arguments | {"pixel_values_videos": inputs.pixel_values[None]}
    if layout.cols == 0:
        return arguments | {"pixel_values": inputs.pixel_values}
    sizes = torch.tensor([[layout.height, layout.width]])
    return arguments | {"pixel_values": inputs.pixel_values[None], "image_sizes": sizes}


def cases(name, picture):
    talks = [question(picture), Conversation([Message("user", "Hello, what is it?")])]
    return [*talks, question(picture, frames=3)] if name == "llava-next-video" else talks


@torch.inference_mode()
def test_logits_and_greedy_text_are_theirs(pair, picture):
    name, theirs, ours, _ = pair
    for talk in cases(name, picture):
        inputs = ours.processor(talk)
        arguments = (
            their_arguments(inputs)
            if inputs.layouts
            else {"input_ids": inputs.input_ids, "attention_mask": inputs.attention_mask.long()}
        )
        expected = theirs(**arguments).logits
        assert expected.std() > 0.05
        assert (ours.network(inputs) - expected).abs().max() <= 1e-4
        ids = theirs.generate(**arguments, max_new_tokens=8, do_sample=False, eos_token_id=None)
        answer = ids[0, inputs.input_ids.shape[1] :].tolist()
        reply = ours.ask(talk, max_new_tokens=8, end_ids=())
        assert reply.text == ours.processor.tokenizer.decode(answer).strip()


def test_what_the_files_say_is_read(pair):
    name, _, ours, _ = pair
    config, member = ours.config, MEMBERS[name]
    assert config.inputs.template == member.template
    assert config.vision.num_layers + config.vision.num_spare_layers == 3
    assert config.language.attention_bias == (member.template == "qwen_1_5")
    assert config.language.sliding_window == member.text.get("sliding_window")
    rule = config.inputs.image
    if member.model == "Llava":
        fits = {"llava-1.5": "pad", "bakLlava": "crop", "llava-interleave": "squash"}
        assert isinstance(rule, SingleCrop)
        assert (rule.fit, rule.newline) == (fits[name], False)
    else:
        assert rule.all_grids == NEXT.grids
    if name == "llava-next-video":
        video = config.inputs.video
        assert (video.pool, video.newline, video.pooled_side) == ("average", "no_token", 12)
        assert (config.language.rope_factor, config.language.max_positions) == (2.0, 8192)


@pytest.mark.parametrize("layout", ["lmms-lab", "llava-hf"])
def test_there_and_back_is_bit_equal(pair, tmp_path, layout):
    *_, directory = pair
    before = inspect(directory)
    convert(before, tmp_path / "a", layout=layout)
    convert(inspect(tmp_path / "a"), tmp_path / "b", layout="onevision")
    after = inspect(tmp_path / "b")
    # transformers' placeholder is an entry of the tokenizer; the reference's is none of its.
    token_id = before.config.inputs.image_token_id
    inputs = replace(after.config.inputs, image_token_id=token_id)
    assert replace(after.config, inputs=inputs) == before.config
    assert after.tensors.keys() == before.tensors.keys()
    for name, tensor in before.tensors.items():
        assert torch.equal(tensor.read(), after.tensors[name].read())


@pytest.fixture
def their_count():
    """Tokens of a picture as transformers' processor counts them."""
    processor = transformers.LlavaNextProcessor.__new__(transformers.LlavaNextProcessor)
    processor.patch_size, processor.vision_feature_select_strategy = 14, "default"
    processor.num_additional_image_tokens = 1
    processor.image_processor = type("Grids", (), {"image_grid_pinpoints": [
        [rows * 336, cols * 336] for cols, rows in NEXT.grids]})  # fmt: skip

    def count(*, width, height):
        return processor._get_number_of_features(height, width, 336, 336) - 1  # as its callers

    return count


def test_token_counts_are_theirs(their_count):
    draw = random.Random(0)
    sizes = [(draw.randint(1, 3000), draw.randint(1, 3000)) for _ in range(10_000)]
    for width, height in sizes:
        ours = plan(width=width, height=height, rule=NEXT).num_tokens
        assert ours == their_count(width=width, height=height), (width, height)


@pytest.mark.parametrize(
    ("width", "height", "ours", "theirs"), [(99, 88, 1224, 1272), (47, 1128, 792, 936)]
)
def test_where_theirs_rounds_ours_floors(their_count, width, height, ours, theirs):
    assert plan(width=width, height=height, rule=NEXT).num_tokens == ours
    assert their_count(width=width, height=height) == theirs
