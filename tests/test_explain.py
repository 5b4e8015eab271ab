import pytest

from onevision.conversation import Image, Video
from onevision.explain import estimate_cost, explain_image, explain_video
from onevision.explain_drawing import draw_explanation
from onevision.known_models import ONEVISION_0_5B, ONEVISION_7B, TINY


def test_a_size_is_explained_without_pixels():
    explanation = explain_image((1920, 1080), ONEVISION_0_5B)
    assert explanation.cost.num_tokens == 7269
    assert explanation.cost.num_crops == 16
    assert explanation.lines() == [
        "1920 x 1080 pixels, fitted as 1920 x 1080 into a grid of 5 x 3 crops; "
        "base crop 384 x 384: 729 tokens",
        "after unpadding 135 x 75 patches remain, scaled down to 108 x 60 to fit the budget; "
        "60 newlines",
        "7,269 visual tokens from 16 crops",
        "cost: 10.3 TFLOP to encode, 7.47 TFLOP to read, 85.2 MiB of key-value cache (16 bit)",
    ]


def test_costs_are_those_of_the_published_sizes():
    """A crop costs about 0.65 TFLOP to encode; the cache of 7B, 57,344 bytes per token."""
    crop = estimate_cost(explain_image((384, 384), ONEVISION_7B).layout, ONEVISION_7B)
    assert crop.vision_flops / 2 == pytest.approx(0.65e12, rel=0.05)
    assert crop.cache_bytes == 57_344 * 1485


@pytest.mark.parametrize("size", [(1, 1), (4000, 20), (20, 4000), (640, 480), (100, 100)])
def test_every_picture_can_be_drawn(picture, size):
    for config in (TINY, ONEVISION_0_5B):
        drawing = draw_explanation(explain_image(Image(picture(*size)), config))
        assert drawing.width > 300
        assert len(drawing.getcolors(1 << 24)) > 10


def test_a_video_is_drawn_as_a_strip(picture):
    frames = [picture(30, 20, seed=k) for k in range(12)]
    explanation = explain_video(Video(frames), TINY)
    assert explanation.cost.num_tokens == 12 * 16 + 1
    assert draw_explanation(explanation).height > 2 * 132
