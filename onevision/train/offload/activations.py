"""A block -> the same block, whose activations lie in host memory until its backward pass.

What autograd saves within the block's forward pass is copied to the host, pinned if the device is a
GPU, and copied back when the backward pass asks for it. Around a block that is recomputed these are
its inputs alone. Copies are on the stream that computes: memory is never freed too early, and they
are not hidden behind arithmetic.
"""

from collections.abc import Collection
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

# A smaller tensor stays: norms' statistics, random states.
SMALLEST_NUMEL = 1 << 12


def offload_block(block: nn.Module) -> None:
    """Makes the forward pass of `block` move what it saves, in place.

    Weights, and copies of them in another type, stay: they are known by their shapes.
    """
    run = block.forward

    def forward(*args: object, **kwargs: object) -> object:
        tensors = (*block.parameters(), *block.buffers())
        shapes = {shape for one in tensors for shape in (one.shape, one.shape[::-1])}
        mover = _Mover(shapes)
        with saved_tensors_hooks(mover.pack, _bring_back):
            y = run(*args, **kwargs)
        mover.moved.clear()  # autograd keeps the hook
        return y

    block.forward = forward


class _Held:
    """A tensor in host memory, and where it belongs."""

    def __init__(self, tensor: Tensor) -> None:
        near = tensor.detach()
        self.device = near.device
        self.host = torch.empty_like(near, device="cpu", pin_memory=near.is_cuda)
        self.host.copy_(near, non_blocking=True)
        self._near: ReferenceType[Tensor] | None = None

    def bring_back(self) -> Tensor:
        """Returns a copy on the device: the same one while it is in use."""
        near = None if self._near is None else self._near()
        if near is None:
            near = torch.empty_like(self.host, device=self.device)
            near.copy_(self.host, non_blocking=True)
            self._near = ref(near)
        return near


class _Mover:
    """Moves the tensors of one forward pass, each once however often it is saved."""

    def __init__(self, weights: Collection[torch.Size]) -> None:
        self.weights = weights
        # With the tensors themselves, so that their addresses stay theirs until the pass ends.
        self.moved: dict[tuple[object, ...], tuple[Tensor, _Held]] = {}

    def pack(self, tensor: Tensor) -> "Tensor | _Held":
        if tensor.numel() < SMALLEST_NUMEL or tensor.shape in self.weights:
            return tensor
        key = (
            *(tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype),
            tensor._version,
        )
        if key not in self.moved:
            self.moved[key] = (tensor, _Held(tensor))
        return self.moved[key][1]


def _bring_back(packed: "Tensor | _Held") -> Tensor:
    return packed.bring_back() if isinstance(packed, _Held) else packed
