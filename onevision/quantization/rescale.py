"""A group of layers and its inputs -> the scales of channels that make rounding cost least.

SmoothQuant (arXiv 2211.10438, section 4): channels with large inputs are divided by
s = max|x|^alpha / max|w|^(1 - alpha) where they are made, and the columns of the weights are
multiplied by it. Here s is a power of two, so that no bit of what the network computes changes
before anything is rounded: not in a layer that stays as it is, and not in the norms.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onevision.checkpoint.quantised_schemes import Scheme
from onevision.model.decoder import RMSNorm
from onevision.quantization.groups import Group, Source, linear_layer, weights_of
from onevision.quantization.rounding import multiply, round_weight
from onevision.quantization.statistics import GroupInputs

ALPHAS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
# Powers of two beyond which no channel is rescaled.
MOST_STEPS = 8
SMALL = 1e-5


@dataclass(frozen=True, kw_only=True)
class Rescaling:
    """Scales of a group's inputs, and the error of its products with and without them."""

    # None if nothing is rescaled.
    alpha: float | None
    scale: Tensor  # fp32 [K], powers of two
    # Relative to the products' norm, 0 or more.
    plain_error: float
    error: float


def search(
    network: nn.Module, group: Group, inputs: GroupInputs, scheme: Scheme, *, rescale: bool = True
) -> Rescaling:
    """Tries each of ALPHAS and none; returns what gives the smallest error on the inputs.

    Without `rescale`, only the error of plain rounding is measured.
    """
    weight, rows = weights_of(network, group), inputs.rows
    exact = rows.float() @ weight.T
    ones = torch.ones(weight.shape[1])
    plain = _error(rows, weight, exact, ones, scheme)
    best = Rescaling(alpha=None, scale=ones, plain_error=plain, error=plain)
    if group.source is None or not rescale:
        return best
    largest = weight.abs().amax(0)
    for alpha in ALPHAS:
        scale = _scale(group.source, inputs.largest, largest, alpha=alpha)
        error = _error(rows, weight, exact, scale, scheme)
        if error < best.error:
            best = Rescaling(alpha=alpha, scale=scale, plain_error=plain, error=error)
    return best


@torch.no_grad()
def fold(network: nn.Module, group: Group, scale: Tensor) -> None:
    """Divides what makes the group's input by `scale` [K], and multiplies its columns, in place."""
    assert group.source is not None
    source = network.get_submodule(group.source.name)
    assert isinstance(source, nn.LayerNorm | RMSNorm | nn.Linear)
    narrow = group.source.narrow(scale)
    shape = (-1, 1) if isinstance(source, nn.Linear) else (-1,)
    source.weight.div_(narrow.view(shape).to(source.weight.dtype))
    if not isinstance(source, RMSNorm) and source.bias is not None:
        source.bias.div_(narrow.to(source.bias.dtype))
    for name in group.layers:
        weight = linear_layer(network, name).weight
        weight.mul_(scale.to(weight.dtype))


def _scale(source: Source, inputs: Tensor, weights: Tensor, *, alpha: float) -> Tensor:
    """Returns the power of two next to SmoothQuant's scale of each input, 1 in the middle."""
    steps = alpha * inputs.clamp(min=SMALL).log2() - (1 - alpha) * weights.clamp(min=SMALL).log2()
    steps = (steps - steps.median()).round().clamp(-MOST_STEPS, MOST_STEPS)
    return source.widen(source.narrow(steps.exp2()))


def _error(rows: Tensor, weight: Tensor, exact: Tensor, scale: Tensor, scheme: Scheme) -> float:
    found = multiply(rows / scale.to(rows.dtype), round_weight(weight * scale, scheme), scheme)
    return float((found - exact).norm() / exact.norm().clamp(min=SMALL))
