"""Adapters: where they are, what they compute, and their files, also as PEFT reads them."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from onevision.conversation import Conversation, Image, Message, Text, Video
from onevision.data.packing import collate, share_prefix
from onevision.errors import CheckpointError, ConfigError
from onevision.inputs.processor import Processor
from onevision.model.llava import LlavaNetwork
from onevision.train.lora.files import save_adapter
from onevision.train.lora.int8 import Int8FrozenLinear
from onevision.train.lora.layers import (
    LoraConfig,
    LoraLinear,
    add_lora,
    lora_parameters,
    merge,
)
from onevision.train.loss import weighted_loss
from tests.conftest import randomise

BOTH = LoraConfig(rank=4, alpha=8, parts=("language_model", "vision_encoder"))
LANGUAGE = replace(BOTH, parts=("language_model",))
KINDS = ("single image", "images", "video")


@pytest.fixture
def network(micro_config):
    return randomise(LlavaNetwork(micro_config))


@pytest.fixture
def processor(micro_config, tokenizer):
    return Processor(micro_config.inputs, tokenizer)


@pytest.fixture
def talks(picture):
    """One conversation of every kind, answered."""
    media = {
        "single image": [Image(picture(70, 50))],
        "images": [Image(picture(40, 40, seed=1)), Image(picture(30, 60, seed=2))],
        "video": [Video([picture(20, 20, seed=s) for s in range(3)])],
    }
    return {
        kind: Conversation(
            [Message("user", [*media[kind], Text("What?")]), Message("assistant", "a red ring")]
        )
        for kind in KINDS
    }


@pytest.fixture
def inputs(processor, talks):
    return [processor(talk) for talk in talks.values()]


def shake(network, *, seed=5):
    """Give B values, so that adapters add something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in lora_parameters(network):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)


@torch.no_grad()
def logits(network, inputs):
    return [network(one) for one in inputs]


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def near(a, b, atol):
    return all(torch.allclose(x, y, atol=atol) for x, y in zip(a, b, strict=True))


def test_only_the_blocks_of_the_named_part_receive_adapters(network):
    add_lora(network, LANGUAGE)
    adapted = {name for name, m in network.named_modules() if isinstance(m, LoraLinear)}
    layers = ("attention.query", "attention.key", "attention.value", "attention.output")
    layers += ("mlp.gate", "mlp.up", "mlp.down")
    assert adapted == {f"language_model.blocks.{n}.{layer}" for n in range(2) for layer in layers}
    trainable = {name for name, p in network.named_parameters() if p.requires_grad}
    assert trainable == {f"{name}.{p}" for name in adapted for p in ("lora_a", "lora_b")}


def test_the_vision_encoder_receives_adapters_when_named(network):
    add_lora(network, replace(BOTH, parts=("vision_encoder",)))
    adapted = {name for name, m in network.named_modules() if isinstance(m, LoraLinear)}
    layers = ("attention.query", "attention.key", "attention.value", "attention.output")
    layers += ("mlp.up", "mlp.down")
    assert adapted == {f"vision_encoder.blocks.{n}.{layer}" for n in range(2) for layer in layers}


def test_a_fresh_adapter_changes_nothing(network, inputs):
    before = logits(network, inputs)
    state = torch.get_rng_state()
    parameters = add_lora(network, BOTH)
    assert equal(logits(network.train(), inputs), before)
    assert torch.equal(torch.get_rng_state(), state)  # without dropout nothing is drawn
    assert parameters == lora_parameters(network)
    assert len(parameters) == 2 * (2 * 7 + 2 * 6)


def test_the_seed_decides_the_adapter(micro_config):
    def first(seed):
        return add_lora(LlavaNetwork(micro_config), LANGUAGE, seed=seed)[0]

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))
    assert first(1).abs().max() <= 32**-0.5  # kaiming-uniform with a = sqrt(5): 1 / sqrt(in)


def test_merging_computes_the_same_in_plain_layers(network, inputs):
    names = list(network.state_dict())
    before = logits(network, inputs)
    add_lora(network, BOTH)
    shake(network)
    adapted = logits(network, inputs)
    assert not near(adapted, before, atol=1e-2)
    merge(network)
    assert near(logits(network, inputs), adapted, atol=1e-5)
    assert list(network.state_dict()) == names
    assert all(type(m) is not LoraLinear for m in network.modules())


def test_dropout_drops_in_training_alone(network, inputs):
    add_lora(network, replace(LANGUAGE, dropout=0.5))
    shake(network)
    assert equal(logits(network, inputs), logits(network, inputs))
    network.train()
    assert not equal(logits(network, inputs), logits(network, inputs))


def test_int8_by_hand():
    quantised, scale = Int8FrozenLinear.quantise(
        torch.tensor([[1.27, -0.5, 0.004], [0.0, 0.0, 0.0]])
    )
    assert quantised.tolist() == [[127, -50, 0], [0, 0, 0]]
    assert scale.tolist() == pytest.approx([0.01, 1.0])


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_int8_is_near_the_full_layer_and_passes_gradients_on(dtype):
    linear = nn.Linear(64, 48)
    layer = Int8FrozenLinear(linear)
    x = torch.randn(5, 64, requires_grad=True)
    results = []
    for module in (linear, layer):
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            y = module(x)
        (gradient,) = torch.autograd.grad(y.float().square().sum(), x)
        results.append((y, gradient))
    (y, g), (y8, g8) = results
    assert y8.dtype == y.dtype
    assert g8.dtype == g.dtype == torch.float32
    assert (y8 - y).norm() < 0.02 * y.norm()
    assert (g8 - g).norm() < 0.02 * g.norm()
    assert layer.weight.grad is None


def test_int8_gradients_are_those_of_the_multiplied_weight():
    layer = Int8FrozenLinear(nn.Linear(6, 4))
    plain = layer.dequantize()
    x = torch.randn(3, 6, requires_grad=True)
    ours, theirs = (torch.autograd.grad(m(x).sin().sum(), x)[0] for m in (layer, plain))
    assert torch.allclose(ours, theirs, atol=1e-6)


def num_bytes(network):
    tensors = (
        *network.language_model.blocks.parameters(),
        *network.language_model.blocks.buffers(),
    )
    return sum(t.numel() * t.element_size() for t in tensors)


def test_an_int8_base_is_small_and_near(network, inputs):
    before, full = num_bytes(network), logits(network, inputs)
    add_lora(network, replace(LANGUAGE, rank=1, base="int8"))
    assert num_bytes(network) < 0.45 * before  # toy widths: scales, norms and adapters weigh much
    found = logits(network, inputs)
    assert all((a - b).norm() < 0.05 * b.norm() for a, b in zip(found, full, strict=True))
    shake(network)
    adapted = logits(network, inputs)
    merge(network)
    assert near(logits(network, inputs), adapted, atol=1e-4)
    assert all(type(m) is not Int8FrozenLinear for m in network.modules())


def test_a_bf16_network_keeps_its_type(network, inputs):
    network.to(torch.bfloat16)
    add_lora(network, BOTH)
    shake(network)
    assert all(p.dtype == torch.float32 for p in lora_parameters(network))
    adapted = logits(network, inputs)
    merge(network)
    assert {p.dtype for p in network.parameters()} == {torch.bfloat16}
    assert near(logits(network, inputs), adapted, atol=0.1)


@pytest.mark.parametrize("base", ["full", "int8", "int4"])
@pytest.mark.parametrize("kind", KINDS)
def test_adapters_alone_learn_an_answer(network, processor, talks, kind, base):
    randomise(network, std=0.5)
    parameters = add_lora(network, replace(BOTH, base=base))
    frozen = {n: p.clone() for n, p in network.named_parameters() if not p.requires_grad}
    batch = collate([share_prefix([processor.example(talks[kind])])], processor.config)
    count = len(batch.targets)
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    losses = []
    for _ in range(12):
        with torch.autocast("cpu", torch.bfloat16):
            loss, _ = weighted_loss(network, batch, torch.full(batch.targets.shape, 1 / count))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    found = dict(network.named_parameters())
    assert all(torch.equal(found[name], tensor) for name, tensor in frozen.items())


def train_projector(network):
    """Let projector and newline train beside the adapters, and change them."""
    network.projector.requires_grad_(True)
    network.image_newline.requires_grad_(True)
    with torch.no_grad():
        for parameter in (*network.projector.parameters(), network.image_newline):
            parameter.mul_(1.5)


def test_the_config_file_names_every_layer_in_full(network, tmp_path):
    add_lora(network, BOTH)
    train_projector(network)
    save_adapter(network, BOTH, tmp_path, base_model="base")
    values = json.loads((tmp_path / "adapter_config.json").read_text())
    assert len(values["target_modules"]) == 2 * 7 + 2 * 6
    assert "model.language_model.layers.0.self_attn.q_proj" in values["target_modules"]
    assert "model.vision_tower.encoder.layers.1.mlp.fc2" in values["target_modules"]
    assert values["modules_to_save"] == [
        "model.multi_modal_projector.linear_1",
        "model.multi_modal_projector.linear_2",
    ]
    assert (values["r"], values["lora_alpha"], values["bias"]) == (4, 8, "none")
    assert values["base_model_name_or_path"] == "base"


def test_a_network_without_adapters_has_none_to_save(network, tmp_path):
    with pytest.raises(CheckpointError, match="no adapters to save; call add_lora first"):
        save_adapter(network, LANGUAGE, tmp_path, base_model="base")


def test_adapters_on_adapters_are_refused(network):
    add_lora(network, LANGUAGE)
    with pytest.raises(ConfigError, match="has adapters already; merge them"):
        add_lora(network, BOTH)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rank": 0}, "rank is 0; expected at least 1"),
        ({"alpha": 0}, "alpha is 0; expected more than 0"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"dropout": 1.0}, "dropout is 1.0; expected 0 to below 1"),
        ({"parts": ()}, r"parts is \(\); expected each part once"),
        ({"parts": ("language_model", "language_model")}, "expected each part once"),
        ({"parts": ("projector",)}, "parts names projector; expected among language_model"),
        ({"base": "int2"}, "base is 'int2'; expected one of 'full', 'int8', 'int4', 'nf4'"),
    ],
)
def test_contradictions_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        LoraConfig(**values)
