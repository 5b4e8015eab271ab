import pytest
import torch

from onevision.config import LanguageConfig
from onevision.generate.kv_cache import KVCache, KVCacheBatch
from onevision.model.attention import attend
from onevision.model.decoder import Decoder
from tests.conftest import randomise

CONFIG = LanguageConfig(
    vocab_size=50, hidden_size=32, intermediate_size=48, num_layers=3, num_heads=4, num_kv_heads=2
)


@pytest.fixture
def decoder():
    return randomise(Decoder(CONFIG))


def positions(batch, start, stop):
    return torch.arange(start, stop).expand(batch, -1)


def make_cache(size):
    return KVCache(CONFIG, size, dtype=torch.float32, device=torch.device("cpu"))


@torch.inference_mode()
@pytest.mark.parametrize("one_by_one", [False, True])
def test_reading_in_pieces_equals_reading_at_once(decoder, one_by_one):
    x = torch.randn(1, 200, 32)
    whole = decoder(x, positions(1, 0, 200))
    kv_cache, pieces = make_cache(200), []
    for a, b in ((0, 130), (130, 140), (140, 199), (199, 200)):
        cache = KVCacheBatch([kv_cache], [b - a], one_by_one=one_by_one)
        pieces.append(decoder(x[:, a:b], positions(1, a, b), cache=cache))
        cache.advance()
    assert torch.allclose(whole, torch.cat(pieces, dim=1), atol=1e-5)


@torch.inference_mode()
def test_sequences_of_one_pass_do_not_see_one_another(decoder):
    x = torch.randn(1, 12, 32)
    lengths = (3, 6, 1)  # and two of padding
    caches = [make_cache(8) for _ in lengths]
    places = torch.cat([torch.arange(n) for n in (*lengths, 2)])[None]
    together = decoder(x, places, cache=KVCacheBatch(caches, lengths))[0]
    for own, length in zip(x[0, :10].split(lengths), lengths, strict=True):
        alone = decoder(own[None], positions(1, 0, length))[0]
        begin = sum(lengths[: lengths.index(length)])
        assert torch.allclose(together[begin : begin + length], alone, atol=1e-5)


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


def test_a_mask_hides_keys():
    q, k, v = torch.randn(1, 2, 3, 8), torch.randn(1, 2, 3, 8), torch.randn(1, 2, 3, 8)
    mask = torch.tensor([[1, 0, 0], [1, 0, 0], [1, 0, 0]], dtype=torch.bool)[None, None]
    assert torch.allclose(attend(q, k, v, mask=mask), v[:, :, :1].expand(-1, -1, 3, -1))
