"""A divided network without memory -> the same with this process's rows of every tensor.

Only those rows are read from the files. Of an int8 weight below an adapter, which is not divided,
all of it is read and rounded, one layer at a time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from onevision.checkpoint.files import StoredTensor, check_finite
from onevision.errors import OneVisionError, TrainingError
from onevision.model.llava import LlavaNetwork
from onevision.train.learner import Learner
from onevision.train.lora.int8 import Int8FrozenLinear, quantise
from onevision.train.lora.layers import adapted_layers
from onevision.train.parallel import Processes, first_row
from onevision.train.sharded.hollow import HollowNetwork

# The buffers of an int8 weight, as `quantise` returns them.
INT8_PARTS = ("weight", "scale")


def held_values(network: nn.Module) -> dict[str, Tensor]:
    """Returns the tensors of a hollow network that have memory, by name: norms, new adapters."""
    named = (*network.named_parameters(), *network.named_buffers())
    return {name: tensor.detach() for name, tensor in named if not tensor.is_meta}


def allocate(learner: Learner, device: torch.device) -> None:
    """Gives every tensor of a divided learner memory on a device; its content is undefined."""
    decoder = learner.network.language_model
    tied = decoder.head.weight is decoder.embedding.weight
    learner.to_empty(device=device)
    if tied:  # `to_empty` makes two tensors of one
        decoder.head.weight = decoder.embedding.weight


def fill(
    network: LlavaNetwork, hollow: HollowNetwork, held: Mapping[str, Tensor], processes: Processes,
    *, verify: bool, check_files: Callable[[], object] | None = None,
) -> None:  # fmt: skip
    """Fills the tensors of an allocated network; every process calls it.

    `held` is what `held_values` returned before the network was divided. With `verify`, the rows
    that are read must be finite; `check_files` is called last. Raises CheckpointError, and
    TrainingError on the processes whose own rows were right.
    """
    problem: OneVisionError | None = None
    try:
        _fill(network, hollow, held, verify=verify)
        if check_files is not None:  # last: a number that is not finite says more
            check_files()
    except OneVisionError as error:
        problem = error
    if not processes.all_succeeded(problem):
        raise problem or TrainingError("another process could not load its rows; see its message")


@torch.no_grad()
def _fill(
    network: LlavaNetwork, hollow: HollowNetwork, held: Mapping[str, Tensor], *, verify: bool
) -> None:
    targets = _find_targets(network)
    random = {one.source: one for one in targets if one.source not in hollow.stored.keys() | held}
    for name, tensor in hollow.draws.replay():
        if name in random:
            random[name].rows.copy_(_cut(tensor, random[name]))
    for target in targets:
        if target.source in hollow.stored:
            _read(hollow.stored[target.source], target, verify=verify)
        elif target.source in held:
            target.rows.copy_(_cut(held[target.source], target))


@dataclass(frozen=True, kw_only=True)
class Target:
    """The memory of this process's rows of a tensor."""

    source: str  # the tensor's name in the network that was started, without adapters
    rows: Tensor
    first: int = 0
    # If it is the number of a part of an int8 weight, as `quantise` returns them.
    part: int | None = None


def _find_targets(network: LlavaNetwork) -> list[Target]:
    layers, targets = adapted_layers(network), list[Target]()
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        module, _, own = name.rpartition(".")
        plain = module.removesuffix(".base")
        below = module != plain and plain in layers
        rows, first = tensor, 0
        if isinstance(tensor, DTensor):
            rows, first = tensor.to_local(), first_row(tensor)
        if below and own != "bias" and isinstance(layers[plain].base, Int8FrozenLinear):
            part = INT8_PARTS.index(own)
            targets.append(Target(source=f"{plain}.weight", rows=rows, part=part))
        else:
            source = f"{plain}.{own}" if below else name
            targets.append(Target(source=source, rows=rows, first=first))
    return targets


def _cut(tensor: Tensor, target: Target) -> Tensor:
    if not tensor.dim():
        return tensor
    return tensor[target.first : target.first + len(target.rows)]


def _read(stored: StoredTensor, target: Target, *, verify: bool) -> None:
    count = len(target.rows) if target.rows.dim() else 1
    rows = stored.read() if target.part is not None else stored.read_rows(target.first, count)
    if verify:
        check_finite(rows, stored.name, where=stored.path)
    target.rows.copy_(rows if target.part is None else quantise(rows.float())[target.part])
