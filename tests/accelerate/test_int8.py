"""Quantised layers against arithmetic by hand and against the layers that they were made of."""

import pytest
import torch

from onevision.accelerate.int4 import GROUP, Int4Linear, PackedInt4Linear
from onevision.accelerate.int8 import Int8Linear, quantise_rows


def relative_error(found, expected):
    return float((found - expected).norm() / expected.norm())


def test_rows_are_quantised_each_by_its_own_largest():
    rows, scale = quantise_rows(torch.tensor([[1.27, -0.5, 0.004], [0, 0, 0], [0, -2.54, 1.27]]))
    assert rows.tolist() == [[127, -50, 0], [0, 0, 0], [0, -127, 64]]
    assert scale.tolist() == pytest.approx([0.01, 1, 0.02])


def test_numbers_too_small_to_scale_become_zero():
    rows, scale = quantise_rows(torch.full((1, 3), 1e-40))
    assert rows.tolist() == [[0, 0, 0]]
    assert scale.tolist() == [1]


def test_products_of_what_a_file_holds():
    layer = Int8Linear.from_quantized(
        weight=torch.tensor([[1, 2], [-3, 4]], dtype=torch.int8),
        scale=torch.tensor([0.5, 2.0]),
        bias=torch.tensor([0.0, 1.0]),
    )
    found = layer(torch.tensor([[[127.0, -127.0]]]))  # these rows are quantised without error
    assert found.tolist() == [[[-63.5, 127 * 2 * -7 + 1]]]


def test_a_layer_is_near_its_original():
    torch.manual_seed(0)
    linear = torch.nn.Linear(256, 64)
    x = torch.randn(9, 256)
    with torch.inference_mode():
        expected = linear(x)
        both = relative_error(Int8Linear.from_linear(linear)(x), expected)
        weights = relative_error(Int8Linear.from_linear(linear, parts=2)(x), expected)
    assert 0.002 < weights < 0.8 * both < 0.02, (weights, both)


def test_two_parts_lose_next_to_nothing_of_the_rows():
    torch.manual_seed(0)
    weight, scale = torch.randint(-127, 128, (32, 64)).to(torch.int8), torch.rand(32)
    x = torch.randn(5, 64) * torch.tensor([1.0] * 63 + [50.0])  # an outlier in each row
    layer = Int8Linear(weight=weight, scale=scale, parts=2)
    assert relative_error(layer(x), x @ weight.float().T * scale) < 1e-4


def test_layers_beside_each_other_become_one():
    torch.manual_seed(0)
    x = torch.randn(3, GROUP)
    for kind in (Int8Linear, Int4Linear):
        layers = [kind.from_linear(torch.nn.Linear(GROUP, n)) for n in (32, 16)]
        found = kind.concatenate(layers)(x)
        assert torch.allclose(found, torch.cat([layer(x) for layer in layers], dim=-1), atol=1e-6)


def test_a_4_bit_layer_says_what_its_numbers_say():
    torch.manual_seed(0)
    linear = torch.nn.Linear(2 * GROUP, 32).to(torch.bfloat16)
    layer = Int4Linear.from_linear(linear)
    x = torch.randn(9, 2 * GROUP, dtype=torch.bfloat16)
    groups = linear.weight.detach().float().unflatten(1, (2, GROUP))
    least, greatest = groups.aminmax(dim=-1, keepdim=True)
    step = (greatest - least) / 15
    nearest = ((groups - least) / step).round() * step + least
    with torch.inference_mode():
        expected = torch.nn.functional.linear(x.float(), nearest.flatten(1), linear.bias.float())
        assert relative_error(layer(x).float(), expected) < 0.03  # scales are in bf16
        packed = PackedInt4Linear(layer)
        found = packed(x)
        assert relative_error(found.float(), expected) < 0.03
        assert torch.equal(packed(x[3:4]), found[3:4])
        many = x.repeat(40, 1)  # beyond the rows that ATen's kernel takes
        assert relative_error(packed(many).float(), expected.repeat(40, 1)) < 0.03
