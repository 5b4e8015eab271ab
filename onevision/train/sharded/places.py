"""A tensor that processes divide -> the part that this one holds, and where it lies in the whole.

A divided tensor is a DTensor: by rows among the processes of FSDP2, by rows or by columns among
those of a tensor group, or both: then FSDP2 divides the rows of what a group's process holds.
"""

from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate

from onevision.train.saving.draft import Shard


@dataclass(frozen=True, kw_only=True)
class Part:
    """This process's part of a tensor."""

    values: Tensor  # memory of its own, or the whole tensor
    # Of the whole tensor, the row and the column that `values` begin with.
    first_row: int = 0
    first_column: int = 0
    # Whether another process holds the same values and comes before this one.
    is_copy: bool = False


def own_part(tensor: Tensor) -> Part:
    """Returns this process's part of a tensor; its values share the tensor's memory.

    Rows are divided as `torch.chunk` does: all parts but the last have equal length.
    """
    if not isinstance(tensor, DTensor):
        return Part(values=tensor, is_copy=dist.is_initialized() and dist.get_rank() > 0)
    mesh = tensor.device_mesh
    is_copy = int(mesh.mesh.min()) > 0  # a mesh of the first process holds the same
    row, column, rows = 0, 0, tensor.shape[0]
    for dimension in reversed(range(mesh.ndim)):  # the last one has divided first
        placement, number = tensor.placements[dimension], mesh.get_local_rank(dimension)
        if placement.is_replicate():
            is_copy |= number > 0
            continue
        by_columns = placement.is_shard(1)
        size = -(-(tensor.shape[1] if by_columns else rows) // mesh.size(dimension))
        if by_columns:
            column += number * size
        else:
            begin = min(rows, number * size)
            row, rows = row + begin, min(size, rows - begin)
    values = tensor.to_local()
    return Part(values=values, first_row=row, first_column=column, is_copy=is_copy)


def own_shard(tensor: Tensor) -> Shard | None:
    """Returns what this process writes of a tensor; None if another one writes the same."""
    part = own_part(tensor)
    if part.is_copy:
        return None
    return Shard(rows=part.values, first=part.first_row, first_column=part.first_column)


def cut(tensor: Tensor, part: Part) -> Tensor:
    """Returns the values of a whole tensor that belong to a part."""
    if not tensor.dim():
        return tensor
    return cut_columns(tensor.narrow(0, part.first_row, len(part.values)), part)


def cut_columns(rows: Tensor, part: Part) -> Tensor:
    """Returns what belongs to a part of its rows, which are whole."""
    if rows.dim() < 2:
        return rows
    return rows.narrow(1, part.first_column, part.values.shape[1])


def whole(tensor: Tensor) -> Tensor:
    """Returns a whole tensor on every process."""
    if not isinstance(tensor, DTensor):
        return tensor
    for dimension in range(tensor.device_mesh.ndim - 1):  # torch warns of two at a time
        placements = list(tensor.placements)
        placements[dimension] = Replicate()
        tensor = tensor.redistribute(placements=placements)
    return tensor.full_tensor()
