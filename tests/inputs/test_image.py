import hashlib

import numpy as np
import pytest
import torch
from PIL import Image as PIL

from onevision.anyres import AnyRes, SingleCrop, VideoRule, plan, plan_video
from onevision.inputs.image import cut_crops, cut_frames, normalise

HALF = (0.5, 0.5, 0.5)


def _probe(width, height):
    """The oracle's picture: R=(3x+5y)%256, G=((7x) xor (11y))%256, B=((x*y)//7)%256."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    channels = [3 * x + 5 * y, (7 * x) ^ (11 * y), (x * y) // 7]
    return PIL.fromarray((np.stack(channels, axis=-1) % 256).astype(np.uint8))


def _sha256(crop):
    return hashlib.sha256(crop.numpy().tobytes()).hexdigest()


def test_crops_are_the_references_to_the_bit(golden):
    for probe in golden["crops"]:
        image = _probe(probe["width"], probe["height"])
        layout = plan(width=image.width, height=image.height, rule=AnyRes())
        crops = cut_crops(image, layout, image_mean=HALF)
        assert [_sha256(crop) for crop in crops] == probe["sha256"]
        padded = plan(width=image.width, height=image.height, rule=SingleCrop())
        assert [_sha256(crop) for crop in cut_crops(image, padded, image_mean=HALF)] == [
            probe["padded_sha256"]
        ]


@pytest.mark.parametrize(
    ("width", "height", "means"),
    [
        (640, 480, (-0.002646, -0.252960, -0.250643, -0.253201, -0.250924)),
        (300, 500, (-0.001154, -0.167334, -0.167933)),
        (1000, 100, (-0.005046, -0.710837, -0.701322, -0.686114)),
    ],
)
def test_normalised_means_are_the_references(width, height, means):
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    channels = [7 * x + 3 * y, x**2 // 64 + 5 * y, x ^ y]
    image = PIL.fromarray((np.stack(channels, axis=-1) % 256).astype(np.uint8))
    crops = cut_crops(image, plan(width=width, height=height, rule=AnyRes()), image_mean=HALF)
    pixels = normalise(crops, mean=HALF, std=HALF)
    assert pixels.shape == (len(means), 3, 384, 384)
    assert torch.allclose(pixels.mean((1, 2, 3)), torch.tensor(means), atol=2e-6)


def test_normalise_takes_a_mean_and_std_per_channel():
    crops = torch.tensor([255, 0, 51], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    pixels = normalise(crops, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 0.1))
    assert torch.allclose(pixels[0, :, 0, 0], torch.tensor([1.0, -1.0, 2.0]))


@pytest.mark.parametrize(
    ("mean", "std"), [(0.5, 0.5), (0.48145466, 0.26862954), (0.40821073, 0.27577711)]
)
def test_every_value_is_normalised_to_the_references_bits(mean, std):
    """The reference scales in double precision, then continues in single."""
    scaled = (np.arange(256) * (1 / 255)).astype(np.float32)
    expected = (scaled - np.float32(mean)) / np.float32(std)
    crops = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    pixels = normalise(crops, mean=(mean,) * 3, std=(std,) * 3)
    assert np.array_equal(pixels[0, 1].flatten().numpy(), expected)


def test_padding_has_the_mean_colour_and_is_centred():
    image = PIL.new("RGB", (100, 40), "white")
    layout = plan(width=100, height=40, rule=SingleCrop(crop_size=100))
    (crop,) = cut_crops(image, layout, image_mean=(0.48, 0.457, 0.408))
    assert crop[:, 2, 50].tolist() == crop[:, 97, 50].tolist() == [122, 116, 104]
    assert crop[:, 50, 50].tolist() == [255, 255, 255]


def test_frames_are_squashed():
    layout = plan_video(num_frames=1, rule=VideoRule())
    (crop,) = cut_frames([PIL.new("RGB", (31, 400))], layout, image_mean=(0.5, 0.5, 0.5))
    assert crop.shape == (3, 384, 384)


@pytest.mark.parametrize(("width", "height"), [(500, 300), (384, 384), (37, 900), (1200, 1000)])
def test_fast_crops_differ_by_a_level(width, height):
    rng = np.random.default_rng(0)
    noise = PIL.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    picture = noise.resize((width, height), PIL.Resampling.BICUBIC)
    layout = plan(width=width, height=height, rule=AnyRes())
    exact, fast = (
        cut_crops(picture, layout, image_mean=(0.5, 0.5, 0.5), fast=fast) for fast in (False, True)
    )
    apart = (exact.int() - fast.int()).abs()
    assert apart.max() <= 2
    assert (apart > 1).float().mean() < 1e-4


def test_clip_cuts_out_the_middle():
    """A picture of 120 x 40 whose middle third is white on black."""
    image = PIL.new("RGB", (120, 40))
    image.paste((255, 255, 255), (40, 0, 80, 40))
    layout = plan(width=120, height=40, rule=SingleCrop(crop_size=40, fit="crop"))
    (crop,) = cut_crops(image, layout, image_mean=(0.5, 0.5, 0.5))
    assert (crop == 255).all()
    video = plan_video(num_frames=1, rule=VideoRule(crop_size=40, fit="crop"))
    assert (cut_frames([image], video, image_mean=(0.5, 0.5, 0.5)) == 255).all()


def test_high_definition_is_a_grid_beside_the_whole_picture():
    rule = AnyRes(crop_size=224, max_crops=None, grids=((1, 1), (1, 2), (2, 1), (2, 2)))
    image = PIL.new("RGB", (448, 448), "white")
    layout = plan(width=448, height=448, rule=rule)
    assert (layout.cols, layout.rows, layout.num_tokens) == (2, 2, 256 + 32 * 33)
    assert cut_crops(image, layout, image_mean=(0.5, 0.5, 0.5)).shape == (5, 3, 224, 224)
