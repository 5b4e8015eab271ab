"""Which visual tokens stay: as many as planned, the moving and the distinct ones."""

import random
from itertools import pairwise

import pytest
import torch

from onevision import Conversation, Image, Message, Text
from onevision.anyres import AnyRes, SingleCrop, VideoRule, plan, plan_video
from onevision.inputs.processor import Processor
from onevision.model.visual_tokens import arrange
from onevision.pruning import choose_tokens, find_positions, newline_mask

NEWLINE = torch.full((8,), 7.0)
CROP = {"crop_size": 56, "patch_size": 14}  # 4 x 4 patches


def image_rules():
    yield from (AnyRes(**CROP, merge=merge) for merge in ("flat", "spatial", "spatial_unpad"))
    yield AnyRes(**CROP, merge="spatial_maxpool2x2", max_crops=None)
    yield AnyRes(**CROP, max_crops=2)
    yield from (SingleCrop(**CROP, newline=newline) for newline in (True, False))


def video_rules():
    for newline in ("one_token", "grid", "frame", "no_token"):
        yield VideoRule(**CROP, newline=newline)
        yield VideoRule(**CROP, newline=newline, pool="average", pool_first=True)


def layouts(keep):
    sizes = random.Random(0)
    for rule in image_rules():
        for _ in range(12):
            width, height = (sizes.choice((1, 30, 56, 57, 200, 333)) for _ in range(2))
            yield plan(width=width, height=height, rule=rule, keep=keep)
    for rule in video_rules():
        for num_frames in (1, 2, 5):
            yield plan_video(num_frames=num_frames, rule=rule, keep=keep)


@pytest.mark.parametrize("keep", [1.0, 0.9, 0.5, 0.25, 0.1, 0.05])
def test_as_many_tokens_stay_as_are_planned(keep):
    for layout in layouts(keep):
        patches = torch.randn(layout.num_crops, layout.side**2, 8)
        tokens = arrange(patches, (layout,), NEWLINE).tokens
        assert len(tokens) == layout.num_tokens
        newlines = (tokens == NEWLINE).all(1).sum()
        assert newlines == layout.num_newlines, "newlines always stay"
        assert layout.num_tokens - newlines == layout.num_patches - layout.num_dropped


def test_the_count_by_hand():
    """Of 49 patches a half is 24.5, rounded up; the newline after them stays."""
    rule = SingleCrop(crop_size=98)
    assert plan(width=9, height=9, rule=rule, keep=0.5).num_tokens == 25 + 1
    assert plan(width=9, height=9, rule=rule, keep=0.05).num_tokens == 2 + 1
    video = plan_video(num_frames=4, rule=VideoRule(crop_size=98), keep=0.05)
    assert video.num_tokens == 4 + 1, "of 64 tokens a twentieth is 3, but there are 4 frames"
    full_hd = plan(width=1920, height=1080, rule=AnyRes(), keep=0.5)
    assert (full_hd.num_patches, full_hd.num_newlines) == (729 + 60 * 108, 60)
    assert full_hd.num_tokens == 3605 + 60  # 7209 / 2 = 3604.5


def test_a_single_token_stays_of_a_single_patch():
    layout = plan(width=5, height=5, rule=SingleCrop(crop_size=14, newline=False), keep=0.05)
    patches = torch.randn(1, 1, 8)
    assert torch.equal(arrange(patches, (layout,), None).tokens, patches[0])


def test_with_all_tokens_nothing_changes():
    for layout in layouts(1.0):
        assert layout.num_dropped == 0
        places = choose_tokens(torch.randn(layout.num_tokens, 8), layout)
        assert torch.equal(places, torch.arange(layout.num_tokens))


def test_places_rise_and_are_the_same_each_time():
    for layout in layouts(0.3):
        tokens = torch.randn(layout.num_patches + layout.num_newlines, 8)
        places = choose_tokens(tokens, layout)
        assert (places.diff() > 0).all()
        assert torch.equal(places, choose_tokens(tokens.clone(), layout))


def test_a_spot_in_an_empty_picture_stays():
    """The patches of a grid are alike but for three: these stay, and few of the others."""
    layout = plan(width=112, height=112, rule=AnyRes(**CROP), keep=0.1)
    length = layout.num_patches + layout.num_newlines
    tokens = torch.ones(length, 8) + 0.01 * torch.randn(length, 8)
    spots = (11, 30, 52)
    assert not newline_mask(layout)[[*spots]].any()
    for number, place in enumerate(spots):
        tokens[place, number] = -9.0
    assert set(spots) <= set(choose_tokens(tokens, layout).tolist())


def test_of_one_crop_tokens_at_even_distances_stay():
    """Every other of an odd side: a chessboard."""
    layout = plan(width=9, height=9, rule=SingleCrop(crop_size=98), keep=0.5)
    places = choose_tokens(torch.randn(50, 8), layout).tolist()
    assert places[-1] == 49, "the newline"
    assert {after - before for before, after in pairwise(places)} <= {1, 2}


def test_of_a_still_video_the_moving_part_stays():
    """One of 16 places changes from frame to frame; it stays in every frame."""
    layout = plan_video(num_frames=6, rule=VideoRule(**CROP | {"crop_size": 112}), keep=0.3)
    frames = torch.randn(16, 8).repeat(6, 1, 1)
    frames[:, 5] = torch.randn(6, 8)
    places = choose_tokens(torch.cat([frames.flatten(0, 1), NEWLINE[None]]), layout).tolist()
    assert {16 * frame + 5 for frame in range(6)} <= set(places)
    assert all(any(place // 16 == frame for place in places) for frame in range(6))


def test_newlines_are_found():
    grid = plan(width=56, height=28, rule=AnyRes(crop_size=28))  # 2 x 4 patches after the base
    assert newline_mask(grid).nonzero()[:, 0].tolist() == [8, 13]
    frames = plan_video(num_frames=2, rule=VideoRule(crop_size=56, newline="frame"))
    assert newline_mask(frames).nonzero()[:, 0].tolist() == [4, 9]


def test_tokens_keep_the_positions_they_have_without_dropping(micro_config, picture, tokenizer):
    """Of a prompt in full and one that drops tokens: each id and visual token stands at its own."""
    talk = Conversation(
        [Message("user", [Text("a"), Image(picture(90, 60)), Text("b"), Image(picture(60, 90))])]
    )
    processor = Processor(micro_config.inputs, tokenizer)
    whole, kept = processor(talk), processor(talk.with_keep(0.3))
    places = [torch.randperm(la.num_patches)[: la.num_tokens - 1].sort()[0] for la in kept.layouts]
    newline = torch.tensor([kept.layouts[0].num_patches])  # of both, after 16 patches each
    chosen = torch.cat([places[0], newline, places[1], newline])
    found = find_positions(kept, chosen)
    assert (found.diff() > 0).all()
    assert found[0, -1] == whole.input_ids.shape[1] - 1
    assert torch.equal(whole.input_ids[0, found[0]], kept.input_ids[0])
    assert torch.equal(whole.visual_mask[0, found[0]], kept.visual_mask[0])
    batch = processor.join([kept, processor(talk)])
    both = find_positions(batch, torch.cat([chosen, torch.arange(17), torch.arange(17)]))
    assert torch.equal(both[0, : found.shape[1]], found[0])
    assert torch.equal(both[1], torch.arange(batch.input_ids.shape[1]))
