"""Network and calibration samples -> the same network, rounded group by group, and what was found.

Each group of layers is rescaled where that makes rounding cost less, and left as it is if its
error on the samples is above a bound.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from onevision.accelerate.int8 import Int8Linear
from onevision.batch import ModelInputs
from onevision.checkpoint.quantised_formats import RoundedWeight
from onevision.checkpoint.quantised_schemes import Scheme
from onevision.errors import ConfigError
from onevision.model.llava import LlavaNetwork
from onevision.quantization.groups import (
    HEAD,
    VLLM_WIDTHS,
    Group,
    is_beyond_vllm,
    linear_layer,
    list_groups,
)
from onevision.quantization.rescale import fold, search
from onevision.quantization.rounding import BOUNDS, fit_group, fits, round_weight
from onevision.quantization.statistics import GroupInputs, divergence, next_tokens, observe

# Shows how far a phase is: its name, what is done and what is to do.
Progress = Callable[[str, int, int], object]


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig:
    """What is quantised, and how much error it may cost."""

    scheme: Scheme
    # Whether channels are rescaled before they are rounded.
    rescale: bool = True
    # Relative error of a group's products above which its layers stay as they are; None takes the
    # usual bound of the scheme.
    max_error: float | None = None
    # Layers that stay as they are whatever their error.
    keep_head: bool = False
    keep_last_block: bool = False
    # Whether layers are quantised that vLLM could not read so.
    all_layers: bool = False

    @property
    def bound(self) -> float:
        """The relative error above which layers stay as they are."""
        return BOUNDS[self.scheme.bits] if self.max_error is None else self.max_error

    def __post_init__(self) -> None:
        if self.max_error is not None and not self.max_error > 0:
            raise ConfigError(f"max_error is {self.max_error}; expected a number above 0")


@dataclass(frozen=True, kw_only=True)
class GroupResult:
    """What was decided about a group of layers, and why."""

    layers: tuple[str, ...]
    num_weights: int
    # Relative to the products' norm: of plain rounding, and after rescaling; None if it was not
    # tried.
    plain_error: float | None
    error: float | None
    # Of SmoothQuant's scales; None if nothing was rescaled.
    alpha: float | None
    # Why the layers stay as they are; "" if they are quantised.
    kept: str


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """A quantised network, which runs, and the integers of its layers by name."""

    network: LlavaNetwork = field(repr=False)
    # With the group that fits the layers.
    scheme: Scheme
    weights: dict[str, RoundedWeight] = field(repr=False)
    groups: tuple[GroupResult, ...]
    # Over the calibration samples: mean KL divergence of next tokens in nats, and the share of
    # places where the likeliest token is the same.
    kl: float
    same: float
    num_places: int


def quantize_network(
    network: LlavaNetwork,
    samples: Sequence[ModelInputs],
    config: QuantizeConfig,
    *,
    on_progress: Progress = lambda *_: None,
) -> Quantized:
    """Quantises a plain network in place. Its weights must not be mapped from a file."""
    groups = list_groups(network)
    config = replace(config, scheme=_fit_scheme(network, groups, config.scheme))
    seen = observe(
        network, groups, samples, on_progress=lambda n: on_progress("calibrates", n, len(samples))
    )
    decoder = network.language_model
    is_tied = decoder.head.weight is decoder.embedding.weight
    if is_tied:  # a head that is rounded has a weight of its own
        copy: Tensor = decoder.embedding.weight.detach().clone()
        decoder.head.weight = nn.Parameter(copy, requires_grad=False)
    results = []
    for index, group in enumerate(groups):
        results.append(_decide(network, group, seen.inputs.pop(group.layers[0]), config))
        on_progress("quantises", index + 1, len(groups))
    chosen = [name for result in results if not result.kept for name in result.layers]
    weights = {name: _round(network, name, config.scheme) for name in chosen}
    if is_tied and HEAD not in weights:
        decoder.head.weight = decoder.embedding.weight
    kl, same = divergence(seen.next_tokens, next_tokens(network, samples))
    return Quantized(
        network=network,
        scheme=config.scheme,
        weights=weights,
        groups=tuple(results),
        kl=kl,
        same=same,
        num_places=sum(len(one) for one in seen.next_tokens),
    )


def _fit_scheme(network: LlavaNetwork, groups: Sequence[Group], scheme: Scheme) -> Scheme:
    counts = Counter[int]()
    for group in [group for group in groups if not group.is_vision]:
        for layer in (linear_layer(network, name) for name in group.layers):
            counts[layer.in_features] += layer.weight.numel()
    return fit_group(scheme, counts)


def _decide(
    network: LlavaNetwork, group: Group, inputs: GroupInputs, config: QuantizeConfig
) -> GroupResult:
    """Rescales a group in place if it is to be rounded; its weights may be another's source."""
    layers = [linear_layer(network, name) for name in group.layers]
    num_weights = sum(layer.weight.numel() for layer in layers)
    kept = _keep_reason(network, group, config)
    if kept:
        return GroupResult(
            layers=group.layers,
            num_weights=num_weights,
            plain_error=None,
            error=None,
            alpha=None,
            kept=kept,
        )
    found = search(network, group, inputs, config.scheme, rescale=config.rescale)
    if found.error > config.bound:
        kept = f"error above {config.bound:g}"
    elif found.alpha is not None:
        fold(network, group, found.scale)
    return GroupResult(
        layers=group.layers,
        num_weights=num_weights,
        plain_error=found.plain_error,
        error=found.error,
        alpha=None if kept else found.alpha,
        kept=kept,
    )


def _keep_reason(network: LlavaNetwork, group: Group, config: QuantizeConfig) -> str:
    """Returns why a group stays as it is whatever its error; "" if it need not."""
    num_inputs = linear_layer(network, group.layers[0]).in_features
    if config.keep_head and group.is_head:
        return "--keep-head"
    if config.keep_last_block and group.is_last_block:
        return "--keep-last-block"
    if config.scheme.bits < 8 and group.is_vision:
        return "4 bits are for the language model"
    if not fits(config.scheme, num_inputs):
        return f"{num_inputs} inputs are no multiple of {config.scheme.group}"
    if not config.all_layers and is_beyond_vllm(network, group):
        return f"in 8 bits vLLM reads only widths of multiples of {VLLM_WIDTHS} (--all-layers)"
    return ""


def _round(network: LlavaNetwork, name: str, scheme: Scheme) -> RoundedWeight:
    """Rounds a layer in place; returns its integers."""
    layer = linear_layer(network, name)
    weight = round_weight(layer.weight.detach().float(), scheme)
    network.set_submodule(name, _rounded_layer(layer, weight, scheme))
    return weight


def _rounded_layer(layer: nn.Linear, weight: RoundedWeight, scheme: Scheme) -> nn.Module:
    """Returns a layer that computes with the rounded weight."""
    if scheme.has_int8_activations:
        scale = weight.scale[:, 0]
        return Int8Linear.from_quantized(weight=weight.numbers, scale=scale, bias=layer.bias)
    rounded = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
    rounded.weight = nn.Parameter(weight.dequantise().to(layer.weight.dtype), requires_grad=False)
    rounded.bias = layer.bias
    return rounded
