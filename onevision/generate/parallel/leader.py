"""The first of several devices: its own part of the network, and orders to the others.

The engine knows nothing of this: it calls a decoder and makes KV caches, as with one device.
"""

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from onevision.batch import Blocks
from onevision.config import LanguageConfig
from onevision.generate.kv_cache import KVCache, KVCacheBatch
from onevision.generate.parallel.layers import gather_rows
from onevision.generate.parallel.processes import Followers
from onevision.generate.parallel.protocol import Copy, Free, Head, New, Order, Run, Trim
from onevision.model.decoder import Cache, Decoder


class Leader:
    """Orders to the followers. All methods may be called from any thread.

    What changes their KV caches waits for the next pass, and goes in one message with it. After an
    error in a pass the devices are out of step, so no other is begun: every later one raises.
    """

    def __init__(self, followers: Followers) -> None:
        self.followers = followers
        self._pending = deque[Order]()
        self._lock = threading.RLock()

    @property
    def problem(self) -> str:
        """Why nothing can be computed any more; empty while all is well."""
        return self.followers.problem

    def on_loss(self, callback: Callable[[str], None]) -> None:
        """Has `callback` called with the problem, once, if a device is lost."""
        self.followers.on_loss = callback

    @property
    def count(self) -> int:
        """Devices, this one included."""
        return len(self.followers) + 1

    def note(self, order: Order) -> None:
        """Lets an order go with the next pass. Takes no lock: a garbage collector may call it."""
        self._pending.append(order)

    @contextmanager
    def passing(self, order: Order) -> Iterator[None]:
        """Begins a pass on all devices. Raises EngineError if they cannot or do not finish it."""
        with self._lock:
            self.followers.check()
            try:
                pending = [self._pending.popleft() for _ in range(len(self._pending))]
                self.followers.send([*pending, order])
                yield
            except Exception as error:
                raise self.followers.lose(error) from error

    def close(self) -> None:
        """Ends the followers. Nothing can be computed then."""
        with self._lock:
            lost = bool(self.problem)
            self.followers.close()
            if dist.is_initialized():
                group = dist.group.WORLD
                if lost and group is not None:
                    group.abort()  # on a GPU, a sum that waits for a lost device would never end
                dist.destroy_process_group()


class LeadingDecoder(nn.Module):
    """Stands for a whole `Decoder`; runs the first device's part, and the others theirs."""

    def __init__(self, decoder: Decoder, leader: Leader, *, vocab_size: int) -> None:
        super().__init__()
        self.part, self.leader = decoder, leader
        self.norm, self.embedding = decoder.norm, decoder.embedding
        self.shares_head = decoder.head.out_features < vocab_size

    @property
    def dtype(self) -> torch.dtype:
        """The type of its activations."""
        return self.part.dtype

    @property
    def device(self) -> torch.device:
        """The first device."""
        return self.part.device

    def forward(
        self,
        x: Tensor,
        position_ids: Tensor,
        *,
        mask: Tensor | Blocks | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Runs embeddings `x` [1, S, D] at `position_ids` [1, S] -> hidden states [1, S, D].

        Raises EngineError if a device is lost.
        """
        assert mask is None and isinstance(cache, KVCacheBatch), "only the engine runs it"
        caches = [own for own in cache.caches if isinstance(own, LeadingKVCache)]
        order = Run(
            caches=[own.number for own in caches],
            lengths=[own.length for own in caches],
            counts=list(cache.counts),
            one_by_one=cache.one_by_one,
            num_tokens=x.shape[1],
        )
        with self.leader.passing(order):
            x, position_ids = x.contiguous(), position_ids.contiguous()
            dist.broadcast(x, src=0)
            dist.broadcast(position_ids, src=0)
            return self.part(x, position_ids, cache=cache)

    def head(self, hidden: Tensor) -> Tensor:
        """Scores the vocabulary for hidden states [n, D] -> [n, V]. Raises EngineError."""
        if not self.shares_head:
            return self.part.head(hidden)
        with self.leader.passing(Head(num_rows=len(hidden))):
            hidden = hidden.contiguous()
            dist.broadcast(hidden, src=0)
            logits = gather_rows(self.part.head(hidden), count=self.leader.count, is_first=True)
        assert logits is not None
        return logits


class LeadingKVCache(KVCache):
    """The first device's part of a sequence's keys and values; the others have one of its number.

    `config` is that of the part.
    """

    numbers = itertools.count()

    def __init__(
        self,
        config: LanguageConfig,
        capacity: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
        leader: Leader,
    ) -> None:
        super().__init__(config, capacity, dtype=dtype, device=device)
        self.number, self._leader = next(self.numbers), leader
        leader.note(New(cache=self.number, capacity=capacity))

    def copy_prefix(self, other: KVCache, length: int) -> None:
        """Fills the first `length` positions from another cache, on all devices."""
        assert isinstance(other, LeadingKVCache)
        super().copy_prefix(other, length)
        self._leader.note(Copy(source=other.number, target=self.number, length=length))

    def trim(self) -> None:
        """Frees the memory of positions that are not filled, on all devices."""
        super().trim()
        self._leader.note(Trim(cache=self.number, length=self.length))

    def __del__(self) -> None:
        self._leader.note(Free(cache=self.number))


def cache_maker(
    config: LanguageConfig, leader: Leader, *, dtype: torch.dtype, device: torch.device
) -> Callable[[int], KVCache]:
    """Returns what makes KV caches of a capacity on all devices; `config` is that of the part."""

    def make(capacity: int) -> KVCache:
        return LeadingKVCache(config, capacity, dtype=dtype, device=device, leader=leader)

    return make
