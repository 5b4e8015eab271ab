"""A step of decoding in fixed shapes, so that a GPU replays it whole: a CUDA graph in one launch.

The keys and values of all answers stand in one slab [L, rows, G, positions, K], a slot an answer;
how much of it a pass looks at, rows and positions, goes by powers of two, a graph for each. A slot
begins as a copy of a span; what steps add stays in the slot until the span is asked for it or
leaves, and is copied back then, all at once.
"""

from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from onevision.accelerate.cuda_graphs import capture_graph
from onevision.generate.kv_cache import KVCache
from onevision.model.decoder import Decoder

# The fewest positions a pass looks at.
LEAST_POSITIONS = 256


class Slab:
    """Keys and values of up to `rows` answers of `positions`, and what the next step is given."""

    def __init__(self, like: KVCache, *, rows: int, positions: int) -> None:
        num_layers, num_groups, _, head_size = like.keys.shape
        shape, device = (num_layers, rows, num_groups, positions, head_size), like.keys.device
        # Zeros: what lies beyond an answer has no weight, but 0 times NaN would be NaN.
        self.keys = torch.zeros(shape, dtype=like.keys.dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self.given = torch.zeros(rows, 2, dtype=torch.long, device=device)  # ids, their places
        self.numbers = torch.arange(rows, device=device)


class SlabPass:
    """The cache of one pass: a new token [1, 1] for each of the first `rows` slots."""

    def __init__(self, slab: Slab, *, rows: int, positions: int, window: int | None) -> None:
        self.slab, self.positions = slab, positions
        self.numbers, self.places = slab.numbers[:rows], slab.given[:rows, 1]
        back = self.places[:, None] - torch.arange(positions, device=self.places.device)
        unseen = (back < 0) | (back >= (window or positions))
        # Added to the scores of every layer, and so made once: [rows, 1, 1, positions].
        zeros = torch.zeros(unseen.shape, dtype=slab.keys.dtype, device=slab.keys.device)
        self.bias = zeros.masked_fill(unseen, -torch.inf)[:, None, None]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Write `k`, `v` [1, G, rows, K] into the slots; attend with `q` [1, Q, rows, K]."""
        keys, values = (x[layer, : len(self.numbers)] for x in (self.slab.keys, self.slab.values))
        keys[self.numbers, :, self.places] = k[0].transpose(0, 1)
        values[self.numbers, :, self.places] = v[0].transpose(0, 1)
        keys, values = keys[:, :, : self.positions], values[:, :, : self.positions]
        # The queries that share keys are rows of one head: [rows, G, Q/G, K].
        queries = q[0].transpose(0, 1).unflatten(1, (keys.shape[1], -1))
        mask = self.bias.expand(-1, keys.shape[1], queries.shape[2], -1)
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return mixed.flatten(1, 2).transpose(0, 1)[None]


class Replayer:
    """Decodes a token of each of several answers; holds up to `max_bytes` of their keys."""

    def __init__(self, decoder: Decoder, *, max_bytes: int) -> None:
        self.decoder, self.max_bytes = decoder, max_bytes
        self.slab: Slab | None = None
        # Spans whose keys and values stand in a slot. No other has anything there.
        self._slots: WeakKeyDictionary[KVCache, int] = WeakKeyDictionary()
        self._read: dict[int, int] = {}  # slot -> positions of its span that it holds
        self._graphs: dict[tuple[int, int], Callable[[], Tensor]] = {}

    def fits(self, spans: Sequence[KVCache]) -> bool:
        """Whether there is room for answers with these spans."""
        return self._num_bytes(self._size(spans), spans) <= self.max_bytes

    def run(self, spans: Sequence[KVCache], ids: Sequence[int]) -> tuple[Tensor, list[int]]:
        """Go on with answers by their last tokens `ids`.

        Returns logits [rows, vocab], good until the next call, and the row of each answer.
        """
        slab = self._prepare(spans)
        slots = [self._slots[span] for span in spans]
        rows = _power_of_two(max(slots) + 1)
        positions = _power_of_two(max(span.length for span in spans) + 1, least=LEAST_POSITIONS)
        given = [(0, 0)] * rows
        for slot, span, token_id in zip(slots, spans, ids, strict=True):
            given[slot] = token_id, span.length
        slab.given[:rows] = torch.tensor(given)
        logits = self._step(slab, rows, min(positions, slab.keys.shape[3]))
        for slot, span in zip(slots, spans, strict=True):
            if not span.is_redirected:
                span.redirect(slab.keys[:, slot], slab.values[:, slot])
            span.length += 1
            self._read[slot] = span.length
        return logits, slots

    def _size(self, spans: Sequence[KVCache]) -> tuple[int, int]:
        """Return rows and positions of a slab for these, and for what it was made for if it can."""
        most = max(span.capacity for span in spans)
        own = _power_of_two(len(spans)), _power_of_two(most, least=LEAST_POSITIONS)
        if self.slab is None:
            return own
        _, rows, _, positions, _ = self.slab.keys.shape
        both = max(own[0], rows), max(own[1], positions)
        return both if self._num_bytes(both, spans) <= self.max_bytes else own

    def _num_bytes(self, size: tuple[int, int], spans: Sequence[KVCache]) -> int:
        return size[0] * size[1] * spans[0].num_bytes // spans[0].capacity

    def _prepare(self, spans: Sequence[KVCache]) -> Slab:
        """Give every span a slot that holds what it holds."""
        rows, positions = self._size(spans)
        if self.slab is None or self.slab.keys.shape[1:4:2] != (rows, positions):
            self._leave(set(self._slots))
            self._graphs.clear()
            self.slab = None  # given back before the larger one is taken
            self.slab = Slab(spans[0], rows=rows, positions=positions)
        self._leave(set(self._slots) - set(spans))
        free = sorted(set(range(rows)) - set(self._slots.values()), reverse=True)
        for span in spans:
            if span not in self._slots:
                self._slots[span] = free.pop()
                self._read[self._slots[span]] = 0
            slot = self._slots[span]
            if self._read[slot] != span.length:  # new, or something else has written since
                self.slab.keys[:, slot, :, : span.length] = span.keys[:, :, : span.length]
                self.slab.values[:, slot, :, : span.length] = span.values[:, :, : span.length]
        return self.slab

    def _leave(self, spans: set[KVCache]) -> None:
        for span in spans:
            span.copy_back()
            del self._slots[span]

    def _step(self, slab: Slab, rows: int, positions: int) -> Tensor:
        def run() -> Tensor:
            window = self.decoder.window
            cache = SlabPass(slab, rows=rows, positions=positions, window=window)
            ids, places = slab.given[:rows].T[:, None]  # [1, rows] each
            hidden = self.decoder(self.decoder.embedding(ids), places, cache=cache)
            return self.decoder.head(hidden[0])  # [rows, vocab]

        if not slab.keys.is_cuda:
            return run()
        if (rows, positions) not in self._graphs:
            self._graphs[rows, positions] = capture_graph(run)
        return self._graphs[rows, positions]()


def _power_of_two(number: int, *, least: int = 1) -> int:
    return max(least, 1 << (number - 1).bit_length())
