"""Starts -> the network without its large tensors, and where this process's rows come from.

A large tensor is a weight or a bias of a linear layer, an embedding or a convolution. One that no
start holds is random: once there is memory for its part, every process draws the numbers that one
process would draw from the same seed, tensor by tensor, and keeps its rows.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.overrides import TorchFunctionMode

from onevision.accelerate.empty import without_memory
from onevision.checkpoint.files import StoredTensor
from onevision.config import ModelConfig
from onevision.model.llava import LlavaNetwork
from onevision.train.stage import Stage
from onevision.train.start import DRAWN, Starts, check_starts, draw, drawn_modules, find_weights

# What is smaller is never shared: norms and learned tokens keep their values.
LARGE_NUMEL = 1 << 15


@dataclass(frozen=True, kw_only=True)
class Draws:
    """The random tensors of a network in the order in which one process draws them.

    Those that a start holds are drawn as well, and dropped.
    """

    # Name, name in its module, and shape of each; of a tied weight the last draw counts.
    tensors: Sequence[tuple[str, str, torch.Size]] = ()
    # Of torch's global stream, before the first.
    state: Tensor | None = None
    # Whether the stream has passed them already, for what is drawn after them.
    passed: bool = False

    def replay(self) -> Iterator[tuple[str, Tensor]]:
        """Yields each tensor by name, in memory that the next one overwrites."""
        if self.state is None:
            return
        after = torch.get_rng_state()
        torch.set_rng_state(self.state)
        room = torch.empty(max((shape.numel() for _, _, shape in self.tensors), default=0))
        for name, own, shape in self.tensors:
            yield name, draw(room[: shape.numel()].view(shape), own)
        if self.passed:
            torch.set_rng_state(after)


@dataclass(frozen=True, kw_only=True)
class HollowNetwork:
    """A network whose large tensors have no memory, and what will fill them, by name."""

    network: LlavaNetwork
    stored: Mapping[str, StoredTensor] = field(default_factory=dict[str, StoredTensor])
    draws: Draws = field(default_factory=Draws)


def start_hollow(
    stage: Stage, config: ModelConfig, starts: Starts, *, draws_later: bool
) -> HollowNetwork:
    """Returns the network with which a stage begins, as `start_network` does, without its weights.

    `draws_later` says whether anything else draws from torch's global stream before or after the
    weights are filled in: then the stream ends where it does in one process. Otherwise nothing is
    drawn if the starts hold every weight. Raises CheckpointError, ConfigError.
    """
    check_starts(stage, config, starts)
    network = network_without_memory(config)
    stored = find_weights(network, stage, starts)
    if not draws_later and stored.keys() >= dict(network.named_parameters()).keys():
        return HollowNetwork(network=network, stored=stored)
    largest = max(parameter.numel() for parameter in network.parameters())
    with _large_tensors_dropped(), _SharedMemory(largest) as shared:
        network = LlavaNetwork(config)
    place = shared.room.untyped_storage().data_ptr()
    held = [p for p in network.parameters() if not p.is_meta]
    assert all(p.untyped_storage().data_ptr() != place for p in held), "modules of DRAWN alone"
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    tensors = [
        (names[id(parameter)], own, parameter.shape)
        for module in drawn_modules(network)
        for own, parameter in module.named_parameters(recurse=False)
    ]
    draws = Draws(tensors=tensors, state=torch.get_rng_state())
    if draws_later:
        deque(draws.replay(), maxlen=0)
        draws = replace(draws, passed=True)
    return HollowNetwork(network=network, stored=stored, draws=draws)


def network_without_memory(config: ModelConfig) -> LlavaNetwork:
    """Returns a network all of whose tensors are without memory, as one to be restored is."""
    with without_memory():
        return LlavaNetwork(config)


class _SharedMemory(TorchFunctionMode):
    """Gives every large tensor that a constructor makes the same memory, one after the other.

    Allocated one by one they would leave the heap in fragments as large as the model.
    """

    def __init__(self, largest: int) -> None:
        super().__init__()
        self.room = torch.empty(largest)

    # Any: whatever torch's functions take and return.
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Calls a function, or answers `torch.empty((out, in))` with a view."""
        del types
        if func is torch.empty and args and isinstance(args[0], tuple):
            size = torch.Size(args[0])
            if LARGE_NUMEL < size.numel() <= self.room.numel():
                return self.room[: size.numel()].view(size)
        return func(*args, **(kwargs or {}))


@contextmanager
def _large_tensors_dropped() -> Iterator[None]:
    """Drops the large tensors of every module as soon as it is made and given its place.

    So modules are built for real, one after the other: what is not large (norms, learned tokens,
    buffers) has the values of its constructor, and the random stream advances as ever.
    """

    def drop(_parent: nn.Module, _name: str, module: nn.Module | None) -> None:
        if isinstance(module, DRAWN):
            for name, one in list(module.named_parameters(recurse=False)):
                empty = torch.empty_like(one, device="meta")
                setattr(module, name, nn.Parameter(empty, requires_grad=one.requires_grad))

    hook = register_module_module_registration_hook(drop)
    try:
        yield
    finally:
        hook.remove()
