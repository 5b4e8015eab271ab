"""Steps in fixed shapes -> the same steps on several devices, each with graphs of its part.

All record and replay the same shapes in the same order, with the broadcast of embeddings, the sums
of blocks and the gathering of logits inside. So a step is one message and one launch on each.
"""

import itertools
import time

import torch
import torch.distributed as dist
from torch import Tensor

from onevision.errors import EngineError
from onevision.generate.graphed_decoder import StaticDecoder
from onevision.generate.kv_cache import KVCache
from onevision.generate.parallel.layers import gather_rows
from onevision.generate.parallel.leader import LeadingDecoder, LeadingKVCache
from onevision.generate.parallel.protocol import PATIENCE_SECONDS, FreeTaker, Step
from onevision.generate.slots import StaticStep
from onevision.model.decoder import Cache, Decoder

POLL_SECONDS = 1e-4


class LeadingSteps:
    """Takes steps on the first device, and orders the others to: a `StepTaker`."""

    numbers = itertools.count()

    def __init__(self, decoder: LeadingDecoder) -> None:
        self.decoder, self.leader = decoder, decoder.leader
        self.number, self._own = next(self.numbers), StaticDecoder(self._compute)

    def run(self, step: StaticStep[KVCache]) -> Tensor:
        """Returns logits [rows, vocab], valid until the next call. Raises EngineError."""
        order = Step(
            taker=self.number,
            step=step.with_caches(_number),
            shares_head=self.decoder.shares_head,
        )
        with self.leader.passing(order):
            logits = self._own.run(step)
            if logits.is_cuda:
                self._wait(logits.device)
        return logits

    def _compute(self, ids: Tensor, position_ids: Tensor, cache: Cache) -> Tensor:
        part = self.decoder.part
        x = part.embedding(ids).contiguous()  # [1, rows, D]
        dist.broadcast(x, src=0)
        logits = part.head(part(x, position_ids, cache=cache)[0])  # [rows, vocab or a part of it]
        if not self.decoder.shares_head:
            return logits
        gathered = gather_rows(logits, count=self.leader.count, is_first=True)
        assert gathered is not None
        return gathered

    def _wait(self, device: torch.device) -> None:
        """Waits for a replayed step. Raises EngineError if another device does not take part.

        NCCL watches over sums that are launched one by one, not over those in a graph.
        """
        done, until = torch.cuda.Event(), time.monotonic() + PATIENCE_SECONDS
        done.record(torch.cuda.current_stream(device))
        while not done.query():
            self.leader.followers.check()
            if time.monotonic() > until:
                raise EngineError(f"a device has not answered for {PATIENCE_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)

    def __del__(self) -> None:
        self.leader.note(FreeTaker(taker=self.number))


def following_steps(decoder: Decoder, *, width: int, count: int | None) -> StaticDecoder:
    """Returns what takes steps on a device other than the first.

    `width` is that of embeddings, `count` the devices that share the head, if any do.
    """

    def compute(ids: Tensor, position_ids: Tensor, cache: Cache) -> Tensor:
        x = torch.empty(1, ids.shape[1], width, dtype=decoder.dtype, device=ids.device)
        dist.broadcast(x, src=0)
        hidden = decoder(x, position_ids, cache=cache)[0]
        if count is not None:
            gather_rows(decoder.head(hidden), count=count, is_first=False)
        return hidden

    return StaticDecoder(compute)


def _number(cache: KVCache) -> int:
    assert isinstance(cache, LeadingKVCache)
    return cache.number
