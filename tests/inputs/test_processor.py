import pytest
import torch

from onevision.anyres import CropLayout, VideoLayout
from onevision.batch import usage
from onevision.conversation import Conversation, Image, Message, Text, Video
from onevision.errors import MediaError
from onevision.inputs.chat import IGNORE
from onevision.inputs.processor import Processor


@pytest.fixture(scope="module")
def processor(small_config, tokenizer):
    return Processor(small_config.inputs, tokenizer)


def user(*parts):
    return Conversation([Message("user", list(parts))])


def test_ids_are_expanded_and_the_mask_says_where(processor, picture):
    inputs = processor(user(Image(picture(500, 375)), Text("What?")))
    assert inputs.visual_mask.sum() == inputs.layouts[0].num_tokens == 1728
    assert inputs.input_ids.shape == inputs.visual_mask.shape == inputs.attention_mask.shape
    assert (inputs.input_ids[inputs.visual_mask] == 3).all()
    assert inputs.pixel_values.shape == (3, 3, 384, 384)
    assert inputs.pixel_values.dtype == torch.float32


def test_several_images_take_one_crop_each(processor, picture):
    inputs = processor(user(Image(picture(500, 375)), Image(picture(40, 90)), Text("?")))
    assert [layout.num_tokens for layout in inputs.layouts] == [730, 730]


def test_images_count_over_all_turns_and_videos_do_not(processor, picture):
    first = Message("user", [Image(picture(500, 375)), Text("?")])
    alone = Conversation([first, Message("assistant", "ok"), Message("user", "and?")])
    assert processor(alone).layouts[0].num_tokens == 1728
    again = Message("user", [Image(picture(40, 90)), Text("?")])
    several = Conversation([first, Message("assistant", "ok"), again])
    assert [layout.num_tokens for layout in processor(several).layouts] == [730, 730]
    with_video = user(Image(picture(500, 375)), Video([picture(8, 8)] * 2), Text("?"))
    kinds = [(type(la), la.num_tokens) for la in processor(with_video).layouts]
    assert kinds == [(CropLayout, 1728), (VideoLayout, 393)]


def test_detail_overrides_the_rule(processor, picture):
    image = picture(500, 375)
    assert processor(user(Image(image, detail="low"))).layouts[0].num_tokens == 729
    inputs = processor(user(Image(image, detail="high"), Image(image), Image(image, detail="low")))
    assert [layout.num_tokens for layout in inputs.layouts] == [1728, 730, 729]


def test_pixels_come_in_prompt_order_base_first(processor, picture):
    a, b = picture(384, 384, seed=1), picture(384, 384, seed=2)
    alone = processor(user(Image(a)))
    assert torch.equal(alone.pixel_values[0], alone.pixel_values[1])  # 1 x 1 grid: the same crop
    pair = processor(user(Image(b), Video([a]), Image(a)))
    assert torch.equal(pair.pixel_values[1], pair.pixel_values[2])
    assert torch.equal(pair.pixel_values[2], alone.pixel_values[0])


def test_text_alone_has_no_pixels(processor):
    inputs = processor(user(Text("Hi")))
    assert inputs.pixel_values.shape == (0, 3, 384, 384)
    assert not inputs.visual_mask.any()


def test_a_batch_is_padded_to_the_right(processor, picture):
    batch = processor.batch([user(Text("Hi")), user(Image(picture(9, 9)), Text("What is it?"))])
    short, long = batch.lengths.tolist()
    assert short < long == batch.input_ids.shape[1]
    assert batch.attention_mask[0].tolist() == [True] * short + [False] * (long - short)
    assert not batch.visual_mask[0].any()


def test_visual_tokens_have_no_label(processor, picture):
    talk = Conversation(
        [Message("user", [Image(picture(9, 9)), Text("?")]), Message("assistant", "A ring.")]
    )
    example = processor.example(talk)
    assert (example.labels[example.visual_mask] == IGNORE).all()
    last_visual = int(example.visual_mask.nonzero()[-1])
    newline = processor.tokenizer.encode("\n").ids[0]
    assert example.labels[last_visual + 1] == newline  # the reference labels this newline


def test_usage_counts_by_kind(processor, picture):
    inputs = processor(user(Image(picture(9, 9)), Video([picture(8, 8)]), Text("Hi")))
    counted = usage(inputs)
    assert (counted.image_tokens, counted.video_tokens) == (1485, 197)
    assert counted.prompt_tokens == inputs.input_ids.shape[1]


def test_conversations_about_the_same_media_share_the_pixels(processor, picture):
    media = (Image(picture(30, 20)),)
    talks = [user(*media, Text(words)) for words in ("What?", "Where is the ring?")]
    first, second = processor.examples_sharing_media(talks)
    assert first.crops is second.crops
    assert torch.equal(second.input_ids, processor(talks[1]).input_ids[0])


def test_an_outline_tells_the_tokens_before_a_pixel_is_decoded(processor, picture, tmp_path):
    picture(500, 375).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    outlines = [
        processor.outline(user(Image(tmp_path / name), Text("What?")))
        for name in ("whole.png", "cut.png")
    ]
    assert outlines[0].num_tokens == outlines[1].num_tokens
    example = processor.example(outlines[0])
    assert len(example.input_ids) == outlines[0].num_tokens
    assert example.crops.shape == (3, 3, 384, 384)
    with pytest.raises(MediaError, match="cut off"):
        processor.example(outlines[1])
