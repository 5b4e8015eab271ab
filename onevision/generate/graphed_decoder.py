"""A decoding step in fixed shapes, which a GPU replays as one CUDA graph.

The keys and values of all answers are copied into one static cache [L, rows, G, positions, K], a
slot per answer (`slots.py`). How many rows and positions a step uses is rounded up to powers of
two, with a graph for each pair. New positions are written to the slot alone; they are copied back
to the answer's KVCache when something reads it, or when the answer leaves.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from onevision.accelerate.cuda_graphs import capture_graph
from onevision.generate.kv_cache import KVCache
from onevision.generate.slots import SlotPlanner, SlotStep, StaticStep
from onevision.model.decoder import Cache, Decoder

# Ids [1, rows], their rotary positions [1, rows] and a cache -> what a device computes of a step.
Compute = Callable[[Tensor, Tensor, Cache], Tensor]


class StaticKVCache:
    """Keys and values [L, rows, G, positions, K] in fixed memory, and a step's inputs."""

    def __init__(self, like: KVCache, *, rows: int, positions: int) -> None:
        num_layers, num_groups, _, head_size = like.keys.shape
        shape, device = (num_layers, rows, num_groups, positions, head_size), like.keys.device
        # Zeros: positions beyond an answer have weight 0, but 0 times NaN would be NaN.
        self.keys = torch.zeros(shape, dtype=like.keys.dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        # Ids, places in the cache, rotary positions: the same unless tokens were dropped.
        self.inputs = torch.zeros(rows, 3, dtype=torch.long, device=device)
        self.row_numbers = torch.arange(rows, device=device)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and positions."""
        return self.keys.shape[1], self.keys.shape[3]

    def refill(self, answer: SlotStep[KVCache]) -> None:
        """Copies all that a KV cache holds into its slot."""
        slot, length, cache = answer.slot, answer.length, answer.cache
        self.keys[:, slot, :, :length] = cache.keys[:, :, :length]
        self.values[:, slot, :, :length] = cache.values[:, :, :length]


class StaticKVCacheBatch:
    """The cache of one pass: a new token [1, 1] for each of the first `rows` slots."""

    def __init__(
        self, cache: StaticKVCache, *, rows: int, positions: int, window: int | None
    ) -> None:
        self.cache, self.num_positions = cache, positions
        self.row_numbers, self.positions = cache.row_numbers[:rows], cache.inputs[:rows, 1]
        distance = self.positions[:, None] - torch.arange(positions, device=self.positions.device)
        hidden = (distance < 0) | (distance >= (window or positions))
        # Added to the scores of every layer, so built once: [rows, 1, 1, positions].
        zeros = torch.zeros(hidden.shape, dtype=cache.keys.dtype, device=cache.keys.device)
        self.bias = zeros.masked_fill(hidden, -torch.inf)[:, None, None]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Writes `k`, `v` [1, G, rows, K] into the slots; attends with `q` [1, Q, rows, K]."""
        rows = len(self.row_numbers)
        keys, values = (x[layer, :rows] for x in (self.cache.keys, self.cache.values))
        keys[self.row_numbers, :, self.positions] = k[0].transpose(0, 1)
        values[self.row_numbers, :, self.positions] = v[0].transpose(0, 1)
        keys, values = keys[:, :, : self.num_positions], values[:, :, : self.num_positions]
        # Queries that share keys become rows of one head: [rows, G, Q/G, K].
        queries = q[0].transpose(0, 1).unflatten(1, (keys.shape[1], -1))
        mask = self.bias.expand(-1, keys.shape[1], queries.shape[2], -1)
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return mixed.flatten(1, 2).transpose(0, 1)[None]


class StaticDecoder:
    """One device's static cache and graphs: carries out the steps that are planned for it."""

    def __init__(self, compute: Compute) -> None:
        self.compute = compute
        self._static: StaticKVCache | None = None
        self._graphs: dict[tuple[int, int], Callable[[], Tensor]] = {}

    def run(self, step: StaticStep[KVCache]) -> Tensor:
        """Takes a step; returns what is computed for its rows, valid until the next one."""
        for cache in step.leaving:
            cache.copy_back()
        if self._static is None or self._static.size != step.size:
            self._graphs.clear()
            self._static = None  # freed before the next one is allocated
            rows, positions = step.size
            self._static = StaticKVCache(step.answers[0].cache, rows=rows, positions=positions)
        static = self._static
        for answer in step.answers:
            answer.cache.length = answer.length
            if answer.is_stale:
                static.refill(answer)
        static.inputs[: step.rows] = torch.tensor(step.inputs)
        computed = self._compute(static, step)
        for answer in step.answers:
            cache, slot = answer.cache, answer.slot
            if not cache.is_redirected:
                cache.redirect(static.keys[:, slot], static.values[:, slot])
            cache.length += 1
        return computed

    def _compute(self, static: StaticKVCache, step: StaticStep[KVCache]) -> Tensor:
        rows, positions = step.rows, step.positions
        window = step.answers[0].cache.window

        def run() -> Tensor:
            cache = StaticKVCacheBatch(static, rows=rows, positions=positions, window=window)
            ids, _, position_ids = static.inputs[:rows].T[:, None]  # [1, rows] each
            return self.compute(ids, position_ids, cache)

        if not static.keys.is_cuda:
            return run()
        if (rows, positions) not in self._graphs:
            self._graphs[rows, positions] = capture_graph(run, device=static.keys.device)
        return self._graphs[rows, positions]()


class StepTaker(Protocol):
    """Takes planned steps: a `StaticDecoder`, or what has several devices take them together."""

    def run(self, step: StaticStep[KVCache]) -> Tensor:
        """Returns logits [rows, vocab], valid until the next call."""
        ...


class GraphedDecoder:
    """Decodes one token for each of several answers, with up to `max_bytes` of static cache."""

    def __init__(self, taker: StepTaker, *, max_bytes: int) -> None:
        self.taker, self.planner = taker, SlotPlanner(max_bytes=max_bytes)
        self.num_steps = 0

    def fits(self, caches: Sequence[KVCache]) -> bool:
        """Whether the static cache can hold answers with these KV caches."""
        return self.planner.fits(caches)

    def run(
        self, caches: Sequence[KVCache], ids: Sequence[int], *, positions: Sequence[int]
    ) -> tuple[Tensor, list[int]]:
        """Extends answers with these KV caches by their last tokens `ids` at rotary `positions`.

        Returns logits [rows, vocab], valid until the next call, and the row of each answer.
        """
        step = self.planner.plan(caches, ids, positions=positions)
        logits = self.taker.run(step)
        self.planner.finish(step)
        self.num_steps += 1
        return logits, [answer.slot for answer in step.answers]


def whole_decoder(decoder: Decoder) -> StaticDecoder:
    """Returns what takes steps with a decoder that one device has alone."""

    def compute(ids: Tensor, position_ids: Tensor, cache: Cache) -> Tensor:
        hidden = decoder(decoder.embedding(ids), position_ids, cache=cache)
        return decoder.head(hidden[0])  # [rows, vocab]

    return StaticDecoder(compute)
