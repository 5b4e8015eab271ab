"""Keys and values of what was read: one contiguous span a sequence, many sequences a pass.

span  [L, G, capacity, K] twice      positions 0 ... end-1 are in use
pass  [1, S, D]: the new tokens of several sequences, one after the other, without padding
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from onevision.accelerate.cached_attention import attend_last, attend_rows
from onevision.config import LanguageConfig


class Span:
    """Keys and values [L, G, capacity, K] of one sequence, preallocated.

    The last of them may stand elsewhere for a while (replay.py); whoever asks for `keys` or
    `values` has them here.
    """

    def __init__(
        self, config: LanguageConfig, capacity: int, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        shape = (config.num_layers, config.num_kv_heads, capacity, config.head_size)
        self._keys = torch.empty(shape, dtype=dtype, device=device)
        self._values = torch.empty_like(self._keys)
        # Where positions from a number on stand, if not here: [L, G, positions, K] twice.
        self._elsewhere: tuple[Tensor, Tensor, int] | None = None
        self.end, self.window = 0, config.sliding_window
        # Who holds it: the sequence itself, the prefix cache.
        self.holders = 1

    @property
    def keys(self) -> Tensor:
        """Keys [L, G, capacity, K]."""
        self.settle()
        return self._keys

    @property
    def values(self) -> Tensor:
        """Values [L, G, capacity, K]."""
        self.settle()
        return self._values

    @property
    def capacity(self) -> int:
        """Positions there is room for."""
        return self._keys.shape[2]

    @property
    def num_bytes(self) -> int:
        """Memory of the whole span. Any thread may ask."""
        return 2 * self._keys.numel() * self._keys.element_size()

    @property
    def is_lent(self) -> bool:
        """Whether some of them stand elsewhere."""
        return self._elsewhere is not None

    def lend(self, keys: Tensor, values: Tensor) -> None:
        """Let positions from `end` on stand in these [L, G, positions, K] for a while."""
        assert self._elsewhere is None
        self._elsewhere = keys, values, self.end

    def settle(self) -> None:
        """Copy back what stands elsewhere."""
        if self._elsewhere is not None:
            keys, values, begin = self._elsewhere
            self._elsewhere = None
            self._keys[:, :, begin : self.end] = keys[:, :, begin : self.end]
            self._values[:, :, begin : self.end] = values[:, :, begin : self.end]

    def take_from(self, other: "Span", length: int) -> None:
        """Begin with the first `length` positions of another span."""
        self.keys[:, :, :length] = other.keys[:, :, :length]
        self.values[:, :, :length] = other.values[:, :, :length]
        self.end = length

    def trim(self) -> None:
        """Give back the positions that are not in use."""
        if self.end < self.capacity:
            self._keys, self._values = (
                x[:, :, : self.end].clone() for x in (self.keys, self.values)
            )

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put `keys`, `values` [G, s, K] after those in use; return all of `layer` [G, T, K]."""
        own_keys, own_values = self.keys[layer], self.values[layer]
        stop = self.end + keys.shape[1]
        own_keys[:, self.end : stop] = keys
        own_values[:, self.end : stop] = values
        return own_keys[:, :stop], own_values[:, :stop]


class Pass:
    """The cache of one pass: `counts` new tokens for each of `spans`, then padding.

    Sequences do not see one another. With `one_by_one` the queries of a sequence are compared one
    at a time, so that the bits of each are the same however many come together.
    """

    def __init__(
        self, spans: Sequence[Span], counts: Sequence[int], *, one_by_one: bool = False
    ) -> None:
        self.spans, self.counts, self.one_by_one = spans, counts, one_by_one
        self._rows: Rows | None = None
        on_cpu = spans[0].keys.device.type == "cpu"
        if on_cpu and not one_by_one and all(count == 1 for count in counts):
            self._rows = Rows(spans)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Write `k`, `v` [1, G, S, K] into the spans; attend with `q` [1, Q, S, K], causally."""
        if self._rows is not None:
            return self._rows.attend(layer, q, k, v)
        if len(self.spans) == 1 and self.counts[0] == q.shape[2] and not self.one_by_one:
            keys, values = self.spans[0].write(layer, k[0], v[0])
            return attend_last(q[0], keys, values, window=self.spans[0].window)[None]
        out = torch.zeros_like(q) if sum(self.counts) < q.shape[2] else torch.empty_like(q)
        begin = 0
        for span, count in zip(self.spans, self.counts, strict=True):
            own = slice(begin, begin + count)
            keys, values = span.write(layer, k[0, :, own], v[0, :, own])
            if self.one_by_one:
                for i in range(count):
                    seen = keys.shape[1] - count + i + 1
                    query = q[0, :, begin + i : begin + i + 1]
                    mixed = attend_last(query, keys[:, :seen], values[:, :seen], window=span.window)
                    out[0, :, begin + i : begin + i + 1] = mixed
            else:
                out[0, :, own] = attend_last(q[0, :, own], keys, values, window=span.window)
            begin = own.stop
        return out

    def advance(self) -> None:
        """Count the new tokens as read, once every layer has been run."""
        for span, count in zip(self.spans, self.counts, strict=True):
            span.end += count


class Rows:
    """A token of each of many sequences: every place that a pass touches, looked up once."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.window = spans[0].window
        stored = [*(span.keys for span in spans), *(span.values for span in spans)]
        ends = [span.end for span in spans] * 2
        # By layer: the place of the new token in every span [G, 1, K], and what it sees [G, T, K].
        self.places = _by_layer(stored, [slice(end, end + 1) for end in ends])
        self.seen = _by_layer(stored, [slice(0, end + 1) for end in ends])

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Put `k`, `v` [1, G, n, K] in their places; attend with `q` [1, Q, n, K]."""
        new = [*k[0].split(1, dim=1), *v[0].split(1, dim=1)]
        torch._foreach_copy_(self.places[layer], new)
        seen, n = self.seen[layer], q.shape[2]
        return attend_rows(q[0], seen[:n], seen[n:], window=self.window)[None]


def _by_layer(stored: Sequence[Tensor], parts: Sequence[slice]) -> list[tuple[Tensor, ...]]:
    """Return a part of the positions of each [L, G, capacity, K]: by layer, views [G, t, K]."""
    views = (x[:, :, part].unbind() for x, part in zip(stored, parts, strict=True))
    return list(zip(*views, strict=True))
