import pytest
import torch

from onevision.model.fuse import fuse
from onevision.model.llava import LlavaNetwork
from onevision.model.pack import PackedLinear, pack
from tests.conftest import randomise


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_a_packed_network_computes_what_it_did(micro_config, dtype):
    network = randomise(LlavaNetwork(micro_config)).to(dtype).eval()
    width = micro_config.language.hidden_size
    x = torch.randn(1, 7, width, dtype=dtype)
    crops = torch.randn(2, 3, *[micro_config.vision.image_size] * 2, dtype=dtype)
    before = network.head(network.run(x)), network.vision_encoder(crops)
    fuse(network)
    pack(network)
    after = network.head(network.run(x)), network.vision_encoder(crops)
    is_packed = dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    joined = network.language_model.blocks[0].attention.joined.whole
    assert isinstance(network.language_model.head, PackedLinear) == is_packed
    assert isinstance(joined, PackedLinear) == is_packed
    assert network.language_model.blocks[0].attention.query is None
    for old, new in zip(before, after, strict=True):
        scale = old.float().abs().max()
        assert (old.float() - new.float()).abs().max() <= (
            1e-5 if dtype.itemsize == 4 else 0.02
        ) * scale
