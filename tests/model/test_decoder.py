import pytest
import torch

from onevision.config import LanguageConfig
from onevision.model.attention import attend
from onevision.model.decoder import Decoder, KVCache
from tests.conftest import randomise

CONFIG = LanguageConfig(
    vocab_size=50, hidden_size=32, intermediate_size=48, num_layers=3, num_heads=4, num_kv_heads=2
)


@pytest.fixture
def decoder():
    return randomise(Decoder(CONFIG))


def positions(batch, start, stop):
    return torch.arange(start, stop).expand(batch, -1)


def make_cache(batch, size):
    return KVCache(
        CONFIG,
        batch_size=batch,
        max_positions=size,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )


@torch.inference_mode()
def test_reading_in_pieces_equals_reading_at_once(decoder):
    x = torch.randn(2, 9, 32)
    whole = decoder(x, positions(2, 0, 9))
    cache = make_cache(2, 9)
    pieces = [
        decoder(x[:, a:b], positions(2, a, b), cache=cache) for a, b in ((0, 5), (5, 8), (8, 9))
    ]
    assert torch.allclose(whole, torch.cat(pieces, dim=1), atol=1e-5)


@torch.inference_mode()
def test_rows_of_different_lengths_go_on_from_their_own_ends(decoder):
    x = torch.randn(2, 6, 32)
    lengths = torch.tensor([3, 6])
    cache = make_cache(2, 8)
    decoder(x, positions(2, 0, 6), cache=cache)
    following = torch.randn(2, 1, 32)
    together = decoder(following, lengths[:, None], cache=cache)
    for row, length in enumerate(lengths.tolist()):
        alone = torch.cat([x[row : row + 1, :length], following[row : row + 1]], dim=1)
        expected = decoder(alone, positions(1, 0, length + 1))[:, -1]
        assert torch.allclose(together[row], expected, atol=1e-5)


@torch.inference_mode()
def test_what_comes_later_does_not_matter(decoder):
    x = torch.randn(1, 6, 32)
    changed = x.clone()
    changed[:, 4:] = 0
    a, b = decoder(x, positions(1, 0, 6)), decoder(changed, positions(1, 0, 6))
    assert torch.allclose(a[:, :4], b[:, :4], atol=1e-6)
    assert not torch.allclose(a[:, 4:], b[:, 4:])


def test_a_tied_head_is_the_embedding():
    decoder = Decoder(CONFIG)
    assert decoder.head.weight is decoder.embedding.weight


@pytest.mark.parametrize("causal", [True, False])
def test_plain_and_fused_attention_agree(causal):
    q = torch.randn(2, 4, 7, 8)
    k, v = torch.randn(2, 2, 7, 8), torch.randn(2, 2, 7, 8)
    fused = attend(q, k, v, is_causal=causal)
    plain = attend(q.clone().requires_grad_(), k, v, is_causal=causal)
    assert torch.allclose(fused, plain, atol=1e-5)


def test_a_mask_hides_keys():
    q, k, v = torch.randn(1, 2, 3, 8), torch.randn(1, 2, 3, 8), torch.randn(1, 2, 3, 8)
    mask = torch.tensor([[1, 0, 0], [1, 0, 0], [1, 0, 0]], dtype=torch.bool)[None, None]
    for queries in (q, q.clone().requires_grad_()):
        assert torch.allclose(attend(queries, k, v, mask=mask), v[:, :, :1].expand(-1, -1, 3, -1))
