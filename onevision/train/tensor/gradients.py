"""The gradients that a backward pass has left in each process -> those of the whole step.

    a part of a layer           summed over the processes that hold the same part
    what a group has in common  summed over groups; averaged within each, where all compute the same
                                up to rounding, so that they never drift apart

FSDP2 has done so with all that it divides among all processes. Of the layers in a decoder block it
sums over groups; norms beside them are averaged here.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from onevision.train.tensor.mesh import DATA, TENSOR


@torch.no_grad()
def sum_divided(parameters: Sequence[nn.Parameter], mesh: DeviceMesh) -> None:
    """Replaces every gradient by that of the step, in place; each parameter must have one."""
    common, by_place, beside = list[Tensor](), list[Tensor](), list[Tensor]()
    for parameter in parameters:
        gradient = parameter.grad
        assert gradient is not None, "the trainer fills in zeros"
        if not isinstance(parameter, DTensor):
            common.append(gradient)
            continue
        assert isinstance(gradient, DTensor)
        if gradient.placements != parameter.placements:  # of what a group has in common, in parts
            gradient = gradient.redistribute(placements=parameter.placements)
            parameter.grad = gradient
        match parameter.device_mesh.mesh_dim_names:
            case (name,) if name == TENSOR:
                by_place.append(gradient.to_local())
            case (name,) if name == DATA:
                beside.append(gradient.to_local())
    count = mesh[TENSOR].size()
    _sum(common, dist.group.WORLD, divisor=count)
    _sum(by_place, mesh[DATA].get_group(), divisor=1)
    _sum(beside, mesh[TENSOR].get_group(), divisor=count)


def _sum(tensors: Sequence[Tensor], group: dist.ProcessGroup | None, *, divisor: int) -> None:
    """Sums tensors over a group, in place, and divides them."""
    if not tensors:
        return
    flat = torch.cat([one.flatten() for one in tensors])
    dist.all_reduce(flat, group=group)
    flat /= divisor
    for tensor, piece in zip(tensors, flat.split([one.numel() for one in tensors]), strict=True):
        tensor.copy_(piece.view_as(tensor))
