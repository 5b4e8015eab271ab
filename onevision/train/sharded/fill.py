"""A divided network without memory -> the same with this process's part of every tensor.

Only its rows are read from the files. Of an int8 weight below an adapter, which is not divided,
all of it is read and rounded, one layer at a time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onevision.checkpoint.files import StoredTensor, check_finite
from onevision.errors import OneVisionError, TrainingError
from onevision.model.llava import LlavaNetwork
from onevision.train.learner import Learner
from onevision.train.lora.int8 import Int8FrozenLinear, quantise
from onevision.train.lora.layers import adapted_layers
from onevision.train.parallel import Processes
from onevision.train.sharded.hollow import HollowNetwork
from onevision.train.sharded.places import Part, cut, cut_columns, own_part

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
            random[name].own.values.copy_(cut(tensor, random[name].own))
    for target in targets:
        if target.source in hollow.stored:
            _read(hollow.stored[target.source], target, verify=verify)
        elif target.source in held:
            target.own.values.copy_(cut(held[target.source], target.own))


@dataclass(frozen=True, kw_only=True)
class Target:
    """The memory of this process's part of a tensor."""

    source: str  # the tensor's name in the network that was started, without adapters
    own: Part
    # If it is the number of a part of an int8 weight, as `quantise` returns them.
    part: int | None = None


def _find_targets(network: LlavaNetwork) -> list[Target]:
    layers, targets = adapted_layers(network), list[Target]()
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        module, _, own = name.rpartition(".")
        plain = module.removesuffix(".base")
        below = module != plain and plain in layers
        number = None
        if below and own != "bias" and isinstance(layers[plain].base, Int8FrozenLinear):
            source, number = f"{plain}.weight", INT8_PARTS.index(own)
        else:
            source = f"{plain}.{own}" if below else name
        targets.append(Target(source=source, own=own_part(tensor), part=number))
    return targets


def _read(stored: StoredTensor, target: Target, *, verify: bool) -> None:
    own = target.own
    count = len(own.values) if own.values.dim() else 1
    rows = stored.read() if target.part is not None else stored.read_rows(own.first_row, count)
    if verify:
        check_finite(rows, stored.name, where=stored.path)
    if target.part is None:
        own.values.copy_(cut_columns(rows, own))
    else:
        own.values.copy_(cut(quantise(rows.float())[target.part], own))
