"""Muon: the momentum of a matrix, its singular values made equal, is the step it takes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from onevision.train.offload.optimizer import PIECE_NUMBERS, cut
from onevision.train.parallel import ALONE, Processes

# The quintic that torch's Muon iterates.
A, B, C = 3.4445, -4.7750, 2.0315
NUM_ITERATIONS = 5
SMALLEST_NORM = 1e-7


class Muon(torch.optim.Muon):
    """torch's Muon with Nesterov momentum and steps of AdamW's size, divided among processes.

    All have the same gradients; each orthogonalises some of the matrices, and they exchange the
    results, which are those of one process. Products are of `dtype`: torch's own are bf16, which
    takes a CPU without bf16 instructions some twenty times as long as fp32.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        *,
        weight_decay: float,
        lr: float = 1e-3,
        dtype: torch.dtype = torch.bfloat16,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__(
            parameters, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        self.dtype, self.processes = dtype, processes

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Updates every weight by its gradient."""
        assert closure is None, "a gradient is taken once"
        for group in self.param_groups:
            learning = [weight for weight in group["params"] if weight.grad is not None]
            for weights in cut(learning, numbers=PIECE_NUMBERS):  # whose directions are held
                self._step_together(weights, group)

    def _step_together(self, weights: Sequence[nn.Parameter], group: Mapping[str, Any]) -> None:
        directions = [self._look_ahead(weight, group["momentum"]) for weight in weights]
        doers = share_out([cost_of(x) for x in directions], self.processes.count)
        for place, (x, doer) in enumerate(zip(directions, doers, strict=True)):
            is_mine = doer == self.processes.rank
            directions[place] = self._orthogonal(x) if is_mine else torch.zeros_like(x)
        self.processes.sum_tensors(directions)
        for weight, direction in zip(weights, directions, strict=True):
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.add_(direction, alpha=-0.2 * group["lr"] * max(weight.shape) ** 0.5)

    def _orthogonal(self, x: Tensor) -> Tensor:
        return orthogonalise(x.to(self.dtype)).to(x.dtype)

    def _look_ahead(self, weight: nn.Parameter, momentum: float) -> Tensor:
        """Moves a weight's average gradient, and returns where Nesterov's rule looks."""
        assert weight.grad is not None
        average = self.state[weight]["momentum_buffer"]
        average.lerp_(weight.grad, 1 - momentum)
        return weight.grad.lerp(average, momentum)


def orthogonalise(matrix: Tensor) -> Tensor:
    """Returns a matrix [M, N] with the same singular vectors and singular values of about one."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=SMALLEST_NORM)
    for _ in range(NUM_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
    return x.T if tall else x


def cost_of(matrix: Tensor) -> int:
    """Returns a number that grows as the products of `orthogonalise`."""
    small, large = sorted(matrix.shape)
    return small * small * (2 * large + small)


def share_out(costs: list[int], count: int) -> list[int]:
    """Returns which of `count` processes does each: the dearest first, to the one with least."""
    loads, doers = [0] * count, [0] * len(costs)
    for place in sorted(range(len(costs)), key=lambda place: -costs[place]):
        doers[place] = loads.index(min(loads))
        loads[doers[place]] += costs[place]
    return doers
