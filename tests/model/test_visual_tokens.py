import pytest
import torch

from onevision.anyres import AnyRes, CropLayout, SingleCrop, VideoRule, plan, plan_video
from onevision.model.visual_tokens import arrange, merge_image, merge_video

NEWLINE = torch.tensor([-1.0])


def raster(rows, cols):
    return torch.arange(rows * cols, dtype=torch.float32)[:, None]


def test_videos_are_pooled_as_the_reference_pools():
    layout = plan_video(num_frames=1, rule=VideoRule())
    pooled = merge_video(raster(27, 27)[None], layout, NEWLINE)[:, 0]
    assert torch.allclose(pooled[:4], torch.tensor([13, 14.92857, 16.85714, 18.78571]))
    assert pooled[195] == 715
    assert pooled[196] == NEWLINE
    assert pooled[:196].mean() == pytest.approx(364)


def test_a_mosaic_is_scaled_down_as_the_reference_scales():
    """Values 0..10124 on 75 x 135 patches, the kept mosaic of a full HD picture."""
    layout = plan(width=1920, height=1080, rule=AnyRes())
    canvas = torch.zeros(81, 135)
    canvas[layout.first_row : layout.first_row + 75] = raster(75, 135).view(75, 135)
    crops = canvas.view(3, 27, 5, 27).transpose(1, 2).reshape(15, 729, 1)
    tokens = merge_image(torch.cat([torch.zeros(1, 729, 1), crops]), layout, NEWLINE)[729:, 0]
    rows = tokens.view(60, 109)
    assert torch.allclose(rows[0, :3], torch.tensor([17, 18.25, 19.5]))
    assert rows[-1, -2] == 10107
    assert (rows[:, -1] == NEWLINE).all()


def test_crops_stand_where_they_were_cut():
    """Two crops side by side: a row of the mosaic runs through both, then a newline."""
    layout = plan(width=56, height=28, rule=AnyRes(crop_size=28))
    crops = torch.tensor([[9.0] * 4, [0, 1, 4, 5], [2, 3, 6, 7]])[..., None]
    tokens = merge_image(crops, layout, NEWLINE)[:, 0]
    assert tokens.tolist() == [9, 9, 9, 9, 0, 1, 2, 3, -1, 4, 5, 6, 7, -1]


def test_padding_is_cut_off():
    """A picture four times as wide as high keeps one of four patch rows... and its parity."""
    layout = plan(width=112, height=28, rule=AnyRes(crop_size=56, grids=((2, 2),)))
    assert (layout.first_row, layout.kept_rows) == (3, 2)
    crops = torch.cat([torch.zeros(1, 16, 1), torch.ones(4, 16, 1)])
    assert len(merge_image(crops, layout, NEWLINE)) == 16 + 2 * (8 + 1)


def test_one_crop_and_its_newline():
    crop = raster(27, 27)[None]
    for newline, count in ((True, 730), (False, 729)):
        layout = plan(width=9, height=5, rule=SingleCrop(newline=newline))
        assert len(merge_image(crop, layout, NEWLINE)) == count


@pytest.mark.parametrize(
    ("newline", "expected"),
    [
        ("one_token", [0, 0, 0, 0, 1, 1, 1, 1, -1]),
        ("grid", [0, 0, -1, 0, 0, -1, 1, 1, -1, 1, 1, -1]),
        ("frame", [0, 0, 0, 0, -1, 1, 1, 1, 1, -1]),
        ("no_token", [0, 0, 0, 0, 1, 1, 1, 1]),
    ],
)
def test_where_newlines_of_a_video_stand(newline, expected):
    layout = plan_video(num_frames=2, rule=VideoRule(crop_size=56, newline=newline))
    frames = torch.stack([torch.zeros(16, 1), torch.ones(16, 1)])
    assert merge_video(frames, layout, NEWLINE)[:, 0].tolist() == expected


def test_average_and_max_pooling_drop_the_odd_row():
    frame = raster(3, 3)[None]
    for pool, expected in (("average", 2.0), ("max", 4.0)):
        rule = VideoRule(crop_size=42, pool=pool, newline="no_token")
        layout = plan_video(num_frames=1, rule=rule)
        assert merge_video(frame, layout, None).tolist() == [[expected]]


def test_media_are_merged_in_prompt_order():
    layouts = (
        plan(width=5, height=5, rule=SingleCrop(crop_size=28)),
        plan_video(num_frames=2, rule=VideoRule(crop_size=28)),
    )
    patches = torch.cat([torch.full((1, 4, 1), 7.0), torch.full((2, 4, 1), 8.0)])
    assert arrange(patches, layouts, NEWLINE).tokens[:, 0].tolist() == [7, 7, 7, 7, -1, 8, 8, -1]


def test_a_plan_that_does_not_fit_is_caught():
    layout = CropLayout(
        width=1, height=1, crop_size=28, side=2, fit="pad", newline=False, cols=1, rows=1,
        kept_rows=2, kept_cols=2, out_rows=1, out_cols=2,
    )  # fmt: skip
    merged = arrange(torch.zeros(2, 4, 1), (layout,), NEWLINE).tokens
    assert len(merged) == layout.num_tokens == 4 + 2


def two_by_two(merge):
    """Four crops of 4 x 4 patches whose values number the mosaic; the base is all -2."""
    rule = AnyRes(crop_size=56, max_crops=None, grids=((2, 2),), merge=merge)
    layout = plan(width=112, height=56, rule=rule)
    crops = raster(8, 8).view(2, 4, 2, 4).transpose(1, 2).reshape(4, 16, 1)
    return layout, merge_image(torch.cat([torch.full((1, 16, 1), -2.0), crops]), layout, NEWLINE)


@pytest.mark.parametrize(
    ("merge", "tokens", "first"),
    [
        ("flat", 80, [0, 1, 2, 3, 8, 9]),  # crop after crop
        ("spatial", 80, [0, 1, 2, 3, 4, 5]),  # row after row, padding too
        ("spatial_maxpool2x2", 32, [9, 11, 13, 15, 25, 27]),
        ("spatial_unpad", 52, [16, 17, 18, 19, 20, 21]),  # the middle four rows, each ended
    ],
)
def test_merges_by_hand(merge, tokens, first):
    layout, merged = two_by_two(merge)
    assert layout.num_tokens == len(merged) == tokens
    assert (merged[:16] == -2).all()
    assert merged[16:22, 0].tolist() == first
    assert (merged == NEWLINE).sum() == (4 if merge == "spatial_unpad" else 0)


@pytest.mark.parametrize("pool", ["bilinear", "average"])
def test_slow_frames_are_pooled_by_two_and_fast_ones_by_four(pool):
    """4 x 4 patches, the values 0..15 plus 100 per frame; every second frame is slow."""
    rule = VideoRule(crop_size=56, pool=pool, newline="grid", slow_every=2)
    layout = plan_video(num_frames=3, rule=rule)
    frames = torch.stack([raster(4, 4) + 100 * number for number in range(3)])
    tokens = merge_video(frames, layout, NEWLINE, torch.tensor([-2.0]))[:, 0]
    assert tokens.tolist() == [
        *(2.5, 4.5, -1, 10.5, 12.5, -1, -2),
        *(107.5, -1, -2),  # of the patches themselves, not of the pooled ones
        *(202.5, 204.5, -1, 210.5, 212.5, -1, -2),
    ]
    assert layout.num_tokens == 17
    assert len(merge_video(frames[:1], plan_video(num_frames=1, rule=rule), NEWLINE, NEWLINE)) == 7
