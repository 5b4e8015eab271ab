from dataclasses import replace

import pytest
import torch

from onevision.accelerate.cpu_attention import attend_on_cpu
from onevision.known_models import ARCHITECTURES, ONEVISION_7B
from onevision.model.decoder import DecoderBlock, rotary
from onevision.model.llava import LlavaNetwork
from onevision.model.vision import VisionBlock
from onevision.train.cost.memory import count_parameters, memory_per_device
from onevision.train.cost.sequence import SequenceLoad
from onevision.train.lora.layers import LoraConfig, LoraLinear, add_lora
from onevision.train.optim import freeze_parameters
from onevision.train.stages import stage_named

KNOWLEDGE = stage_named("knowledge", "7b")
CROWD = SequenceLoad(num_tokens=8192, num_crops=10, labelled_tokens=1000)


def meta_network(config):
    with torch.device("meta"):
        return LlavaNetwork(config)


@pytest.mark.parametrize("size", ["tiny", "0.5b", "7b"])
def test_weights_and_moments_are_those_of_the_network(size):
    config = ARCHITECTURES[size]
    network = meta_network(config)
    total = sum(p.numel() for p in network.parameters())
    learning = total - sum(p.numel() for p in network.vision_encoder.post_norm.parameters())
    for shards in (1, 8):
        memory = memory_per_device(KNOWLEDGE, config, CROWD, shards=shards)
        assert memory.weights == 4 * total / shards
        assert memory.gradients == 4 * learning / shards
        assert memory.moments == 8 * learning / shards
    assert memory_per_device(KNOWLEDGE, config, CROWD).copies == 2 * total
    projector = sum(p.numel() for p in network.projector.parameters())
    align = memory_per_device(stage_named("align", "7b"), config, CROWD)
    assert (align.gradients, align.moments) == (4 * projector, 8 * projector)


def test_the_parameters_of_the_released_sizes():
    counts = {size: count_parameters(ARCHITECTURES[size]) for size in ("0.5b", "7b", "72b")}
    language = {size: dict(c.by_part)["language_model"] / 1e9 for size, c in counts.items()}
    assert language == pytest.approx({"0.5b": 0.494, "7b": 7.616, "72b": 72.706}, abs=1e-3)
    assert dict(counts["7b"].by_part)["projector"] == 1152 * 3584 + 3584 + 3584**2 + 3584


def test_sharding_and_recomputing_save_memory():
    whole = memory_per_device(KNOWLEDGE, ONEVISION_7B, CROWD)
    shared = memory_per_device(KNOWLEDGE, ONEVISION_7B, CROWD, shards=8)
    small = memory_per_device(KNOWLEDGE, ONEVISION_7B, CROWD, shards=8, recompute=True)
    assert whole.total > shared.total > small.total
    assert shared.activations == whole.activations > 5 * small.activations
    assert small.total == sum(vars(small).values())


def test_kept_activations_by_hand():
    """Of a language block: norms 12 D + 4 D bytes, q and output 4 D, k and v 4 G K, SwiGLU 8 I."""
    language = ONEVISION_7B.language
    width, hidden = language.hidden_size, language.intermediate_size
    kv_width = language.num_kv_heads * language.head_size
    per_token = 28 * (20 * width + 4 * kv_width + 8 * hidden) + 8 * width
    text = SequenceLoad(num_tokens=4096, num_crops=0, labelled_tokens=0)
    assert memory_per_device(KNOWLEDGE, ONEVISION_7B, text).activations == 4096 * per_token


def kept_bytes(block, x, *args, **options):
    """The bytes that a block keeps for its backward pass, without weights and attention's own."""
    block.attention.attend = attend_on_cpu  # as in training
    weights = {p.untyped_storage().data_ptr() for p in block.parameters()}
    kept = {}

    def pack(tensor):
        memory = tensor.untyped_storage()
        square = tensor.shape[-2:] == (x.shape[1], x.shape[1])  # a fused kernel keeps none
        if memory.data_ptr() not in weights and not square:
            kept[memory.data_ptr()] = (memory.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        block(x, *args, **options)
    return sum(size for size, _ in kept.values())


def another_block_keeps(config, part, crowd):
    """What the estimate grows by where `part` has one more block."""

    def activations(num_layers):
        one = replace(getattr(config, part), num_layers=num_layers)
        return memory_per_device(KNOWLEDGE, replace(config, **{part: one}), crowd).activations

    return activations(2) - activations(1)


def test_blocks_keep_what_is_estimated(micro_config):
    language = replace(micro_config.language, hidden_size=64, intermediate_size=160, num_kv_heads=4)
    config = replace(micro_config, language=language)
    x = torch.randn(1, 24, 64, dtype=torch.bfloat16, requires_grad=True)
    positions = torch.arange(24)[None]
    rotation = rotary(positions, language.head_size, theta=1e4, dtype=torch.bfloat16)
    block = DecoderBlock(language, 0).bfloat16()
    kept = kept_bytes(block, x, rotation, mask=None, cache=None)
    rotations = 2 * rotation[0].numel() * 2  # kept once for all blocks
    text = SequenceLoad(num_tokens=24, num_crops=0, labelled_tokens=0)
    estimate = another_block_keeps(config, "language", text)
    assert kept - rotations == pytest.approx(estimate, rel=0.01)

    vision = replace(micro_config.vision, hidden_size=24)
    config = replace(config, vision=vision)
    x = torch.randn(3, vision.num_patches, vision.hidden_size, dtype=torch.bfloat16)
    kept = kept_bytes(VisionBlock(vision).bfloat16(), x.requires_grad_())
    pictures = SequenceLoad(num_tokens=0, num_crops=3, labelled_tokens=0)
    estimate = another_block_keeps(config, "vision", pictures)
    assert kept == pytest.approx(estimate, rel=0.05)  # norms keep two numbers a patch beside


PARTS = ("language_model", "vision_encoder")


@pytest.mark.parametrize("parts", [("language_model",), PARTS])
@pytest.mark.parametrize("base", ["full", "int8", "int4"])
def test_adapters_are_those_of_the_network(micro_config, parts, base):
    lora = LoraConfig(rank=3, parts=parts, base=base)
    network = LlavaNetwork(micro_config)
    add_lora(network, lora)
    freeze_parameters(network, KNOWLEDGE)
    held = [*network.parameters(), *network.buffers()]
    learning = sum(p.numel() for p in network.parameters() if p.requires_grad)
    memory = memory_per_device(KNOWLEDGE, micro_config, CROWD, lora=lora)
    assert memory.weights == sum(tensor.nbytes for tensor in held)
    assert (memory.gradients, memory.moments) == (4 * learning, 8 * learning)
    whole = memory_per_device(KNOWLEDGE, micro_config, CROWD)
    assert memory.head < whole.head
    assert memory.copies < whole.copies + 2 * learning
    shared = memory_per_device(KNOWLEDGE, micro_config, CROWD, lora=lora, shards=4)
    assert memory.weights / 4 <= shared.weights < memory.weights


def kept_by_adapters(block, lora, x, *args, **options):
    """Bytes that a frozen block keeps with adapters, beyond what it keeps when all of it learns."""
    block.attention.attend = attend_on_cpu  # as in training
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        before = kept_activations(block, x, *args, **options)
        block.requires_grad_(False)
        for name, layer in list(block.named_modules()):
            if isinstance(layer, torch.nn.Linear):
                block.set_submodule(name, LoraLinear(layer, lora))
        return kept_activations(block, x, *args, **options) - before


def kept_activations(block, x, *args, **options):
    """As `kept_bytes`, without the casts of weights."""
    weights = {p.numel() for p in block.parameters()}
    assert x.numel() not in weights
    kept = {}

    def pack(tensor):
        square = tensor.shape[-2:] == (x.shape[1], x.shape[1])
        if tensor.numel() not in weights and not square:
            kept[tensor.untyped_storage().data_ptr()] = (tensor.untyped_storage().nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        block(x, *args, **options)
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("lora", [LoraConfig(rank=7), LoraConfig(rank=11, dropout=0.1)])
def test_adapters_keep_what_is_estimated(micro_config, lora):
    lora = replace(lora, parts=PARTS)
    language = replace(micro_config.language, hidden_size=64, intermediate_size=160, num_kv_heads=4)
    vision = replace(micro_config.vision, hidden_size=24, intermediate_size=50)
    config = replace(micro_config, language=language, vision=vision)

    def estimated(part, crowd):
        """What the estimate of one block grows by with adapters."""
        one = replace(config, **{part: replace(getattr(config, part), num_layers=1)})
        with_adapters = memory_per_device(KNOWLEDGE, one, crowd, lora=lora)
        return with_adapters.activations - memory_per_device(KNOWLEDGE, one, crowd).activations

    x = torch.randn(1, 23, 64, requires_grad=True)
    positions = torch.arange(23)[None]
    rotation = rotary(positions, language.head_size, theta=1e4, dtype=torch.bfloat16)
    kept = kept_by_adapters(DecoderBlock(language, 0), lora, x, rotation, mask=None, cache=None)
    text = SequenceLoad(num_tokens=23, num_crops=0, labelled_tokens=0)
    assert kept == pytest.approx(estimated("language", text), rel=0.02, abs=8 * 23)

    x = torch.randn(3, vision.num_patches, 24, requires_grad=True)
    kept = kept_by_adapters(VisionBlock(vision), lora, x)
    pictures = SequenceLoad(num_tokens=0, num_crops=3, labelled_tokens=0)
    assert kept == pytest.approx(estimated("vision", pictures), rel=0.02)
