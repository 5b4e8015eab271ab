"""Weights [N, K] -> integers and scales by one of the schemes; products as their kernels compute.

w8a8     8-bit integers with a scale per output channel; rows of the input are rounded likewise
w4a16    4-bit integers, -8 ... 7, with a scale for every 128 inputs, or 64 or 32; the input is not
         rounded. The vision encoder stays as it is: transformers cannot build a packed one.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import torch
from torch import Tensor

from onevision.accelerate.int8 import quantise_rows
from onevision.checkpoint.quantised_formats import RoundedWeight
from onevision.checkpoint.quantised_schemes import Scheme
from onevision.errors import InputError

W8A8 = Scheme(storage="int-quantized", bits=8, group=None, symmetric=True)
W4A16 = Scheme(storage="pack-quantized", bits=4, group=128, symmetric=True)
SCHEMES: Mapping[str, Scheme] = MappingProxyType({"w8a8": W8A8, "w4a16": W4A16})
# Relative errors of products that are usual at most, by the bits of weights.
BOUNDS: Mapping[int, float] = MappingProxyType({8: 0.05, 4: 0.25})
# Sizes of groups, the largest first, and the share of the weights that the smallest fits which a
# larger one must fit.
GROUPS, MOST = (128, 64, 32), 0.95
SMALLEST = torch.finfo(torch.float32).tiny


def find_scheme(name: str) -> Scheme:
    """Returns a scheme by its name. Raises InputError."""
    if name not in SCHEMES:
        raise InputError(f"--scheme is {name!r}; expected {' or '.join(SCHEMES)}")
    return SCHEMES[name]


def fit_group(scheme: Scheme, weights: Mapping[int, int]) -> Scheme:
    """Returns the scheme with the largest group that fits most layers.

    `weights` are the numbers of weights by the number of inputs of their layers.
    """
    if scheme.group is None:
        return scheme
    fitted = {g: sum(n for k, n in weights.items() if k % g == 0) for g in GROUPS}
    group = next(g for g in GROUPS if fitted[g] >= MOST * fitted[GROUPS[-1]])
    return replace(scheme, group=group)


def fits(scheme: Scheme, inputs: int) -> bool:
    """Whether a layer with so many inputs has whole groups."""
    return scheme.group is None or inputs % scheme.group == 0


def round_weight(weight: Tensor, scheme: Scheme) -> RoundedWeight:
    """Rounds `weight` [N, K] in fp32 to the nearest integers.

    The scale of 4 bits is one that bf16 holds, as files have it.
    """
    if scheme.has_int8_activations:
        numbers, scale = quantise_rows(weight)
        return RoundedWeight(numbers=numbers, scale=scale[:, None])
    groups = weight.unflatten(1, (-1, scheme.group or weight.shape[1]))  # [N, G, K / G]
    scale = (groups.abs().amax(2) / 7).clamp(min=SMALLEST).bfloat16().float()
    numbers = (groups / scale[:, :, None]).round().clamp(-8, 7)
    return RoundedWeight(numbers=numbers.flatten(1).to(torch.int8), scale=scale)


def multiply(rows: Tensor, weight: RoundedWeight, scheme: Scheme) -> Tensor:
    """Multiplies `rows` [R, K] by a rounded weight, rounding rows if the scheme does.

    Returns fp32 [R, N], which is what the kernels give but for the order of their sums.
    """
    if not scheme.has_int8_activations:
        return rows.float() @ weight.dequantise().T
    numbers, scale = quantise_rows(rows)
    return numbers.float() @ weight.numbers.float().T * scale[:, None].float() * weight.scale.T
