"""A decoding step in fixed shapes, which a GPU replays as one CUDA graph.

The keys and values of all answers are copied into one static cache [L, rows, G, positions, K], a
slot per answer. How many rows and positions a step uses is rounded up to powers of two, with a
graph for each pair. New positions are written to the slot alone; they are copied back to the
answer's KVCache when something reads it, or when the answer leaves.
"""

from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from onevision.accelerate.cuda_graphs import capture_graph
from onevision.generate.kv_cache import KVCache
from onevision.model.decoder import Decoder

# Fewest positions of a step.
MIN_POSITIONS = 256


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


class GraphedDecoder:
    """Decodes one token for each of several answers, with up to `max_bytes` of static cache."""

    def __init__(self, decoder: Decoder, *, max_bytes: int) -> None:
        self.decoder, self.max_bytes = decoder, max_bytes
        self.static_cache: StaticKVCache | None = None
        # Only caches with a slot are redirected.
        self._slots: WeakKeyDictionary[KVCache, int] = WeakKeyDictionary()
        self._lengths: dict[int, int] = {}  # slot -> positions of its KV cache that it has
        self._graphs: dict[tuple[int, int], Callable[[], Tensor]] = {}

    def fits(self, caches: Sequence[KVCache]) -> bool:
        """Whether the static cache can hold answers with these KV caches."""
        return self._num_bytes(self._choose_size(caches), caches) <= self.max_bytes

    def run(
        self, caches: Sequence[KVCache], ids: Sequence[int], *, positions: Sequence[int]
    ) -> tuple[Tensor, list[int]]:
        """Extends answers with these KV caches by their last tokens `ids` at rotary `positions`.

        Returns logits [rows, vocab], valid until the next call, and the row of each answer.
        """
        static = self._assign_slots(caches)
        slots = [self._slots[cache] for cache in caches]
        rows = _power_of_two(max(slots) + 1)
        longest = _power_of_two(max(cache.length for cache in caches) + 1, least=MIN_POSITIONS)
        inputs = [(0, 0, 0)] * rows
        for slot, cache, token_id, position in zip(slots, caches, ids, positions, strict=True):
            inputs[slot] = token_id, cache.length, position
        static.inputs[:rows] = torch.tensor(inputs)
        logits = self._step(static, rows, min(longest, static.size[1]))
        for slot, cache in zip(slots, caches, strict=True):
            if not cache.is_redirected:
                cache.redirect(static.keys[:, slot], static.values[:, slot])
            cache.length += 1
            self._lengths[slot] = cache.length
        return logits, slots

    def _choose_size(self, caches: Sequence[KVCache]) -> tuple[int, int]:
        """Returns rows and positions for these caches, never smaller than now if memory allows."""
        most = max(cache.capacity for cache in caches)
        needed = _power_of_two(len(caches)), _power_of_two(most, least=MIN_POSITIONS)
        if self.static_cache is None:
            return needed
        rows, positions = self.static_cache.size
        both = max(needed[0], rows), max(needed[1], positions)
        return both if self._num_bytes(both, caches) <= self.max_bytes else needed

    def _num_bytes(self, size: tuple[int, int], caches: Sequence[KVCache]) -> int:
        return size[0] * size[1] * caches[0].num_bytes // caches[0].capacity

    def _assign_slots(self, caches: Sequence[KVCache]) -> StaticKVCache:
        """Gives every cache a slot with the same content; frees all other slots."""
        size = self._choose_size(caches)
        if self.static_cache is None or self.static_cache.size != size:
            self._free_slots(set(self._slots))
            self._graphs.clear()
            self.static_cache = None  # freed before the next one is allocated
            self.static_cache = StaticKVCache(caches[0], rows=size[0], positions=size[1])
        self._free_slots(set(self._slots) - set(caches))
        free = sorted(set(range(size[0])) - set(self._slots.values()), reverse=True)
        for cache in caches:
            if cache not in self._slots:
                self._slots[cache] = free.pop()
                self._lengths[self._slots[cache]] = 0
            slot, length = self._slots[cache], cache.length
            if self._lengths[slot] != length:  # new, or an ordinary step came in between
                self.static_cache.keys[:, slot, :, :length] = cache.keys[:, :, :length]
                self.static_cache.values[:, slot, :, :length] = cache.values[:, :, :length]
        return self.static_cache

    def _free_slots(self, caches: set[KVCache]) -> None:
        for cache in caches:
            cache.copy_back()
            del self._slots[cache]

    def _step(self, static: StaticKVCache, rows: int, positions: int) -> Tensor:
        def run() -> Tensor:
            window = self.decoder.window
            cache = StaticKVCacheBatch(static, rows=rows, positions=positions, window=window)
            ids, _, position_ids = static.inputs[:rows].T[:, None]  # [1, rows] each
            hidden = self.decoder(self.decoder.embedding(ids), position_ids, cache=cache)
            return self.decoder.head(hidden[0])  # [rows, vocab]

        if not static.keys.is_cuda:
            return run()
        if (rows, positions) not in self._graphs:
            self._graphs[rows, positions] = capture_graph(run)
        return self._graphs[rows, positions]()


def _power_of_two(number: int, *, least: int = 1) -> int:
    return max(least, 1 << (number - 1).bit_length())
