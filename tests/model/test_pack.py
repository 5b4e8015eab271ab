import pytest
import torch

from onevision.accelerate.fused import fuse
from onevision.accelerate.packed import PackedLinear, can_multiply, pack
from onevision.model.llava import LlavaNetwork
from tests.conftest import randomise


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_a_packed_network_computes_what_it_did(micro_config, dtype):
    packed = PackedLinear if can_multiply(dtype) else torch.nn.Linear
    network = randomise(LlavaNetwork(micro_config)).to(dtype).eval()
    width = micro_config.language.hidden_size
    x = torch.randn(1, 7, width, dtype=dtype)
    crops = torch.randn(2, 3, *[micro_config.vision.image_size] * 2, dtype=dtype)
    before = network.head(network.run(x)), network.vision_encoder(crops)
    fuse(network)
    pack(network)
    after = network.head(network.run(x)), network.vision_encoder(crops)
    assert type(network.language_model.head) is packed
    assert type(network.language_model.blocks[0].attention.joined.whole) is packed
    assert network.language_model.blocks[0].attention.query is None
    for old, new in zip(before, after, strict=True):
        scale = old.float().abs().max()
        assert (old.float() - new.float()).abs().max() <= (
            1e-5 if dtype.itemsize == 4 else 0.02
        ) * scale
