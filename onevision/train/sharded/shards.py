"""A learner -> the same, its parameters divided among the processes by FSDP2."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from onevision.errors import ConfigError
from onevision.train.parallel import Processes
from onevision.train.tensor.mesh import DATA


def shard_model(
    root: nn.Module,
    blocks: Iterable[nn.Module],
    processes: Processes,
    *,
    replicas: int = 1,
    divided: Iterable[nn.Module] = (),
) -> None:
    """Divides the parameters of `root` among the processes, block by block (FSDP2, HSDP).

    The blocks in `divided` are divided among partners already, and so only among the processes
    that hold the same parts. Weights stay fp32, run in bf16 on CUDA, and gradients are summed in
    fp32. Raises ConfigError if `replicas` does not divide the number of processes.
    """
    if not processes.shards:
        return
    if processes.count % replicas:
        raise ConfigError(
            f"replicas is {replicas}; expected a divisor of the {processes.count} processes"
        )
    shape = (replicas, processes.count // replicas)
    mesh = init_device_mesh(processes.device.type, shape, mesh_dim_names=("replicate", "shard"))
    if replicas == 1:
        mesh = mesh["shard"]
    policy = MixedPrecisionPolicy()
    if processes.device.type == "cuda":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    among = dict.fromkeys(divided, mesh if processes.mesh is None else processes.mesh[DATA])
    for block in blocks:
        fully_shard(block, mesh=among.get(block, mesh), mp_policy=policy)
    fully_shard(root, mesh=mesh, mp_policy=policy)
