"""Keys and values of past tokens: one preallocated cache per sequence, many sequences per pass.

KVCache       [L, G, capacity, K] twice; positions 0 ... length - 1 are filled
KVCacheBatch  the caches of one pass over x [1, S, D]: the new tokens of several sequences, laid end
              to end without padding
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from onevision.accelerate.cached_attention import attend_last, attend_rows
from onevision.config import LanguageConfig

# Of a key or value in 8 bits.
SCALE_BYTES = 4


class KVCache:
    """Keys and values [L, G, capacity, K] of one sequence.

    Its last positions may be redirected to the static cache that CUDA graphs work on; reading
    `keys` or `values` copies them back.
    """

    # Whether `keys` and `values` hold what was written, as it was.
    is_plain = True

    def __init__(
        self, config: LanguageConfig, capacity: int, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        shape = (config.num_layers, config.num_kv_heads, capacity, config.head_size)
        self._keys = torch.empty(shape, dtype=dtype, device=device)
        self._values = torch.empty_like(self._keys)
        # Keys and values [L, G, positions, K] elsewhere, and the first position that is there.
        self._redirect: tuple[Tensor, Tensor, int] | None = None
        self.length, self.window = 0, config.sliding_window
        # Owners: the sequence itself, the prefix cache.
        self.ref_count = 1

    @property
    def keys(self) -> Tensor:
        """Keys [L, G, capacity, K]."""
        self.copy_back()
        return self._keys

    @property
    def values(self) -> Tensor:
        """Values [L, G, capacity, K]."""
        self.copy_back()
        return self._values

    @property
    def capacity(self) -> int:
        """Positions that fit."""
        return self._keys.shape[2]

    @property
    def num_bytes(self) -> int:
        """Memory of all positions, filled or not. Safe to read from any thread."""
        return 2 * self._keys.numel() * self._keys.element_size()

    @property
    def is_redirected(self) -> bool:
        """Whether new positions are written elsewhere."""
        return self._redirect is not None

    def redirect(self, keys: Tensor, values: Tensor) -> None:
        """Leaves positions from `length` on in these [L, G, positions, K] until `copy_back`."""
        assert self._redirect is None
        self._redirect = keys, values, self.length

    def copy_back(self) -> None:
        """Copies redirected positions into this cache."""
        if self._redirect is not None:
            keys, values, begin = self._redirect
            self._redirect = None
            self._keys[:, :, begin : self.length] = keys[:, :, begin : self.length]
            self._values[:, :, begin : self.length] = values[:, :, begin : self.length]

    def copy_prefix(self, other: "KVCache", length: int) -> None:
        """Fills the first `length` positions from another cache, and drops the rest."""
        self.keys[:, :, :length] = other.keys[:, :, :length]
        self.values[:, :, :length] = other.values[:, :, :length]
        self.length = length

    def trim(self) -> None:
        """Frees the memory of positions that are not filled."""
        if self.length < self.capacity:
            self._keys, self._values = (
                x[:, :, : self.length].clone() for x in (self.keys, self.values)
            )

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Writes `keys`, `values` [G, s, K] after the filled ones; returns both [G, T, K]."""
        own_keys, own_values = self.keys[layer], self.values[layer]
        stop = self.length + keys.shape[1]
        own_keys[:, self.length : stop] = keys
        own_values[:, self.length : stop] = values
        return own_keys[:, :stop], own_values[:, :stop]


def count_position_bytes(config: LanguageConfig, dtype: torch.dtype, *, in_int8: bool) -> int:
    """Returns the bytes of the keys and values of one position in all layers."""
    one = config.head_size + SCALE_BYTES if in_int8 else config.head_size * dtype.itemsize
    return 2 * config.num_layers * config.num_kv_heads * one


class KVCacheBatch:
    """The caches of one pass: `counts[i]` new tokens for `caches[i]`, then padding.

    Sequences do not attend to one another. `one_by_one` attends with one query of a sequence at a
    time, so that the bits of each are the same however many come together.
    """

    def __init__(
        self, caches: Sequence[KVCache], counts: Sequence[int], *, one_by_one: bool = False
    ) -> None:
        self.caches, self.counts, self.one_by_one = caches, counts, one_by_one
        self._single_tokens: _SingleTokens | None = None
        on_cpu = caches[0].keys.device.type == "cpu"
        is_plain = all(cache.is_plain for cache in caches)
        if on_cpu and is_plain and not one_by_one and all(count == 1 for count in counts):
            self._single_tokens = _SingleTokens(caches)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Writes `k`, `v` [1, G, S, K] into the caches; attends with `q` [1, Q, S, K], causally."""
        if self._single_tokens is not None:
            return self._single_tokens.attend(layer, q, k, v)
        if len(self.caches) == 1 and self.counts[0] == q.shape[2] and not self.one_by_one:
            keys, values = self.caches[0].write(layer, k[0], v[0])
            return attend_last(q[0], keys, values, window=self.caches[0].window)[None]
        out = torch.zeros_like(q) if sum(self.counts) < q.shape[2] else torch.empty_like(q)
        begin = 0
        for cache, count in zip(self.caches, self.counts, strict=True):
            own = slice(begin, begin + count)
            keys, values = cache.write(layer, k[0, :, own], v[0, :, own])
            step = 1 if self.one_by_one else count
            for first in range(0, count, step):
                part = slice(begin + first, begin + first + step)
                visible = keys.shape[1] - count + first + step
                out[0, :, part] = attend_last(
                    q[0, :, part], keys[:, :visible], values[:, :visible], window=cache.window
                )
            begin = own.stop
        return out

    def advance(self) -> None:
        """Counts the new tokens as filled, after all layers have run."""
        for cache, count in zip(self.caches, self.counts, strict=True):
            cache.length += count


class _SingleTokens:
    """One new token for each of many sequences: all views that the layers need, made at once."""

    def __init__(self, caches: Sequence[KVCache]) -> None:
        self.window = caches[0].window
        stored = [*(cache.keys for cache in caches), *(cache.values for cache in caches)]
        lengths = [cache.length for cache in caches] * 2
        # By layer: where the new tokens go [G, 1, K], and what they attend to [G, T, K].
        self.targets = _views_by_layer(stored, [slice(n, n + 1) for n in lengths])
        self.visible = _views_by_layer(stored, [slice(0, n + 1) for n in lengths])

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Writes `k`, `v` [1, G, n, K], a token per cache; attends with `q` [1, Q, n, K]."""
        new = [*k[0].split(1, dim=1), *v[0].split(1, dim=1)]
        torch._foreach_copy_(self.targets[layer], new)
        visible, n = self.visible[layer], q.shape[2]
        return attend_rows(q[0], visible[:n], visible[n:], window=self.window)[None]


def _views_by_layer(stored: Sequence[Tensor], parts: Sequence[slice]) -> list[tuple[Tensor, ...]]:
    """Returns, by layer, views [G, t, K] of a part of the positions of each [L, G, capacity, K]."""
    views = (x[:, :, part].unbind() for x, part in zip(stored, parts, strict=True))
    return list(zip(*views, strict=True))
