"""Muon in single precision: torch's own multiplies in bf16, whatever the weights are.

A processor without bf16 instructions takes some twenty times as long for that; what is learned is
the same but for rounding.
"""

from collections.abc import Callable

import torch
from torch import Tensor

# The quintic that torch's Muon iterates.
A, B, C = 3.4445, -4.7750, 2.0315
NUM_ITERATIONS = 5
SMALLEST_NORM = 1e-7


class WholeMuon(torch.optim.Muon):
    """torch's Muon with Nesterov momentum and steps of AdamW's size, in the weights' precision."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Change every weight by its gradient."""
        assert closure is None, "a gradient is taken once"
        for group in self.param_groups:
            momentum, rate = group["momentum"], group["lr"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                average = self.state[weight]["momentum_buffer"]
                average.lerp_(weight.grad, 1 - momentum)
                direction = even_out(weight.grad.lerp(average, momentum))
                weight.mul_(1 - rate * group["weight_decay"])
                weight.add_(direction, alpha=-0.2 * rate * max(weight.shape) ** 0.5)


def even_out(matrix: Tensor) -> Tensor:
    """Return a matrix [M, N] with the same singular vectors and singular values of about one."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=SMALLEST_NORM)
    for _ in range(NUM_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
    return x.T if tall else x
