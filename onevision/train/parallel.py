"""Several processes that train one model: who they are, and how they add up what each has found.

Started by `torchrun --nproc-per-node N`, which says in the environment who each process is; without
it there is one. Two ways to share the work:

    replicate   every process holds the whole model; gradients are added up. On a CPU, two
                processes of one thread outrun one of two.
    shard       FSDP2: every process holds a slice of every parameter, gradient and moment, and
                gathers a block's weights while the block runs. With `replicas` > 1 (HSDP) the
                slices are held once per replica.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from onevision.errors import ConfigError
from onevision.train.snapshots import Shard

Sharing = Literal["replicate", "shard"]
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Which of `count` processes this is, and how they share the model."""

    rank: int = 0
    count: int = 1
    sharing: Sharing = "replicate"
    device: torch.device = CPU

    @property
    def shards(self) -> bool:
        """Whether every process holds a slice of the model only."""
        return self.sharing == "shard" and self.count > 1

    def total(self, *values: float) -> list[float]:
        """Add up each value over all processes."""
        if self.count == 1:
            return list(values)
        column = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(column)
        return column.tolist()

    def give(self, content: bytes | None) -> bytes:
        """Give what the first process has to all of them; the others pass None."""
        if self.count == 1:
            assert content is not None
            return content
        (length,) = self.total(0.0 if content is None else float(len(content)))
        held = torch.empty(int(length), dtype=torch.uint8)
        if content is not None:
            held.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        dist.broadcast(held, src=0)
        return held.numpy().tobytes()

    @property
    def device_name(self) -> str:
        """What this process's device is called by its driver: "NVIDIA H200"; else "CPU"."""
        cuda = self.device.type == "cuda"
        return torch.cuda.get_device_name(self.device) if cuda else self.device.type.upper()

    def describe(self) -> str:
        """Name the devices: "8 x NVIDIA H200"."""
        return self.device_name if self.count == 1 else f"{self.count} x {self.device_name}"

    def all_well(self, problem: Exception | None = None) -> bool:
        """Whether no process has a problem; waits for all of them."""
        return self.total(float(problem is not None))[0] == 0

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes; one that is missing counts as 0.

        Of a sharded model this is done already, while it runs backwards.
        """
        if self.count == 1 or self.shards:
            return
        parameters = list(parameters)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        for parameter, piece in zip(
            parameters, flat.split([p.numel() for p in parameters]), strict=True
        ):
            parameter.grad = piece.view_as(parameter)

    def gradient_norm(self, parameters: Sequence[nn.Parameter]) -> float:
        """Return the norm of all gradients together."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients) if gradients else torch.zeros(())
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def join_processes(
    *, sharing: Sharing = "replicate", device: str = "cpu", timeout_seconds: float = 600.0
) -> Processes:
    """Meet the other processes that torchrun started, if it did.

    One that dies or stays away for `timeout_seconds` ends all of them.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    place = torch.device(device)
    if place.type == "cuda":
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(place)
    if count == 1:
        return Processes(device=place)
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout_seconds))
    return Processes(rank=dist.get_rank(), count=count, sharing=sharing, device=place)


def leave_processes() -> None:
    """Part from the other processes, once all have come to their end.

    One that left early would break the connections of the others.
    """
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def shard_model(
    root: nn.Module, blocks: Iterable[nn.Module], processes: Processes, *, replicas: int = 1
) -> None:
    """Divide the parameters of `root` among the processes, block by block (FSDP2, HSDP).

    Weights stay fp32, run in bf16 on CUDA, and gradients are added in fp32. Raises ConfigError
    where `replicas` does not divide the number of processes.
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
    for block in blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(root, mesh=mesh, mp_policy=policy)


def own_rows(tensor: Tensor) -> Shard | None:
    """Return this process's rows of a tensor; None where another process writes the same rows.

    FSDP2 divides the first axis as `torch.chunk` does: all but the last slices are equally long.
    """
    if not isinstance(tensor, DTensor):
        if dist.is_initialized() and dist.get_rank() > 0:
            return None
        return Shard(rows=tensor)
    mesh = tensor.device_mesh
    if mesh.ndim == 2 and mesh.get_local_rank("replicate") > 0:
        return None
    return Shard(rows=tensor.to_local(), first=first_row(tensor))


def first_row(tensor: DTensor) -> int:
    """Return the number of this process's first row in the whole tensor."""
    mesh = tensor.device_mesh
    dimension = mesh.ndim - 1  # the one that shards
    rows = -(-tensor.shape[0] // mesh.size(dimension))
    return min(tensor.shape[0], rows * mesh.get_local_rank(dimension))


def whole(tensor: Tensor) -> Tensor:
    """Return the whole of a tensor on every process."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
