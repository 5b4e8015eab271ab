"""Two networks of one architecture -> the same two, with the layers that are equal held once."""

import torch
from torch import nn

from onevision.accelerate.packed import named_tensors


def share_layers(network: nn.Module, base: nn.Module) -> int:
    """Replaces every layer of `network` that equals the one of `base` in its place by that one.

    Both are accelerated in the same way, and for inference alone: layers keep no state between
    calls. Returns the bytes of the layers that `network` has to itself.
    """
    own_bytes = 0
    theirs = dict(base.named_modules())
    for place, parent in list(network.named_modules()):
        for name, layer in list(parent.named_children()):
            if next(layer.children(), None) is not None:
                continue
            other = theirs.get(f"{place}.{name}".lstrip("."))
            if other is not None and type(other) is type(layer) and _are_equal(layer, other):
                parent.add_module(name, other)
            else:
                own_bytes += sum(t.numel() * t.element_size() for _, t in named_tensors(layer))
    return own_bytes


def _are_equal(layer: nn.Module, other: nn.Module) -> bool:
    ours, theirs = dict(named_tensors(layer)), dict(named_tensors(other))
    return ours.keys() == theirs.keys() and all(
        mine.dtype == theirs[name].dtype and torch.equal(mine, theirs[name])
        for name, mine in ours.items()
    )
