"""Quantised networks: what becomes of their layers, how much they hold, what they refuse."""

import pytest
import torch

from onevision import Conversation, Message, load
from onevision.accelerate.apply import accelerate
from onevision.accelerate.int4 import PackedInt4Linear
from onevision.accelerate.int8 import Int8Linear
from onevision.accelerate.int8_packer import Int8Packer, PackedInt8Linear
from onevision.accelerate.packed import PackedLinear, named_tensors
from onevision.accelerate.processor import has_layout, has_vnni
from onevision.errors import InputError
from onevision.model.llava import LlavaNetwork
from tests.conftest import randomise


def layers_of(network):
    kinds = torch.nn.Linear | PackedLinear | PackedInt4Linear | PackedInt8Linear | Int8Linear
    return {name: type(m) for name, m in network.named_modules() if isinstance(m, kinds)}


def num_bytes(model):
    """What the weights occupy, without the embedding, which stays in its file."""
    return sum(
        tensor.numel() * tensor.element_size()
        for name, tensor in named_tensors(model.network)
        if "embedding" not in name
    )


def next_logits(model):
    ids = torch.tensor([[5, 9, 300, 7]])
    decoder = model.network.language_model
    with torch.inference_mode():
        return decoder.head(decoder(decoder.embedding(ids), torch.arange(4)[None])).float()


@pytest.fixture(scope="module")
def kernel():
    """The name of the kernel that the table has for this processor."""
    packer = Int8Packer(dtype=torch.bfloat16)
    packer.pack(Int8Linear.from_linear(torch.nn.Linear(64, 32)))
    (name,) = packer.counts
    return name


@pytest.fixture(scope="module")
def whole():
    return load("tiny", dtype="bfloat16")


def test_int8_takes_every_layer_and_holds_it_once(whole, kernel):
    model = load("tiny", dtype="bfloat16", quantize="int8")
    kinds = layers_of(model.network)
    assert set(kinds.values()) == {PackedInt8Linear}
    assert any(name.startswith("vision_encoder") for name in kinds)
    assert any(name.startswith("projector") for name in kinds)
    assert kinds["language_model.head"] is PackedInt8Linear
    assert model.arithmetic == f"int8 ({len(kinds)} by {kernel})"
    assert num_bytes(model) < 0.56 * num_bytes(whole)


def test_smaller_weights_alone_leave_the_vision_encoder(whole):
    for kind, most in (("int8-weights", 0.75), ("int4", 0.65)):
        model = load("tiny", dtype="bfloat16", quantize=kind)
        kinds = layers_of(model.network)
        assert kinds["language_model.head"] is PackedInt8Linear
        own = {k for name, k in kinds.items() if name.startswith("vision")}
        assert (PackedLinear if has_layout(torch.bfloat16) else torch.nn.Linear) in own
        assert num_bytes(model) < most * num_bytes(whole), num_bytes(model) / num_bytes(whole)
    assert kinds["language_model.blocks.0.mlp.gate_up"] is PackedInt4Linear


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize(
    ("kind", "most"),
    [("int8", 0.05 if has_vnni() else 0.08), ("int8-weights", 0.03), ("int4", 0.3)],
)
def test_logits_stay_near_those_of_whole_weights(kind, most, dtype):
    exact = next_logits(load("tiny", dtype=dtype))
    found = next_logits(load("tiny", dtype=dtype, quantize=kind))
    assert 0 < (found - exact).abs().mean() < most * exact.std()


def test_what_a_checkpoint_holds_quantised_stays_so_and_the_rest_plain(micro_config, kernel):
    plain, mixed = (randomise(LlavaNetwork(micro_config)).eval() for _ in range(2))
    first = mixed.language_model.blocks[0]
    for name in ("query", "key", "value"):
        layer = Int8Linear.from_linear(first.attention.get_submodule(name))
        first.attention.add_module(name, layer)
    first.mlp.add_module("gate", Int8Linear.from_linear(first.mlp.gate))  # beside a plain one
    arithmetic = accelerate(mixed).arithmetic
    assert arithmetic.startswith(f"int8 (2 by {kernel}, ")
    assert arithmetic.endswith(" in float32)")
    assert type(first.attention.query_key_value) is PackedInt8Linear
    assert type(first.mlp.gate) is PackedInt8Linear
    assert type(first.mlp.up) is PackedLinear
    x = torch.randn(1, 7, micro_config.language.hidden_size)
    with torch.inference_mode():
        expected, found = plain.head(plain.run(x)), mixed.head(mixed.run(x))
    assert 0 < (found - expected).abs().mean() < 0.05 * expected.std()
    with pytest.raises(InputError, match="quantised already"):
        again = randomise(LlavaNetwork(micro_config))
        again.language_model.add_module("head", Int8Linear.from_linear(again.language_model.head))
        accelerate(again, quantize="int8")


@pytest.mark.parametrize("kind", ["int8", "int8-weights"])
def test_an_answer_does_not_depend_on_those_beside_it(kind):
    model = load("tiny", dtype="bfloat16", quantize=kind)
    talks = [Conversation([Message("user", f"Tell me about the number {n}.")]) for n in range(16)]
    alone = [logprobs(model, [talk])[0] for talk in talks[:2]]
    assert logprobs(model, talks)[:2] == alone


def logprobs(model, talks):
    """The log-probabilities of the tokens of answers that are given together."""
    engine = model.new_engine()
    sampling = model.sampling.override({"max_new_tokens": 6, "logprobs": 0, "end_ids": ()})
    requests = [engine.submit(model.prompt(talk), sampling) for talk in talks]
    engine.run(requests)
    return [[token.logprob for token in request.answers[0].tokens] for request in requests]


def test_what_cannot_be_quantised_is_refused(micro_config):
    with pytest.raises(InputError, match=r"torch.float64 on cpu: load it with dtype='bfloat16'"):
        accelerate(LlavaNetwork(micro_config).double(), quantize="int8")
    with pytest.raises(InputError, match="'int3'; expected 'int8', 'int8-weights', 'int4', or"):
        load("tiny", quantize="int3")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("kind", "most"), [("int8", 0.05), ("int8-weights", 0.03), ("int4", 0.3)])
def test_a_gpu_computes_with_quantised_weights(kind, most):
    exact = next_logits(load("tiny", dtype="bfloat16"))
    model = load("tiny", dtype="bfloat16", quantize=kind, device="cuda")
    assert "fp32" not in model.arithmetic
    with torch.device("cuda"):
        found = next_logits(model).cpu()
    assert 0 < (found - exact).abs().mean() < most * exact.std()


def test_a_packed_bias_needs_no_gradient():
    """For one that does, oneDNN takes a reference product, a hundred times slower."""
    linear = torch.nn.Linear(64, 32)
    for layer in (PackedLinear(linear), Int8Linear.from_linear(linear)):
        assert layer.bias.requires_grad is False
