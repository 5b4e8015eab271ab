"""The projector's blocks: the patches of a crop see each other, and no other crop's."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from onevision.checkpoint.load import inspect, load_network
from onevision.checkpoint.save import convert, save
from onevision.config import ProjectorConfig
from onevision.errors import CheckpointError
from onevision.model.llava import LlavaNetwork
from onevision.model.projector import Projector
from onevision.train.cost.amounts import projector_weights
from onevision.train.learner import iterate_blocks
from onevision.train.lora.files import save_adapter
from onevision.train.lora.layers import LoraConfig, add_lora
from tests.conftest import randomise

BLOCKS = ProjectorConfig(num_blocks=2, block_width=16, block_heads=2)


@pytest.fixture
def projector():
    return randomise(Projector(BLOCKS, vision_width=6, num_patches=4, language_width=8))


def test_patches_of_a_crop_see_each_other_and_no_others(projector):
    crops = torch.randn(2, 4, 6)
    changed = crops.clone()
    changed[0, 3, 0] += 1  # not all alike, which a norm takes away
    before, after = projector(crops), projector(changed)
    assert before.shape == (2, 4, 8)
    assert (before[0] != after[0]).any(dim=-1).all()
    assert torch.equal(before[1], after[1])


def test_a_patch_knows_where_it_is(projector):
    same = torch.randn(1, 1, 6).expand(1, 4, 6)
    found = projector(same)[0]
    assert not torch.allclose(found[0], found[3])


def test_a_checkpoint_keeps_the_blocks(tmp_path, small_config, tokenizer):
    config = replace(small_config, projector=BLOCKS)
    network = randomise(LlavaNetwork(config))
    save(network, config, tokenizer, tmp_path / "ours")
    info = inspect(tmp_path / "ours")
    assert info.config == config
    crops = torch.randn(1, config.vision.num_patches, config.vision.hidden_size)
    again = load_network(info, dtype=torch.float32)
    assert torch.equal(again.projector(crops), network.projector(crops))
    for layout in ("lmms-lab", "llava-hf"):
        with pytest.raises(CheckpointError, match="no transformer blocks in the projector"):
            convert(info, tmp_path / layout, layout=layout)


def test_adapters_are_kept_with_the_blocks_that_trained_beside_them(
    tmp_path, small_config, tokenizer
):
    config = replace(small_config, projector=BLOCKS)
    network = randomise(LlavaNetwork(config))
    save(network, config, tokenizer, tmp_path / "ours", dtype=torch.float32)
    lora = LoraConfig(rank=2)
    add_lora(network, lora)
    for parameter in network.projector.parameters():
        parameter.requires_grad_(True)
        parameter.data += 0.1
    (tmp_path / "adapter").mkdir()
    save_adapter(network, lora, tmp_path / "adapter", base_model=str(tmp_path / "ours"))
    crops = torch.randn(1, config.vision.num_patches, config.vision.hidden_size)
    adapted = inspect(tmp_path / "ours", adapter=tmp_path / "adapter")
    again = load_network(adapted, dtype=torch.float32)
    assert torch.equal(again.projector(crops), network.projector(crops))


def test_muon_and_the_plan_count_the_blocks(small_config):
    config = replace(small_config, projector=BLOCKS)
    network = LlavaNetwork(config)
    mixer = network.projector.mixer
    assert list(mixer.blocks) == [
        block for block in iterate_blocks(network) if block in list(mixer.blocks)
    ]
    linear = [m for m in network.projector.modules() if isinstance(m, nn.Linear)]
    attention = 2 * 2 * BLOCKS.block_width * config.vision.num_patches
    assert projector_weights(config) == sum(m.weight.numel() for m in linear) + attention
