"""A network without memory -> the same with this process's part of every tensor.

Only its rows are read from the files. Of a weight in few bits below an adapter, all of it is read
and rounded, one layer at a time.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from onevision.checkpoint.files import StoredTensor, check_finite
from onevision.errors import OneVisionError, TrainingError
from onevision.model.llava import LlavaNetwork
from onevision.train.learner import Learner
from onevision.train.lora.frozen import FrozenLinear
from onevision.train.lora.layers import LoraLinear, adapted_layers, row_lengths
from onevision.train.parallel import Processes
from onevision.train.sharded.hollow import HollowNetwork
from onevision.train.sharded.places import Part, cut, cut_columns, own_part


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
    given = hollow.stored.keys() | held
    random = {one.source: one for one in targets if one.source not in given}
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
    # Stores what is made of the whole tensor, if it is not kept as it is.
    store: Callable[[Tensor], object] | None = None


def _find_targets(network: LlavaNetwork) -> list[Target]:
    layers = adapted_layers(network)
    targets = [one for name, layer in layers.items() for one in _made_targets(name, layer)]
    made = {id(tensor) for layer in layers.values() for tensor in _made_tensors(layer)}
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if id(tensor) in made:
            continue
        module, _, own = name.rpartition(".")
        plain = module.removesuffix(".base")
        below = module != plain and plain in layers
        targets.append(Target(source=f"{plain}.{own}" if below else name, own=own_part(tensor)))
    return targets


def _made_targets(name: str, layer: LoraLinear) -> Iterator[Target]:
    """Yields what is made of the weight below an adapter: one in few bits, DoRA's lengths."""
    source = f"{name}.weight"
    if isinstance(layer.base, FrozenLinear):
        first = layer.base.get_buffer(layer.base.parts[0])
        yield Target(source=source, own=own_part(first), store=partial(_store, layer.base))
    if layer.magnitude is not None:
        lengths = layer.magnitude.detach()
        yield Target(
            source=source,
            own=own_part(lengths),
            store=lambda weight: lengths.copy_(row_lengths(weight)),
        )


def _store(layer: FrozenLinear, weight: Tensor) -> None:
    """Rounds a whole weight, and keeps this process's part of what is stored of it."""
    for name, tensor in zip(layer.parts, layer.quantise(weight), strict=True):
        own = own_part(layer.get_buffer(name))
        own.values.copy_(cut(tensor, own))


def _made_tensors(layer: LoraLinear) -> Iterator[Tensor]:
    """Yields the tensors that the targets of `_made_targets` fill."""
    if isinstance(layer.base, FrozenLinear):
        yield from (layer.base.get_buffer(part) for part in layer.base.parts)
    if layer.magnitude is not None:
        yield layer.magnitude


def _read(stored: StoredTensor, target: Target, *, verify: bool) -> None:
    own = target.own
    count = len(own.values) if own.values.dim() else 1
    rows = stored.read() if target.store is not None else stored.read_rows(own.first_row, count)
    if verify:
        check_finite(rows, stored.name, where=stored.path)
    if target.store is None:
        own.values.copy_(cut_columns(rows, own))
    else:
        target.store(rows.to(own.values.device))
