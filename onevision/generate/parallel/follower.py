"""The process of a device other than the first: does what the leader orders, until it ends."""

import os
import sys
import threading
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import torch
import torch.distributed as dist

from onevision.checkpoint.load import inspect
from onevision.config import LanguageConfig
from onevision.errors import EngineError, OneVisionError
from onevision.generate.graphed_decoder import StaticDecoder
from onevision.generate.kv_cache import KVCache, KVCacheBatch
from onevision.generate.parallel.encoder import encode_part
from onevision.generate.parallel.layers import gather_rows
from onevision.generate.parallel.part import load_own
from onevision.generate.parallel.processes import current_version
from onevision.generate.parallel.protocol import (
    Copy,
    Encode,
    Failed,
    Free,
    FreeTaker,
    Head,
    Join,
    New,
    Order,
    PartSpec,
    Ready,
    Run,
    Step,
    Trim,
    join_group,
    receive_orders,
    send_report,
)
from onevision.generate.parallel.steps import following_steps
from onevision.model.llava import LlavaNetwork

WATCH_SECONDS = 0.5


class Follower:
    """One device's part of the network, and of all KV caches."""

    def __init__(
        self, network: LlavaNetwork, config: LanguageConfig, spec: PartSpec, pipe: Connection
    ) -> None:
        self.encoder, self.decoder = network.vision_encoder, network.language_model
        self.config, self.spec, self.pipe = config, spec, pipe
        self.device, self.dtype = self.decoder.device, self.decoder.dtype
        self.caches: dict[int, KVCache] = {}
        self.takers: dict[int, StaticDecoder] = {}

    @torch.inference_mode()
    def obey(self, order: Order) -> None:
        """Does as ordered. Raises RuntimeError if another device is lost."""
        match order:
            case Join():
                spec = self.spec
                join_group(
                    rank=spec.rank, count=spec.count, meeting_place=spec.meeting_place,
                    device=self.device,
                )  # fmt: skip
                send_report(self.pipe, Ready())  # the file where they met is not needed now
            case New() | Copy() | Trim() | Free():
                self._change_caches(order)
            case Run():
                self._run(order)
            case Step():
                self._take(order)
            case FreeTaker(taker=number):
                self.takers.pop(number, None)  # it may have taken no step
            case Head(num_rows=num_rows):
                hidden = self._receive(num_rows, self.config.hidden_size, dtype=self.dtype)
                gather_rows(self.decoder.head(hidden), count=self.spec.count, is_first=False)
            case Encode(num_crops=num_crops, height=height, width=width):
                pixels = self._receive(num_crops, 3, height, width, dtype=self.dtype)
                encode_part(self.encoder, pixels, rank=self.spec.rank, count=self.spec.count)

    def _change_caches(self, order: New | Copy | Trim | Free) -> None:
        match order:
            case New(cache=number, capacity=capacity):
                self.caches[number] = KVCache(
                    self.config, capacity, dtype=self.dtype, device=self.device
                )
            case Copy(source=source, target=target, length=length):
                self.caches[target].copy_prefix(self.caches[source], length)
            case Trim(cache=number, length=length):
                self.caches[number].length = length
                self.caches[number].trim()
            case Free(cache=number):
                del self.caches[number]

    def _run(self, order: Run) -> None:
        width = self.config.hidden_size
        x = self._receive(1, order.num_tokens, width, dtype=self.dtype)
        position_ids = self._receive(1, order.num_tokens, dtype=torch.int64)
        caches = [self.caches[number] for number in order.caches]
        for cache, length in zip(caches, order.lengths, strict=True):
            cache.length = length
        batch = KVCacheBatch(caches, order.counts, one_by_one=order.one_by_one)
        self.decoder(x, position_ids, cache=batch)
        batch.advance()

    def _take(self, order: Step) -> None:
        if order.taker not in self.takers:
            self.takers[order.taker] = following_steps(
                self.decoder,
                width=self.config.hidden_size,
                count=self.spec.count if order.shares_head else None,
            )
        # Of caches that are freed by now nothing needs to be copied back.
        leaving = [number for number in order.step.leaving if number in self.caches]
        step = replace(order.step, leaving=leaving)
        self.takers[order.taker].run(step.with_caches(self.caches.__getitem__))

    def _receive(self, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        received = torch.empty(shape, dtype=dtype, device=self.device)
        dist.broadcast(received, src=0)
        return received


def prepare(spec: PartSpec, pipe: Connection) -> Follower:
    """Loads a device's part. Raises OneVisionError."""
    if spec.version != current_version():
        raise EngineError(f"runs {current_version()}, the first device {spec.version}")
    torch.set_num_threads(spec.num_threads)
    adapter = None if spec.adapter is None else Path(spec.adapter)
    part = load_own(inspect(Path(spec.model), adapter=adapter, verify=spec.verify), spec)
    return Follower(part.network, part.config.language, spec, pipe)


def follow(pipe: Connection, spec: PartSpec) -> int:
    """Loads, then obeys until the leader has ended; returns the exit code."""
    try:
        follower = prepare(spec, pipe)
    except (OneVisionError, RuntimeError, OSError) as error:
        send_report(pipe, Failed(problem=str(error)))
        return 1
    send_report(pipe, Ready())
    while True:
        try:
            orders = receive_orders(pipe)
        except (EOFError, OSError):
            return 0
        try:
            for order in orders:
                follower.obey(order)
        except (RuntimeError, EngineError) as error:  # another device is lost, or memory is out
            first = (str(error) or type(error).__name__).splitlines()[0]
            sys.stderr.write(f"device {spec.rank}: {first}\n")
            return 1


def end_with_leader() -> None:
    """Ends this process when the one that started it has ended, whatever it is doing.

    A sum within a CUDA graph would wait for the leader without end, and no pipe be read.
    """
    leader = os.getppid()

    def watch() -> None:
        while os.getppid() == leader:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="leader", daemon=True).start()


def main(arguments: list[str]) -> int:
    """Runs the process; `arguments` are a file descriptor and a PartSpec as hex."""
    end_with_leader()
    descriptor, told = arguments
    spec = msgspec.msgpack.decode(bytes.fromhex(told), type=PartSpec)
    return follow(Connection(int(descriptor)), spec)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
