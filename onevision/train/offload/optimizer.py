"""An optimiser whose moments lie in host memory -> its steps, taken piece by piece on the device.

    moments of some weights -> device; the optimiser steps on those weights; moments -> host

Arithmetic is the optimiser's own, on the device, so a step has the bits that it has without. Copies
are on the stream that computes: they are not hidden behind arithmetic.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

# The numbers of weights whose moments are on the device together, unless one weight has more.
PIECE_NUMBERS = 2**26


class Optimizer(Protocol):
    """What is asked of an optimiser."""

    # Any: what an optimiser stores of a group.
    param_groups: list[dict[str, Any]]

    @property
    def state(self) -> dict[Tensor, dict[str, Tensor]]:
        """The moments of every weight, by their names."""
        ...

    def step(self) -> object:
        """Updates every weight of the groups by its gradient."""
        ...

    def zero_grad(self) -> None:
        """Clears all gradients."""
        ...


def zeros_in_host_memory(weight: Tensor) -> Tensor:
    """Returns zeros of the shape and type of `weight`, pinned if that is on a GPU."""
    return torch.zeros(weight.shape, dtype=weight.dtype, pin_memory=weight.is_cuda)


class OffloadedOptimizer:
    """An optimiser whose state was allocated by `zeros_in_host_memory`."""

    def __init__(self, optimizer: Optimizer, *, piece_numbers: int = PIECE_NUMBERS) -> None:
        self.optimizer, self.piece_numbers = optimizer, piece_numbers
        self.param_groups, self.state = optimizer.param_groups, optimizer.state

    def step(self) -> None:
        """Updates every weight by its gradient."""
        wholes: list[list[nn.Parameter]] = [group["params"] for group in self.param_groups]
        for group in self.param_groups:
            group["params"] = list[nn.Parameter]()
        try:
            for group, weights in zip(self.param_groups, wholes, strict=True):
                for piece in cut(weights, numbers=self.piece_numbers):
                    group["params"] = piece
                    self._step_piece(piece)
                group["params"] = list[nn.Parameter]()
        finally:
            for group, weights in zip(self.param_groups, wholes, strict=True):
                group["params"] = weights
        if any(weight.is_cuda for weights in wholes for weight in weights):
            torch.cuda.current_stream().synchronize()  # the host may read the moments

    def zero_grad(self) -> None:
        """Clears all gradients."""
        self.optimizer.zero_grad()

    def _step_piece(self, piece: Sequence[nn.Parameter]) -> None:
        states = [(weight, self.state[weight]) for weight in piece]
        # Counts of steps have no axis and stay.
        held = [{name: one for name, one in state.items() if one.dim()} for _, state in states]
        try:
            for (weight, state), moments in zip(states, held, strict=True):
                for name, moment in moments.items():
                    near = torch.empty_like(moment, device=weight.device)
                    state[name] = near.copy_(moment, non_blocking=True)
            self.optimizer.step()
            for (_, state), moments in zip(states, held, strict=True):
                for name, moment in moments.items():
                    moment.copy_(state[name], non_blocking=True)
        finally:
            for (_, state), moments in zip(states, held, strict=True):
                state.update(moments)


def cut(weights: Sequence[nn.Parameter], *, numbers: int) -> Iterator[list[nn.Parameter]]:
    """Yields weights in pieces of so many numbers at most; a larger one is a piece of its own."""
    piece, held = list[nn.Parameter](), 0
    for weight in weights:
        if piece and held + weight.numel() > numbers:
            yield piece
            piece, held = list[nn.Parameter](), 0
        piece.append(weight)
        held += weight.numel()
    if piece:
        yield piece
