"""Network -> the same network with its linear layers quantised, in place.

int8          weights and rows in 8 bits: products of integers, of every linear layer
int8-weights  weights in 8 bits, in the language model
int4          weights in 4 bits, in the language model; its head, where errors show at once, in 8

On a CPU or a GPU. Weights are held once. The vision encoder of the last two keeps its own.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import torch
from torch import nn

from onevision.accelerate.int4 import Int4Linear
from onevision.accelerate.int8 import Int8Linear
from onevision.errors import InputError
from onevision.model.llava import LlavaNetwork

Quantise = Callable[[nn.Linear], nn.Module]
DEVICES, DTYPES = ("cpu", "cuda"), (torch.bfloat16, torch.float32)

only_weights: Quantise = partial(Int8Linear.from_linear, parts=2)


def to_int4(linear: nn.Linear) -> nn.Module:
    """Quantises a layer to 4 bits, or to 8 where the kernel for 4 does not take its shape."""
    return Int4Linear.from_linear(linear) if Int4Linear.fits(linear) else only_weights(linear)


# By kind: how the head is quantised, and the other linear layers of the language model.
QUANTIZED: Mapping[str, tuple[Quantise, Quantise]] = MappingProxyType(
    {
        "int8": (Int8Linear.from_linear, Int8Linear.from_linear),
        "int8-weights": (only_weights, only_weights),
        "int4": (only_weights, to_int4),
    }
)
# Those that quantise the vision encoder and the projector as well.
WHOLE = {"int8"}


def check_kind(kind: str | None) -> None:
    """Raises InputError unless `kind` is a key of `QUANTIZED`, or None."""
    if kind is not None and kind not in QUANTIZED:
        raise InputError(
            f"quantize is {kind!r}; expected {', '.join(map(repr, QUANTIZED))}, or nothing"
        )


def quantise(network: LlavaNetwork, kind: str) -> None:
    """Quantises linear layers of `network` in place, one after the other.

    `kind` is a key of `QUANTIZED`. A network whose layers a checkpoint holds in 4 bits stays as it
    is for "int4". Raises InputError if the device or the type is not supported, or if the network
    is quantised already.
    """
    decoder = network.language_model
    if decoder.device.type not in DEVICES or decoder.dtype not in DTYPES:
        raise InputError(
            f"quantize={kind!r} is for bfloat16 or float32 on a CPU or an NVIDIA GPU; this model "
            f"is {decoder.dtype} on {decoder.device.type}: load it with dtype='bfloat16' there"
        )
    stored = stored_kind(network)
    if stored == kind == "int4":
        return
    if stored is not None:
        raise InputError(f"quantize={kind!r}: the checkpoint is quantised already; leave it out")
    head, layer = QUANTIZED[kind]
    decoder.add_module("head", head(decoder.head))
    _quantise_layers(network if kind in WHOLE else decoder, layer)


def stored_kind(network: nn.Module) -> str | None:
    """Returns what the layers that a checkpoint holds quantised are: "int8", "int4" or None."""
    if any(isinstance(part, Int4Linear) for part in network.modules()):
        return "int4"
    return "int8" if any(isinstance(part, Int8Linear) for part in network.modules()) else None


def _quantise_layers(module: nn.Module, quantise: Quantise) -> None:
    for part in [part for part in module.modules() if not isinstance(part, nn.Linear)]:
        for name in [name for name, _ in part.named_children()]:
            child = part.get_submodule(name)
            if type(child) is nn.Linear:
                part.add_module(name, quantise(child))
