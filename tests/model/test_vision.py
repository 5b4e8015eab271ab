import torch

from onevision.config import VisionConfig
from onevision.model.vision import VisionEncoder
from tests.conftest import randomise

CONFIG = VisionConfig(hidden_size=32, intermediate_size=48, num_layers=2, num_heads=4)


def test_the_released_tower_has_26_blocks_and_the_published_size():
    with torch.device("meta"):
        encoder = VisionEncoder(VisionConfig())
    assert len(encoder.blocks) == 26
    assert sum(p.numel() for p in encoder.parameters()) == 397_747_744


def test_features_are_the_last_blocks_output_without_the_norm():
    encoder = randomise(VisionEncoder(CONFIG))
    pixels = torch.randn(1, 3, 384, 384)
    with torch.inference_mode():
        features = encoder(pixels)
        assert features.shape == (1, 729, 32)
        assert not torch.allclose(features, encoder.post_norm(features))
        assert not torch.allclose(features, encoder.blocks[-1](features))


def test_the_last_six_pixels_are_never_seen():
    encoder = randomise(VisionEncoder(CONFIG))
    pixels = torch.randn(1, 3, 384, 384)
    changed = pixels.clone()
    changed[..., 378:, :] = 0
    changed[..., 378:] = 0
    assert torch.equal(encoder(pixels), encoder(changed))


def test_crops_do_not_see_each_other():
    encoder = randomise(VisionEncoder(CONFIG))
    pixels = torch.randn(2, 3, 384, 384)
    with torch.inference_mode():
        assert torch.allclose(encoder(pixels)[1], encoder(pixels[1:])[0], atol=1e-5)
