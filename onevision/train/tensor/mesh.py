"""The groups of processes that divide each layer -> a mesh of all processes: data x tensor."""

from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

DATA, TENSOR = "data", "tensor"


def make_mesh(group: dist.ProcessGroup, device_type: str, *, timeout_seconds: float) -> DeviceMesh:
    """Returns the mesh whose rows are groups such as `group`, of neighbouring processes.

    Processes of a row divide each layer; those of a column hold the same parts of them.
    """
    table = torch.arange(dist.get_world_size()).view(-1, group.size())
    data, _ = dist.new_subgroups_by_enumeration(
        table.T.tolist(), timeout=timedelta(seconds=timeout_seconds)
    )
    assert isinstance(data, dist.ProcessGroup), "every process is in a column"
    return DeviceMesh.from_group(
        [data, group], device_type, mesh=table, mesh_dim_names=(DATA, TENSOR)
    )
