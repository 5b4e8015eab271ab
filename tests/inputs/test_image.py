import hashlib

import numpy as np
import pytest
import torch
from PIL import Image as PIL

from onevision.anyres import AnyRes, SingleCrop, VideoRule, plan, plan_video
from onevision.inputs.image import cut_crops, normalise, squash_frames

HALF = (0.5, 0.5, 0.5)


def _probe(width, height):
    """The oracle's picture: R=(3x+5y)%256, G=((7x) xor (11y))%256, B=((x*y)//7)%256."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    channels = [3 * x + 5 * y, (7 * x) ^ (11 * y), (x * y) // 7]
    return PIL.fromarray((np.stack(channels, axis=-1) % 256).astype(np.uint8))


def _sha256(crop):
    return hashlib.sha256(np.asarray(crop).transpose(2, 0, 1).tobytes()).hexdigest()


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
    crop = PIL.new("RGB", (2, 2), (255, 0, 51))
    pixels = normalise([crop], mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 0.1))
    assert torch.allclose(pixels[0, :, 0, 0], torch.tensor([1.0, -1.0, 2.0]))


def test_padding_has_the_mean_colour_and_is_centred():
    image = PIL.new("RGB", (100, 40), "white")
    layout = plan(width=100, height=40, rule=SingleCrop(crop_size=100))
    (crop,) = cut_crops(image, layout, image_mean=(0.48, 0.457, 0.408))
    assert crop.getpixel((50, 2)) == (122, 116, 104)
    assert crop.getpixel((50, 97)) == (122, 116, 104)
    assert crop.getpixel((50, 50)) == (255, 255, 255)


def test_frames_are_squashed():
    layout = plan_video(num_frames=1, rule=VideoRule())
    (crop,) = squash_frames([PIL.new("RGB", (31, 400))], layout)
    assert crop.size == (384, 384)
