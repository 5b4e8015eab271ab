"""A network that was accelerated computes what it did, and one made ready to train still trains."""

import pytest
import torch

from onevision.accelerate.apply import accelerate, accelerate_training
from onevision.accelerate.cuda_kernels import fuse_norms, fused_rotate
from onevision.accelerate.fused import FusedAttention, FusedSwiGLU, fuse
from onevision.accelerate.packed import PackedLinear
from onevision.accelerate.processor import has_layout
from onevision.model.llava import LlavaNetwork
from tests.conftest import randomise


def outputs(network, config, dtype):
    """Logits of a row of embeddings, and the features of two crops."""
    torch.manual_seed(0)
    x = torch.randn(1, 7, config.language.hidden_size, dtype=dtype)
    crops = torch.randn(2, 3, *[config.vision.image_size] * 2, dtype=dtype)
    return network.head(network.run(x)), network.vision_encoder(crops)


def assert_near(before, after, *, tolerance):
    for old, new in zip(before, after, strict=True):
        assert (old.float() - new.float()).abs().max() <= tolerance * old.float().abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_an_accelerated_network_computes_what_it_did(micro_config, dtype):
    packed = PackedLinear if has_layout(dtype) else torch.nn.Linear
    network = randomise(LlavaNetwork(micro_config)).to(dtype).eval()
    before = outputs(network, micro_config, dtype)
    accelerated = accelerate(network)
    assert accelerated.network is network
    assert accelerated.arithmetic == str(dtype).removeprefix("torch.")
    attention = network.language_model.blocks[0].attention
    assert type(attention.query_key_value) is type(network.language_model.head) is packed
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    assert_near(before, outputs(network, micro_config, dtype), tolerance=tolerance)


@torch.inference_mode()
def test_what_a_gpu_runs_computes_the_same(micro_config):
    network = randomise(LlavaNetwork(micro_config))
    before = outputs(network, micro_config, torch.float32)
    fuse(network, rotate=fused_rotate)
    fuse_norms(network)
    block = network.language_model.blocks[0]
    assert isinstance(block.attention, FusedAttention)
    assert isinstance(block.mlp, FusedSwiGLU)
    assert_near(before, outputs(network, micro_config, torch.float32), tolerance=1e-5)


def test_a_network_made_ready_to_train_keeps_its_parameters_and_gradients(micro_config):
    plain, fast = (randomise(LlavaNetwork(micro_config)).train() for _ in range(2))
    accelerate_training(fast)
    assert list(fast.state_dict()) == list(plain.state_dict())
    for network in (plain, fast):
        sum(x.square().mean() for x in outputs(network, micro_config, torch.float32)).backward()
    for ours, theirs in zip(fast.parameters(), plain.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None)
        if ours.grad is not None:
            assert torch.allclose(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)
