import random
from collections import defaultdict
from dataclasses import replace

import pytest
import torch

from onevision.anyres import (
    AnyRes,
    CropLayout,
    SingleCrop,
    VideoRule,
    plan,
    plan_video,
)
from onevision.errors import ConfigError, InputError
from onevision.known_models import ARCHITECTURES, max_image_tokens
from onevision.model.visual_tokens import merge_image, merge_video

ONEVISION = AnyRes()
NEXT = AnyRes(crop_size=336, max_crops=None, grids=((1, 2), (2, 1), (2, 2), (3, 1), (1, 3)))


def test_layouts_are_the_oracles(golden):
    for expected in golden["images"]:
        layout = plan(width=expected["width"], height=expected["height"], rule=ONEVISION)
        found = {
            "width": layout.width,
            "height": layout.height,
            "cols": layout.cols,
            "rows": layout.rows,
            "resized": [layout.resized_width, layout.resized_height],
            "left": layout.left,
            "top": layout.top,
            "tokens": layout.num_tokens,
        }
        assert found == {k: v for k, v in expected.items() if k != "transformers"}


def test_where_transformers_rounds_we_floor_as_the_reference_does(golden):
    for width, height, ours, theirs in golden["rounding"]:
        assert plan(width=width, height=height, rule=ONEVISION).num_tokens == ours != theirs


def test_grids_come_columns_first():
    assert len(ONEVISION.all_grids) == 36
    assert ONEVISION.all_grids[:7] == ((1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (1, 6), (2, 1))


def test_a_full_hd_picture_by_hand():
    layout = plan(width=1920, height=1080, rule=ONEVISION)
    assert (layout.cols, layout.rows, layout.num_crops) == (5, 3, 16)
    assert (layout.kept_cols, layout.kept_rows) == (135, 75)
    assert (layout.out_cols, layout.out_rows) == (108, 60)
    assert layout.num_tokens == 729 + 60 * (108 + 1) == 7269


@pytest.mark.parametrize(
    ("width", "height", "tokens"),
    [
        (336, 336, 1176),
        (640, 480, 2340),
        (480, 640, 2352),
        (1024, 1024, 2928),
        (1000, 300, 2182),
        (300, 1000, 2232),
        (1920, 1080, 1948),
    ],
)
def test_original_anyres_with_five_grids(width, height, tokens):
    assert plan(width=width, height=height, rule=NEXT).num_tokens == tokens


@pytest.mark.parametrize(
    ("width", "height", "cols", "rows", "kept"),
    [
        (448, 448, 2, 2, (32, 32)),
        (1000, 1000, 2, 2, (32, 32)),
        (500, 375, 2, 2, (24, 32)),
        (400, 200, 2, 1, (16, 32)),
        (200, 400, 1, 2, (32, 16)),
        (100, 80, 1, 1, (12, 16)),
    ],
)
def test_high_definition_as_published(width, height, cols, rows, kept):
    """Crops of 224 pixels (16 x 16 patches) up to 448 x 448, plus the whole picture."""
    layout = plan(width=width, height=height, rule=ARCHITECTURES["llava-1.5-hd-13b"].inputs.image)
    assert (layout.cols, layout.rows) == (cols, rows)
    kept_rows, kept_cols = kept
    assert (layout.kept_rows, layout.kept_cols) == kept
    assert layout.num_tokens == 256 + kept_rows * (kept_cols + 1) <= 1312


def test_high_definition_with_general_grids():
    """A grid of 4 x 3 crops of 224: 896 x 672 pixels, 64 x 48 patches."""
    rule = AnyRes(crop_size=224, max_crops=None, grids=((1, 1), (4, 3), (5, 1)))
    layout = plan(width=896, height=672, rule=rule)
    assert (layout.cols, layout.rows, layout.num_crops) == (4, 3, 13)
    assert layout.num_tokens == 256 + 48 * 65
    assert plan(width=1200, height=240, rule=rule).cols == 5


def test_an_even_side_can_leave_a_thin_picture_its_base_alone():
    layout = plan(width=1000, height=10, rule=NEXT)
    assert (layout.out_rows, layout.num_tokens) == (0, 576)


def test_one_crop():
    assert plan(width=500, height=20, rule=SingleCrop()).num_tokens == 730
    assert plan(width=500, height=20, rule=SingleCrop(newline=False)).num_tokens == 729


def test_the_maximum_is_not_ten_crops():
    assert max_image_tokens(ONEVISION) == 8765
    assert max_image_tokens(AnyRes(crop_size=98)) == 619
    assert max_image_tokens(SingleCrop()) == 730


def test_no_picture_takes_more_than_the_maximum():
    rng = random.Random(0)
    for rule in (ONEVISION, AnyRes(crop_size=98), NEXT):
        most = max_image_tokens(rule)
        sizes = [(rng.randint(1, 3000), rng.randint(1, 3000)) for _ in range(5000)]
        assert max(plan(width=w, height=h, rule=rule).num_tokens for w, h in sizes) <= most


def test_videos(golden):
    for frames, tokens in golden["videos"]:
        assert plan_video(num_frames=frames, rule=VideoRule()).num_tokens == tokens
    counts = {
        newline: plan_video(num_frames=32, rule=VideoRule(newline=newline)).num_tokens
        for newline in ("one_token", "grid", "frame", "no_token")
    }
    assert counts == {"one_token": 6273, "grid": 6720, "frame": 6304, "no_token": 6272}
    assert plan_video(num_frames=1, rule=VideoRule(pool="average")).num_tokens == 13 * 13 + 1


def test_planned_tokens_equal_produced_features_for_every_size_up_to_512():
    sizes = ((w, h) for w in range(1, 513) for h in range(1, 513))
    _assert_planned_is_produced(sizes)


def test_planned_tokens_equal_produced_features_for_random_sizes(golden):
    rng = random.Random(20000)
    sizes = [(rng.randint(1, 20000), rng.randint(1, 20000)) for _ in range(100_000)]
    sizes += [(e["width"], e["height"]) for e in golden["images"]]
    sizes += [(e[0], e[1]) for e in golden["rounding"]]
    _assert_planned_is_produced(sizes)


def _assert_planned_is_produced(sizes):
    """Merge features once per distinct layout; sizes with the same layout share the result."""
    planned = defaultdict(set)
    for width, height in sizes:
        layout = plan(width=width, height=height, rule=ONEVISION)
        assert layout.out_rows >= 1
        assert layout.out_cols >= 1
        planned[_shape_of(layout)].add(layout)
    newline = torch.zeros(1)
    for layouts in planned.values():
        layout = next(iter(layouts))
        made = len(merge_image(torch.zeros(layout.num_crops, 729, 1), layout, newline))
        assert {each.num_tokens for each in layouts} == {made}


def _shape_of(layout: CropLayout):
    kept = (layout.first_row, layout.first_col, layout.kept_rows, layout.kept_cols)
    return (layout.cols, layout.rows, *kept)


@pytest.mark.parametrize("newline", ["one_token", "grid", "frame", "no_token"])
@pytest.mark.parametrize("pool", ["bilinear", "average", "max"])
def test_planned_video_tokens_equal_produced_features(newline, pool):
    layout = plan_video(num_frames=3, rule=VideoRule(newline=newline, pool=pool))
    assert len(merge_video(torch.zeros(3, 729, 2), layout, torch.zeros(2))) == layout.num_tokens


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, 5)])
def test_an_empty_picture_is_refused(size):
    with pytest.raises(InputError, match="expected 1 x 1 or more"):
        plan(width=size[0], height=size[1], rule=ONEVISION)


def test_an_empty_video_is_refused():
    with pytest.raises(InputError, match="0 frames"):
        plan_video(num_frames=0, rule=VideoRule())


def test_rules_that_contradict_themselves_are_refused():
    with pytest.raises(ConfigError, match="divide sizes in pixels by crop_size"):
        AnyRes(crop_size=336, grids=((336, 672),))
    with pytest.raises(ConfigError, match="grids is empty"):
        AnyRes(grids=())
    with pytest.raises(ConfigError, match="max_grid"):
        AnyRes(max_grid=0)
    with pytest.raises(ConfigError, match="patch_size"):
        AnyRes(crop_size=10)


def test_slow_fast_takes_a_third_of_the_tokens():
    """64 frames of LLaVA-Video, 7 slow and 57 fast, by hand."""
    rule = VideoRule(newline="grid")
    mixed = replace(rule, slow_every=10)
    assert plan_video(num_frames=64, rule=rule).num_tokens == 64 * 14 * 15 == 13_440
    slow, fast = 14 * 15 + 1, 7 * 8 + 1
    assert plan_video(num_frames=64, rule=mixed).num_tokens == 7 * slow + 57 * fast == 4_726
    slow, fast = 13 * 14 + 1, 6 * 7 + 1
    average = plan_video(num_frames=64, rule=replace(mixed, pool="average"))
    assert average.num_tokens == 7 * slow + 57 * fast == 3_732


@pytest.mark.parametrize(
    "values",
    [
        {"newline": "one_token", "slow_every": 10},
        {"newline": "grid", "slow_every": 0},
        {"newline": "grid", "slow_every": 10, "pool": "average", "pool_first": True},
        {"newline": "grid", "slow_every": 10, "pool": "average", "crop_size": 42},
    ],
)
def test_slow_fast_without_a_layout_is_refused(values):
    with pytest.raises(ConfigError, match="slow_every"):
        VideoRule(**values)


def test_slow_fast_keeps_all_its_tokens():
    with pytest.raises(InputError, match=r"keep=0.5, but .* most frames of a video small already"):
        plan_video(num_frames=4, rule=VideoRule(newline="grid", slow_every=2), keep=0.5)
