"""Network -> the same network with low-rank adapters in named parts, and back to plain layers.

LoRA (arXiv 2106.09685): beside a frozen linear layer W, an adapter learns the rest of the sum
W x + (alpha / rank) B A x; only A [rank, in] and B [out, rank] train. DoRA (arXiv 2402.09353) also
scales each row of W + (alpha / rank) B A to a length that trains. Layers to adapt are found by
walking the blocks of the named parts, so a layer elsewhere cannot match by its name.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onevision.errors import ConfigError
from onevision.model.llava import LlavaNetwork
from onevision.train.lora.bases import FROZEN, Base, freeze
from onevision.train.lora.frozen import FrozenLinear

AdaptedPart = Literal["language_model", "vision_encoder"]
# Every linear layer of a block, or those of its attention alone.
Layers = Literal["all", "attention"]
PARTS: tuple[AdaptedPart, ...] = ("language_model", "vision_encoder")


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Which parts get adapters, and of what kind; rank and alpha default to the reference's."""

    # Rows of A and columns of B.
    rank: int = 64
    # An adapter's output is multiplied by alpha / rank.
    alpha: float = 16
    # Share of an adapter's inputs dropped in training, by torch's global generator.
    dropout: float = 0.0
    # Every linear layer in the blocks of these parts; embeddings, norms and the head stay out.
    parts: tuple[AdaptedPart, ...] = ("language_model",)
    # Which layers of those blocks.
    layers: Layers = "all"
    # Multiply by alpha / sqrt(rank) instead (rsLoRA, arXiv 2312.03732), so that higher ranks do not
    # learn more slowly.
    stabilised: bool = False
    # Train the length of each row of the sum, too (DoRA).
    magnitudes: bool = False
    # How each frozen weight below an adapter is stored: as it is, in 8 bits or in 4.
    base: Base = "full"

    @property
    def scaling(self) -> float:
        """What an adapter's output is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.stabilised else self.rank)

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"LoraConfig.rank is {self.rank}; expected at least 1")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ConfigError(f"LoraConfig.alpha is {self.alpha}; expected more than 0")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"LoraConfig.dropout is {self.dropout}; expected 0 to below 1")
        if not self.parts or len(set(self.parts)) < len(self.parts):
            raise ConfigError(f"LoraConfig.parts is {self.parts}; expected each part once")
        if unknown := [part for part in self.parts if part not in PARTS]:
            raise ConfigError(
                f"LoraConfig.parts names {', '.join(unknown)}; expected among {', '.join(PARTS)}"
            )
        if self.base not in ("full", *FROZEN):
            expected = ", ".join(map(repr, ("full", *FROZEN)))
            raise ConfigError(f"LoraConfig.base is {self.base!r}; expected one of {expected}")


def add_lora(network: LlavaNetwork, config: LoraConfig, *, seed: int = 0) -> list[nn.Parameter]:
    """Adds adapters to the named parts, in place, and returns their parameters.

    Freezes everything but the adapters; to train other parts beside them, set their requires_grad
    again. New adapters add exactly zero, and the same `seed` makes the same adapters. Raises
    ConfigError if the network has adapters already.
    """
    if adapted_layers(network):
        raise ConfigError("the network has adapters already; merge them before adding others")
    network.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name in linear_names(network, config.parts, layers=config.layers):
        linear = network.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        network.set_submodule(name, LoraLinear(linear, config, generator=generator))
    return lora_parameters(network)


def merge(network: LlavaNetwork) -> None:
    """Merges every adapter into its layer, in place, so that only plain layers remain.

    The layers stay frozen. A base in few bits gets its earlier dtype back, with the error of its
    rounding. A network without adapters stays as it is.
    """
    for name, layer in adapted_layers(network).items():
        network.set_submodule(name, layer.merge())


def lora_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Returns what trains of each adapter, in the order of the layers."""
    return [
        p for layer in adapted_layers(network).values() for p in layer.own_parameters().values()
    ]


def adapted_layers(network: nn.Module) -> dict[str, "LoraLinear"]:
    """Returns the layers that have an adapter, by full name."""
    return {name: m for name, m in network.named_modules() if isinstance(m, LoraLinear)}


def linear_names(
    network: LlavaNetwork, parts: tuple[AdaptedPart, ...], *, layers: Layers = "all"
) -> list[str]:
    """Returns the full names of the plain linear layers in the blocks of `parts`."""
    return [
        f"{part}.blocks.{name}"
        for part in parts
        for name, module in network.get_submodule(f"{part}.blocks").named_modules()
        if isinstance(module, nn.Linear) and (layers == "all" or ".attention." in f".{name}.")
    ]


def row_lengths(weight: Tensor) -> Tensor:
    """Returns the length of each row of `weight` [out, in], as fp32 [out]."""
    return torch.linalg.vector_norm(weight.float(), dim=1)


def row_factors(magnitude: Tensor, lengths: Tensor) -> Tensor:
    """Returns what rows of these lengths are multiplied by; a row of zeros stays as it is."""
    return torch.where(lengths > 0, magnitude / lengths.where(lengths > 0, 1.0), 1.0)


def merge_weight(
    weight: Tensor, a: Tensor, b: Tensor, *, scaling: float, magnitude: Tensor | None = None
) -> Tensor:
    """Returns `weight` [out, in] + scaling * b a, in fp32, its rows as long as `magnitude` [out].

    `a` is [rank, in], `b` [out, rank]; rows keep their lengths without `magnitude`.
    """
    merged = weight.float() + scaling * (b.float() @ a.float())
    if magnitude is not None:
        merged = merged * row_factors(magnitude, row_lengths(merged))[:, None]
    return merged


class LoraLinear(nn.Module):
    """A frozen linear layer plus its adapter: base(x) + (alpha / rank) B A dropout(x).

    With magnitudes, each output but its bias is then scaled as its row of W + (alpha / rank) B A is
    to have the learned length.
    """

    def __init__(
        self, base: nn.Linear, config: LoraConfig, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        # The lengths begin as those of the weights before they are rounded to few bits, which the
        # result is merged into: what has learned nothing leaves them as they were.
        lengths = nn.Parameter(row_lengths(base.weight.detach())) if config.magnitudes else None
        self.register_parameter("magnitude", lengths)  # [out]
        self.base = freeze(base, config.base)
        self.scaling, self.dropout = config.scaling, config.dropout
        # The adapter is fp32 whatever dtype the base has: its steps are small.
        a = torch.empty(config.rank, base.in_features)
        # As in PEFT: A is initialised as torch's linear layers are, B with zeros.
        nn.init.kaiming_uniform_(a, a=math.sqrt(5), generator=generator)
        # Below an adapter weights may be without memory yet; the adapter itself never is.
        device = base.weight.device if not base.weight.is_meta else torch.device("cpu")
        self.lora_a = nn.Parameter(a.to(device))  # [rank, in]
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, config.rank, device=device))
        self.train(base.training)

    def forward(self, x: Tensor) -> Tensor:
        """Transforms `x` [..., in] -> [..., out]."""
        y = self.base(x)
        inner = F.dropout(x.to(self.lora_a.dtype), self.dropout, training=self.training)
        added = F.linear(F.linear(inner, self.lora_a), self.lora_b)
        y = y + (added * self.scaling).to(y.dtype)
        return y if self.magnitude is None else self._scale(y, self.magnitude)

    def _scale(self, y: Tensor, magnitude: Tensor) -> Tensor:
        """Scales outputs [..., out] without their bias by learned over present lengths [out].

        The present lengths are constants of the backward pass (DoRA, section 4.3).
        """
        with torch.no_grad(), torch.autocast(y.device.type, enabled=False):
            lengths = row_lengths(self._sum(self._plain()))
        factors = row_factors(magnitude, lengths)
        scaled = factors * y
        if self.base.bias is not None:
            scaled = scaled + (1 - factors) * self.base.bias
        return scaled.to(y.dtype)

    def own_parameters(self) -> dict[str, nn.Parameter]:
        """Returns what trains of this layer, by the names that its parameters have in it."""
        own = {"lora_a": self.lora_a, "lora_b": self.lora_b}
        return own if self.magnitude is None else own | {"magnitude": self.magnitude}

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """Returns the plain layer that computes the same; the sum is taken in fp32."""
        plain = self._plain()
        weight = merge_weight(
            plain.weight, self.lora_a, self.lora_b, scaling=self.scaling, magnitude=self.magnitude
        )
        plain.weight.copy_(weight)
        return plain

    def _plain(self) -> nn.Linear:
        return self.base.dequantize() if isinstance(self.base, FrozenLinear) else self.base

    def _sum(self, plain: nn.Linear) -> Tensor:
        """Returns W + (alpha / rank) B A [out, in] in fp32."""
        return merge_weight(plain.weight, self.lora_a, self.lora_b, scaling=self.scaling)
