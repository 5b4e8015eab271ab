"""Keys and values in 8 bits, a scale for each head and position: a quarter of fp32's memory.

Rows are rounded as they are written (`accelerate.int8.quantise_rows`), those of the pass that
writes them too, so that what a query sees does not depend on how a prompt is cut into passes. They
are multiplied out, layer by layer, for each pass: memory is saved, not time.
"""

import torch
from torch import Tensor

from onevision.accelerate.int8 import quantise_rows
from onevision.config import LanguageConfig
from onevision.generate.kv_cache import KVCache


class Int8KVCache(KVCache):
    """Int8 keys and values [L, G, capacity, K] of one sequence, and their scales [L, G, capacity].

    It has no plain `keys` and `values` and cannot be redirected.
    """

    is_plain = False

    def __init__(
        self, config: LanguageConfig, capacity: int, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Takes the type in which keys and values come and are given back."""
        super().__init__(config, capacity, dtype=torch.int8, device=device)
        self.dtype = dtype
        self._key_scales = torch.empty(self._keys.shape[:3], device=device)
        self._value_scales = torch.empty_like(self._key_scales)

    @property
    def num_bytes(self) -> int:
        """Memory of all positions, filled or not. Safe to read from any thread."""
        return sum(x.numel() * x.element_size() for x in self._stored)

    def copy_prefix(self, other: KVCache, length: int) -> None:
        """Fills the first `length` positions from another cache of this kind; drops the rest."""
        assert isinstance(other, Int8KVCache)
        for own, theirs in zip(self._stored, other._stored, strict=True):
            own[:, :, :length] = theirs[:, :, :length]
        self.length = length

    def trim(self) -> None:
        """Frees the memory of positions that are not filled."""
        if self.length < self.capacity:
            kept = [x[:, :, : self.length].clone() for x in self._stored]
            self._keys, self._values, self._key_scales, self._value_scales = kept

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Writes `keys`, `values` [G, s, K] after the filled ones; returns both [G, T, K]."""
        stop = self.length + keys.shape[1]
        new = slice(self.length, stop)
        found = list[Tensor]()
        for rows, numbers, scales in (
            (keys, self._keys[layer], self._key_scales[layer]),
            (values, self._values[layer], self._value_scales[layer]),
        ):
            rounded, scale = quantise_rows(rows.flatten(0, 1), dtype=torch.float32)
            numbers[:, new] = rounded.view(rows.shape)
            scales[:, new] = scale.view(rows.shape[:2])
            own = numbers[:, :stop].to(self.dtype)
            found.append(own.mul_(scales[:, :stop, None].to(self.dtype)))
        return found[0], found[1]

    @property
    def _stored(self) -> tuple[Tensor, ...]:
        return self._keys, self._values, self._key_scales, self._value_scales
