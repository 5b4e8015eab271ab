"""What the process that answers tells the others, one message per pass; and how both join.

    leader                                      follower
    load a part                                 load a part -> Ready, or Failed
    Join                           ->           join the process group -> Ready
    [Copy | Trim | Free ..., Run]  ->           the same pass over its own keys and values
    broadcast x, position_ids      ->
    a sum after each layer         <->
    [Head]                         ->           its rows of the head
    broadcast hidden states        ->
    logits                         <-

A step in fixed shapes, as CUDA graphs replay it, is one message, [..., Step], and the first device
broadcasts embeddings within it.

A follower ends when its pipe closes or the leader is gone, so none outlives it.
"""

from datetime import timedelta
from multiprocessing.connection import Connection

import msgspec
import torch
import torch.distributed as dist

from onevision.errors import EngineError
from onevision.generate.slots import StaticStep

# A process that does not take part in a sum for so long has failed.
PATIENCE_SECONDS = 120.0


class PartSpec(msgspec.Struct, frozen=True):
    """What a follower loads, and where it meets the others."""

    model: str
    adapter: str | None
    dtype: str
    quantize: str | None
    device: str
    in_memory: bool
    verify: bool
    rank: int
    count: int
    num_threads: int
    meeting_place: str  # a file
    version: str


class Ready(msgspec.Struct, tag=True):
    """A follower has loaded its part; then, that it has joined."""


class Failed(msgspec.Struct, tag=True):
    """A follower has not, and why."""

    problem: str


class Join(msgspec.Struct, tag=True):
    """All have loaded: join the process group."""


class New(msgspec.Struct, tag=True):
    """A KV cache is made."""

    cache: int
    capacity: int


class Copy(msgspec.Struct, tag=True):
    """The first positions of a cache are copied to another."""

    source: int
    target: int
    length: int


class Trim(msgspec.Struct, tag=True):
    """A cache gives up what is not filled."""

    cache: int
    length: int


class Free(msgspec.Struct, tag=True):
    """A cache is gone."""

    cache: int


class Run(msgspec.Struct, tag=True):
    """A pass over embeddings [1, S, D], which are broadcast next, and then their positions."""

    caches: list[int]
    lengths: list[int]  # filled positions of each before the pass
    counts: list[int]
    one_by_one: bool
    num_tokens: int


class Head(msgspec.Struct, tag=True):
    """Logits of hidden states [n, D], which are broadcast next."""

    num_rows: int


class Encode(msgspec.Struct, tag=True):
    """Features of crops [N, 3, H, W], which are broadcast next, a part on each device."""

    num_crops: int
    height: int
    width: int


class Step(msgspec.Struct, tag=True):
    """A step in fixed shapes, with the numbers of caches; `taker` has the static cache and graphs.

    Logits are gathered if all devices share the head.
    """

    taker: int
    step: StaticStep[int]
    shares_head: bool


class FreeTaker(msgspec.Struct, tag=True):
    """An engine is gone, and so are its static cache and graphs."""

    taker: int


Order = Join | New | Copy | Trim | Free | Run | Head | Encode | Step | FreeTaker
_orders = msgspec.msgpack.Decoder(list[Order])
_reports = msgspec.msgpack.Decoder(Ready | Failed)


def send_orders(pipe: Connection, orders: list[Order]) -> None:
    """Sends orders in one message. Raises OSError."""
    pipe.send_bytes(msgspec.msgpack.encode(orders))


def receive_orders(pipe: Connection) -> list[Order]:
    """Waits for orders, however long. Raises EOFError when the leader has ended."""
    return _orders.decode(pipe.recv_bytes())


def send_report(pipe: Connection, report: Ready | Failed) -> None:
    """Tells the leader how loading went."""
    pipe.send_bytes(msgspec.msgpack.encode(report))


def receive_report(pipe: Connection) -> Ready | Failed:
    """Waits for a follower to load. Raises EOFError if it ends before."""
    return _reports.decode(pipe.recv_bytes())


def join_group(*, rank: int, count: int, meeting_place: str, device: torch.device) -> None:
    """Joins the others. Raises EngineError if they do not come, or for one that has joined."""
    if dist.is_initialized():
        raise EngineError(
            "this process belongs to a process group already; load a model onto several devices "
            "from a process of its own"
        )
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=dist.FileStore(meeting_place, count),
            rank=rank,
            world_size=count,
            timeout=timedelta(seconds=PATIENCE_SECONDS),
        )
    except RuntimeError as error:  # one that ended, or none that came in time
        first = str(error).splitlines()[0]
        raise EngineError(f"the devices cannot join one another ({first}); load again") from error
