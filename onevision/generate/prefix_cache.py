"""Prompts that begin like an earlier one -> its KV cache, found by content, so both share prefill.

A prompt is a row of numbers: token ids, and for each visual token the digest of its medium and its
place in it. Blocks of the row are chained by SHA-256, so the hash of a block stands for everything
before it: the tenant, the text, the pixels and how they were cut into crops.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from onevision.anyres import Layout
from onevision.batch import ModelInputs
from onevision.generate.kv_cache import KVCache

if TYPE_CHECKING:
    from onevision.generate.request import Request

BLOCK_TOKENS = 16


class PrefixCache:
    """KV caches by the hashes of their blocks. Those with no other owner may be evicted (LRU).

    However many are kept, a request costs the same: only those in use are looked through.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        """Without `enabled`, nothing is ever added."""
        self.enabled = enabled
        self.hits = self.misses = self.tokens_saved = 0
        # Memory of the KV caches that have no other owner. Safe to read from any thread.
        self.idle_bytes = 0
        self._hashes: dict[KVCache, list[bytes]] = {}
        self._blocks: dict[bytes, tuple[KVCache, int]] = {}  # hash -> cache, tokens to its end
        self._busy: dict[KVCache, None] = {}  # as of the last look: owned by a request too
        self._idle: OrderedDict[KVCache, int] = OrderedDict()  # bytes; least recent first

    def __len__(self) -> int:
        """The KV caches that are kept."""
        return len(self._hashes)

    def find(
        self, block_hashes: Sequence[bytes], *, limit: int, multiple: int
    ) -> tuple[KVCache, int] | None:
        """Returns the cache that shares the longest prefix, and its length in tokens, if any does.

        The length is at most `limit` and a multiple of `multiple`.
        """
        for count in range(min(len(block_hashes), limit // BLOCK_TOKENS), 0, -1):
            if count * BLOCK_TOKENS % multiple == 0 and block_hashes[count - 1] in self._blocks:
                cache, tokens = self._blocks[block_hashes[count - 1]]
                if cache in self._idle:
                    self._idle.move_to_end(cache)
                return cache, tokens
        return None

    def add(self, block_hashes: Sequence[bytes], cache: KVCache) -> None:
        """Adds the filled blocks of `cache`, which begin with these; more may be added later."""
        fresh = [
            (block_hash, number * BLOCK_TOKENS)
            for number, block_hash in enumerate(block_hashes, start=1)
            if block_hash not in self._blocks and number * BLOCK_TOKENS <= cache.length
        ]
        if not fresh or not self.enabled:
            return
        if cache not in self._hashes:
            cache.ref_count += 1
            self._hashes[cache] = []
            self._busy[cache] = None
        self._hashes[cache] += [block_hash for block_hash, _ in fresh]
        self._blocks.update((block_hash, (cache, tokens)) for block_hash, tokens in fresh)

    def add_answers(self, request: "Request") -> None:
        """Adds a prompt and its answers, which have ended: the next turn begins with them."""
        for answer in request.answers:
            assert answer.kv_cache is not None
            generated = np.zeros((len(answer.ids), request.content.shape[1]), dtype=np.int64)
            generated[:, 0] = answer.ids
            content = np.concatenate([request.content, generated])
            self.add(hash_blocks(content, salt=request.salt), answer.kv_cache)

    def shrink(self, max_idle_bytes: int) -> None:
        """Evicts the least recently used until `idle_bytes` is at most `max_idle_bytes`."""
        self._find_idle()
        while self.idle_bytes > max_idle_bytes and self._idle:
            cache, num_bytes = self._idle.popitem(last=False)
            self.idle_bytes -= num_bytes
            for block_hash in self._hashes.pop(cache):
                del self._blocks[block_hash]
            cache.ref_count -= 1

    def _find_idle(self) -> None:
        """Notes which caches no request owns any more; none of them is ever owned again."""
        for cache in [cache for cache in self._busy if cache.ref_count == 1]:
            del self._busy[cache]
            self._idle[cache] = cache.num_bytes
            self.idle_bytes += cache.num_bytes


def hash_media(prompt: ModelInputs) -> list[bytes]:
    """Returns the SHA-256 of each image and video: of its layout and of its crops' pixels."""
    digests, begin = list[bytes](), 0
    for layout in prompt.layouts:
        crops = prompt.pixel_values[begin : begin + layout.num_crops]
        begin += layout.num_crops
        digest = hashlib.sha256(repr(layout).encode())
        digest.update(crops.contiguous().numpy().data.cast("B"))
        digests.append(digest.digest())
    return digests


def content_rows(prompt: ModelInputs, digests: Sequence[bytes]) -> np.ndarray:
    """Returns what each position of a prompt holds, [S, 5] int64.

    Of text the token id and zeros; of a visual token its number within its medium, from 1, and the
    256 bits of the medium's digest.
    """
    rows = np.zeros((prompt.input_ids.shape[1], 5), dtype=np.int64)
    rows[:, 0] = prompt.input_ids[0].numpy()
    visual = np.flatnonzero(prompt.visual_mask[0].numpy())
    for digest, positions in zip(digests, _split_by_medium(visual, prompt.layouts), strict=True):
        rows[positions, 0] = np.arange(1, len(positions) + 1)
        rows[positions, 1:] = np.frombuffer(digest, dtype=np.int64)
    return rows


def hash_blocks(content: np.ndarray, *, salt: bytes) -> list[bytes]:
    """Returns the chained hash of every whole block of rows [S, 5]; `salt` keeps tenants apart."""
    hashes, last = list[bytes](), hashlib.sha256(salt).digest()
    for begin in range(0, len(content) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        last = hashlib.sha256(last + content[begin : begin + BLOCK_TOKENS].tobytes()).digest()
        hashes.append(last)
    return hashes


def _split_by_medium(visual: np.ndarray, layouts: Sequence[Layout]) -> Iterator[np.ndarray]:
    """Yields the positions of the visual tokens of each image and video."""
    begin = 0
    for layout in layouts:
        yield visual[begin : begin + layout.num_tokens]
        begin += layout.num_tokens


def hash_salt(tenant: str, cache_salt: str) -> bytes:
    """Returns what keeps the cached content of tenants, and of salts within one, apart."""
    parts = (part.encode(errors="surrogatepass") for part in (tenant, cache_salt))
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()
