"""The environment -> the processes that train one model, and how they sum what each computes.

`torchrun --nproc-per-node N` starts them and numbers them in the environment; without it there is
one. They share the work in one of two ways:

    replicate   every process holds the whole model; gradients are summed. On a CPU, two
                processes of one thread are faster than one of two.
    shard       FSDP2: every process holds a slice of every parameter, gradient and moment, and
                gathers a block's weights while the block runs. With `replicas` > 1 (HSDP) every
                replica holds all slices.

In either way, partners may work on the same samples: `context` processes that divide each sequence
(context/), or `tensor` processes that divide each layer of the language model (tensor/).
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from onevision.errors import ConfigError, OneVisionError, TrainingError
from onevision.train.guard import Watchdog
from onevision.train.tensor.gradients import sum_divided
from onevision.train.tensor.mesh import make_mesh

Sharing = Literal["replicate", "shard"]
CPU = torch.device("cpu")
# What the first process reports while the others wait for it.
WORKING, DONE, FAILED = 0.0, 1.0, 2.0
# Reports sent within the time after which a process without news gives up.
REPORTS_PER_PATIENCE = 8


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process's number among `count`, and how they share the model."""

    rank: int = 0
    count: int = 1
    sharing: Sharing = "replicate"
    device: torch.device = CPU
    # How many processes divide each sequence, or each layer; and this process's partners in that.
    context: int = 1
    tensor: int = 1
    group: dist.ProcessGroup | None = None
    # All processes, if some divide each layer: data x tensor.
    mesh: DeviceMesh | None = None

    @property
    def shards(self) -> bool:
        """Whether FSDP2 divides the model among all processes."""
        return self.sharing == "shard" and self.count > 1

    @property
    def divides(self) -> bool:
        """Whether every process holds only a part of the model."""
        return self.shards or self.tensor > 1

    @property
    def partners(self) -> int:
        """How many processes work on the same samples, this one included."""
        return self.context * self.tensor

    @property
    def waits(self) -> bool:
        """Whether others wait within a pass for what this process computes."""
        return self.shards or self.partners > 1

    @property
    def place(self) -> int:
        """This process's number among its partners."""
        return self.rank % self.partners

    @property
    def reader(self) -> int:
        """This process's number among all, as samples are dealt out: group after group in turn."""
        return self.place * (self.count // self.partners) + self.rank // self.partners

    @property
    def averaged(self) -> int:
        """Of how many processes a sharded model averages gradients that are to be summed."""
        return self.count // self.tensor if self.shards else 1

    def sum(self, *values: float) -> list[float]:
        """Returns the sum of each value over all processes."""
        if self.count == 1:
            return list(values)
        column = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(column)
        return column.tolist()

    def sum_rows(self, *values: float) -> list[float]:
        """Returns the sum over all groups, of each of which all processes have the same values."""
        return self.sum(*(value if self.place == 0 else 0.0 for value in values))

    def broadcast(self, content: bytes | None) -> bytes:
        """Returns the first process's content on all of them; the others pass None."""
        if self.count == 1:
            assert content is not None
            return content
        (length,) = self.sum(0.0 if content is None else float(len(content)))
        held = torch.empty(int(length), dtype=torch.uint8)
        if content is not None:
            held.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        dist.broadcast(held, src=0)
        return held.numpy().tobytes()

    @property
    def device_name(self) -> str:
        """The device's name by its driver, such as "NVIDIA H200"; otherwise "CPU"."""
        cuda = self.device.type == "cuda"
        return torch.cuda.get_device_name(self.device) if cuda else self.device.type.upper()

    def describe(self) -> str:
        """Returns a name for all devices: "8 x NVIDIA H200"."""
        return self.device_name if self.count == 1 else f"{self.count} x {self.device_name}"

    def all_succeeded(self, problem: Exception | None = None) -> bool:
        """Returns whether no process has a problem; waits for all of them."""
        return self.sum(float(problem is not None))[0] == 0

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces every gradient by its sum over all processes; a missing one counts as 0.

        The backward pass of a sharded model has done so already. What partners in dividing layers
        hold in common is summed over groups, and averaged within each.
        """
        parameters = list(parameters)
        if self.mesh is not None:
            sum_divided(parameters, self.mesh)
            return
        if self.count == 1 or self.shards:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        self.sum_tensors(gradients)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient

    def sum_tensors(self, tensors: list[Tensor]) -> None:
        """Replaces each of a list of tensors by its sum over all processes, in one exchange."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([one.flatten() for one in tensors])
        dist.all_reduce(flat)
        pieces = flat.split([one.numel() for one in tensors])
        tensors[:] = [piece.view_as(one) for piece, one in zip(pieces, tensors, strict=True)]


ALONE = Processes()


def join_processes(
    *,
    sharing: Sharing = "replicate",
    device: str = "cpu",
    timeout_seconds: float = 600.0,
    context: int = 1,
    tensor: int = 1,
) -> Processes:
    """Joins the other processes if torchrun started any.

    If one dies or stays away for `timeout_seconds`, all of them end. `context`, a divisor of their
    number, of them divide each sequence; or `tensor` of them each layer. Raises ConfigError for a
    device that is not here.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    place = _find_device(device, rank=int(os.environ.get("LOCAL_RANK", "0")), count=count)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if count == 1:
        return Processes(device=place)
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout_seconds))
    group: dist.ProcessGroup | None = None
    if context * tensor > 1:
        own, _ = dist.new_subgroups(context * tensor, timeout=timedelta(seconds=timeout_seconds))
        assert isinstance(own, dist.ProcessGroup), "every process is in a group"
        group = own
    mesh = None
    if group is not None and tensor > 1:
        mesh = make_mesh(group, place.type, timeout_seconds=timeout_seconds)
    return Processes(
        rank=dist.get_rank(),
        count=count,
        sharing=sharing,
        device=place,
        context=context,
        tensor=tensor,
        group=group,
        mesh=mesh,
    )


def _find_device(name: str, *, rank: int, count: int) -> torch.device:
    """Returns the device of a name; of several processes, each has the GPU of its number."""
    try:
        place = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device is {name!r}; expected cpu, cuda or cuda:N") from error
    if place.type != "cuda":
        return place
    number = rank if place.index is None or count > 1 else place.index
    if number >= torch.cuda.device_count():
        raise ConfigError(
            f"device is {name!r}, but of {torch.cuda.device_count()} GPUs none has number "
            f"{number}; set device=cpu, or check the driver"
        )
    return torch.device("cuda", number)


def leave_processes() -> None:
    """Leaves the other processes once all have finished.

    A process that left early would break the connections of the others.
    """
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def compute_once(
    processes: Processes,
    work: Callable[[Callable[[], None]], bytes],
    *,
    patience_seconds: float,
    what: str,
) -> bytes:
    """Runs `work` in the first process, and returns its result in all of them.

    The others wait as long as it takes, which may be hours: `work` calls its argument whenever it
    has made progress, and the first process passes that on. If it makes none for
    `patience_seconds`, every process ends. Raises what `work` raises in the first process, and
    TrainingError, which says that `what` failed, in the others.
    """
    with Watchdog(patience_seconds) as watchdog:
        if processes.rank == 0:
            reporter = _Reporter(
                processes, watchdog, every_seconds=patience_seconds / REPORTS_PER_PATIENCE
            )
            try:
                result = work(reporter.report_alive)
            except OneVisionError:
                processes.sum(FAILED)
                raise
            processes.sum(DONE)
            return processes.broadcast(result)
        report = WORKING
        while report == WORKING:
            (report,) = processes.sum(WORKING)
            watchdog.touch()
        if report == FAILED:
            raise TrainingError(f"{what} failed in the first process; see its message")
        return processes.broadcast(None)


class _Reporter:
    """Reports to the waiting processes, not too often, that the first one makes progress."""

    def __init__(self, processes: Processes, watchdog: Watchdog, *, every_seconds: float) -> None:
        self.processes, self.watchdog, self.every_seconds = processes, watchdog, every_seconds
        self.last = time.monotonic()

    def report_alive(self) -> None:
        self.watchdog.touch()
        if time.monotonic() - self.last >= self.every_seconds:
            self.processes.sum(WORKING)
            self.last = time.monotonic()
