"""CLIP's tower, LLaMA's and Mistral's decoders as values: each against transformers' own."""

from dataclasses import replace

import pytest
import torch

from onevision.batch import Blocks
from onevision.config import LanguageConfig, VisionConfig
from onevision.generate.kv_cache import KVCache, KVCacheBatch
from onevision.model.attention import within_window
from onevision.model.decoder import Decoder
from onevision.model.vision import VisionEncoder
from tests.conftest import randomise

LANGUAGE = LanguageConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    tie_embeddings=False,
    attention_bias=False,
)
CLIP = VisionConfig(
    hidden_size=32,
    intermediate_size=48,
    num_layers=2,
    num_heads=4,
    image_size=56,
    layer_norm_eps=1e-5,
    activation="quick_gelu",
    class_token=True,
    num_spare_layers=1,
)


def test_a_spare_block_and_the_last_norm_change_nothing_and_never_train():
    encoder = randomise(VisionEncoder(CLIP))
    pixels = torch.randn(2, 3, 56, 56)
    before = encoder(pixels)
    for module in encoder.unused():
        for parameter in module.parameters():
            assert not parameter.requires_grad
            parameter.data.fill_(7.0)
    assert torch.equal(encoder(pixels), before)
    assert before.shape == (2, 16, 32)


def test_the_class_token_is_seen_by_every_patch_and_goes_no_further():
    encoder = randomise(VisionEncoder(CLIP))
    pixels = torch.randn(1, 3, 56, 56)
    before = encoder(pixels)
    encoder.begin.token.data += torch.randn(32)
    assert (encoder(pixels) - before).abs().amax(-1).min() > 1e-4
    assert encoder.patch_embedding.bias is None


def test_a_window_hides_what_lies_further_back():
    decoder = randomise(Decoder(replace(LANGUAGE, num_layers=1, sliding_window=3)))
    x, positions = torch.randn(1, 6, 32), torch.arange(6)[None]
    before = decoder(x, positions)
    x[:, 2] += 1
    moved = (decoder(x, positions) - before).abs().sum(-1)[0] > 1e-6
    assert moved.tolist() == [False, False, True, True, True, False]


@torch.no_grad()
def test_a_window_is_the_same_with_a_cache_in_a_pack_and_alone():
    config = replace(LANGUAGE, sliding_window=3)
    decoder = randomise(Decoder(config)).eval()
    x, positions = torch.randn(1, 8, 32), torch.arange(8)[None]
    whole = decoder(x, positions)
    kv_cache = KVCache(config, 8, dtype=torch.float32, device=torch.device("cpu"))
    parts = []
    for begin, end in ((0, 5), (5, 6), (6, 8)):
        cache = KVCacheBatch([kv_cache], [end - begin])
        parts.append(decoder(x[:, begin:end], positions[:, begin:end], cache=cache))
        cache.advance()
    assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-5)
    pack = torch.cat([x, x[:, :2], x], dim=1)
    places = torch.cat([positions, positions[:, :2], positions], dim=1)
    packed = decoder(pack, places, mask=Blocks(lengths=(8, 2, 8), masks=(None, None, None)))
    assert torch.allclose(packed[:, -8:], whole, atol=1e-5)
    assert torch.allclose(packed[:, 8:10], whole[:, :2], atol=1e-5)


def test_a_row_within_the_window_needs_no_mask():
    assert within_window(8, None, torch.arange(8)[None]) is None
    assert within_window(None, None, torch.arange(99)[None]) is None
    seen = within_window(2, None, torch.arange(3)[None])
    assert seen.int().tolist() == [[[[1, 0, 0], [1, 1, 0], [0, 1, 1]]]]


def test_scaled_positions_are_divided():
    plain, scaled = (Decoder(replace(LANGUAGE, rope_factor=factor)) for factor in (1.0, 2.0))
    scaled.load_state_dict(plain.state_dict())
    x, positions = torch.randn(1, 4, 32), torch.arange(4)[None]
    assert torch.allclose(scaled(x, 2 * positions), plain(x, positions), atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_biases_of_attention(bias):
    names = set(Decoder(replace(LANGUAGE, attention_bias=bias)).state_dict())
    assert ("blocks.0.attention.query.bias" in names) == bias
