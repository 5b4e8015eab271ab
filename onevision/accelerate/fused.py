"""Linear layers of the same input, joined: one product in place of several, for inference.

The layers stay and keep their names; their weights become views of the joined one, so nothing is
held twice.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

JOINED = (("query", "key", "value"), ("gate", "up"))


class Joined(nn.Module):
    """Several linear layers of the same input as one."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.widths = [layer.out_features for layer in layers]
        whole = nn.Linear(
            layers[0].in_features,
            sum(self.widths),
            bias=layers[0].bias is not None,
            device="meta",
        )
        for name in [name for name, _ in whole.named_parameters()]:
            own = [getattr(layer, name).data for layer in layers]
            joined = nn.Parameter(torch.cat(own), requires_grad=False)
            setattr(whole, name, joined)
            for layer, view in zip(layers, joined.data.split(self.widths), strict=True):
                getattr(layer, name).data = view
        self.whole: nn.Module = whole  # or what quantize.py makes of it

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of all layers [..., the sum of their widths] for `x` [..., D]."""
        return self.whole(x)


def fuse(module: nn.Module) -> None:
    """Join query, key and value, and gate and up, of every block inside `module`.

    For inference alone: weights that are views cannot be trained or sharded.
    """
    for part in list(module.modules()):
        for names in JOINED:
            layers = [part._modules.get(name) for name in names]
            linear = [layer for layer in layers if type(layer) is nn.Linear]
            if hasattr(part, "joined") and len(linear) == len(names):
                part.joined = Joined(linear)


def drop_joined(module: nn.Module) -> None:
    """Give up the single layers inside `module` whose work a joined one does."""
    for part in list(module.modules()):
        if isinstance(getattr(part, "joined", None), Joined):
            for name in (name for names in JOINED for name in names):
                if name in part._modules:
                    part._modules[name] = None
