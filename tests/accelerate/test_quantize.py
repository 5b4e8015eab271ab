import pytest
import torch

from onevision import Conversation, Message, load
from onevision.accelerate.quantize import (
    GROUP,
    Int4WeightOnlyLinear,
    Int8WeightOnlyLinear,
    quantized_copy,
)
from onevision.errors import InputError
from onevision.model.llava import LlavaNetwork


def test_an_8_bit_layer_is_near_its_original_and_blind_to_its_neighbours():
    linear = torch.nn.Linear(64, 32).to(torch.bfloat16)
    quantized = Int8WeightOnlyLinear(linear)
    x = torch.randn(1, 9, 64, dtype=torch.bfloat16)
    with torch.inference_mode():
        expected, found = linear(x), quantized(x)
        assert (found - expected).abs().max() < 0.05
        assert not torch.equal(found, expected)
        for row in range(9):  # the same bits alone
            assert torch.equal(quantized(x[:, row : row + 1]), found[:, row : row + 1])


@pytest.mark.parametrize("kind", [Int8WeightOnlyLinear, Int4WeightOnlyLinear])
def test_rows_in_fp32_are_rounded_to_bf16(kind):
    linear = torch.nn.Linear(GROUP, 32).to(torch.bfloat16)
    rows = torch.randn(9, GROUP)
    with torch.inference_mode():
        expected = kind(linear)(rows.bfloat16()) - linear.bias
        found = kind(linear.float())(rows) - linear.bias
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 0.02  # the bias alone is added in fp32


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_quantised_model_shares_what_it_does_not_change(dtype):
    model = load("tiny", dtype=dtype, quantize="int8")
    whole, decode_model = model.network.language_model, model.decode_model
    assert decode_model.embedding is whole.embedding
    assert isinstance(decode_model.head, Int8WeightOnlyLinear)
    assert isinstance(decode_model.blocks[0].mlp.gate_up, Int8WeightOnlyLinear)
    assert not isinstance(whole.head, Int8WeightOnlyLinear)
    ids = torch.tensor([[5, 9, 300, 7]])
    with torch.inference_mode():
        exact = whole.head(whole(whole.embedding(ids), torch.arange(4)[None])).float()
        found = decode_model.head(
            decode_model(decode_model.embedding(ids), torch.arange(4)[None])
        ).float()
    assert (found - exact).abs().mean() < 0.1 * exact.std()
    assert model.ask(Conversation([Message("user", "Hi")]), max_new_tokens=4).text


def test_a_4_bit_layer_says_what_its_numbers_say():
    linear = torch.nn.Linear(2 * GROUP, 32).to(torch.bfloat16)
    quantized = Int4WeightOnlyLinear(linear)
    x = torch.randn(9, 2 * GROUP, dtype=torch.bfloat16)
    groups = linear.weight.detach().float().unflatten(1, (2, GROUP))
    least, greatest = groups.aminmax(dim=-1, keepdim=True)
    step = (greatest - least) / 15
    nearest = ((groups - least) / step).round() * step + least
    with torch.inference_mode():
        found = quantized(x)
        expected = torch.nn.functional.linear(x.float(), nearest.flatten(1), linear.bias.float())
        apart = (found - expected).abs().mean()  # scales are in bf16
        assert apart < 0.03 * expected.std()
        assert apart < 0.5 * (found - linear(x)).abs().mean()
        assert torch.equal(quantized(x[3:4]), found[3:4])


def test_4_bits_leave_the_head_in_8():
    model = load("tiny", quantize="int4")
    assert isinstance(model.decode_model.head, Int8WeightOnlyLinear)
    assert isinstance(model.decode_model.blocks[0].mlp.gate_up, Int4WeightOnlyLinear)
    assert model.ask(Conversation([Message("user", "Hi")]), max_new_tokens=4).text


def test_what_cannot_be_quantised_is_refused(micro_config):
    decoder = LlavaNetwork(micro_config).language_model.double()
    with pytest.raises(InputError, match=r"torch.float64 on cpu: load it with dtype='auto'"):
        quantized_copy(decoder, "int8")
    with pytest.raises(InputError, match="quantize is 'int3'; expected 'int8' or 'int4'"):
        load("tiny", quantize="int3")
