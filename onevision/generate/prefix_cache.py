"""What was read before, found again by content: prompts that begin alike share their prefill.

A prompt is a row of numbers: ids, and in place of each visual token one drawn from the digest of
its image and its place in it. Blocks of the row are chained by SHA-256, so a block's key stands
for all that comes before it: the tenant, the words, the pixels, the way they were cut.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np

from onevision.anyres import Layout
from onevision.batch import ModelInputs
from onevision.generate.kv_cache import Span

# Tokens of a block.
BLOCK = 16


class PrefixCache:
    """Spans of what was read. Those that nobody else holds are given up, longest unused first."""

    def __init__(self) -> None:
        self.hits = self.misses = self.tokens_saved = 0
        self._spans: OrderedDict[Span, list[bytes]] = OrderedDict()
        self._blocks: dict[bytes, tuple[Span, int]] = {}  # key -> span, tokens up to its end

    @property
    def idle_bytes(self) -> int:
        """Memory of the spans that only this cache holds. Any thread may ask."""
        return sum(span.num_bytes for span in list(self._spans) if span.holders == 1)

    def longest(self, keys: Sequence[bytes], *, limit: int, multiple: int) -> tuple[Span, int]:
        """Return the span that begins with the most of `keys`, and how many tokens of it.

        No more than `limit` tokens, and a `multiple` of so many. Raises KeyError where there is
        none.
        """
        for count in range(min(len(keys), limit // BLOCK), 0, -1):
            if count * BLOCK % multiple == 0 and keys[count - 1] in self._blocks:
                span, tokens = self._blocks[keys[count - 1]]
                self._spans.move_to_end(span)
                return span, tokens
        raise KeyError

    def add(self, keys: Sequence[bytes], span: Span) -> None:
        """Remember that `span` begins with the blocks of `keys`; more may be added later."""
        fresh = [
            (key, number * BLOCK)
            for number, key in enumerate(keys, start=1)
            if key not in self._blocks and number * BLOCK <= span.end
        ]
        if not fresh:
            return
        if span not in self._spans:
            span.holders += 1
            self._spans[span] = []
        self._spans.move_to_end(span)
        self._spans[span] += [key for key, _ in fresh]
        self._blocks.update((key, (span, tokens)) for key, tokens in fresh)

    def shrink(self, max_idle_bytes: int) -> None:
        """Forget the longest unused until idle spans take no more than so much."""
        excess = self.idle_bytes - max_idle_bytes
        for span in [span for span in self._spans if span.holders == 1]:
            if excess <= 0:
                return
            excess -= span.num_bytes
            self._forget(span)

    def clear(self) -> None:
        """Forget everything."""
        for span in list(self._spans):
            self._forget(span)

    def _forget(self, span: Span) -> None:
        for key in self._spans.pop(span):
            del self._blocks[key]
        span.holders -= 1


def media_digests(prompt: ModelInputs) -> list[bytes]:
    """Return a SHA-256 of each image and video: of its pixels as they will be seen."""
    digests, begin = list[bytes](), 0
    for layout in prompt.layouts:
        crops = prompt.pixel_values[begin : begin + layout.num_crops]
        begin += layout.num_crops
        digest = hashlib.sha256(repr(layout).encode())
        digest.update(crops.contiguous().numpy().data.cast("B"))
        digests.append(digest.digest())
    return digests


def content_row(prompt: ModelInputs, digests: Sequence[bytes]) -> np.ndarray:
    """Return what stands at each position of a prompt of one row: [S, 5] int64.

    An id and zeros; for visual tokens their number and the 256 bits of the medium's digest.
    """
    row = np.zeros((prompt.input_ids.shape[1], 5), dtype=np.int64)
    row[:, 0] = prompt.input_ids[0].numpy()
    visual = np.flatnonzero(prompt.visual_mask[0].numpy())
    for digest, places in zip(digests, _by_medium(visual, prompt.layouts), strict=True):
        row[places, 0] = np.arange(1, len(places) + 1)
        row[places, 1:] = np.frombuffer(digest, dtype=np.int64)
    return row


def block_keys(content: np.ndarray, *, salt: bytes) -> list[bytes]:
    """Return the key of every whole block of a row [S, 5]; `salt` keeps tenants apart."""
    keys, key = list[bytes](), hashlib.sha256(salt).digest()
    for begin in range(0, len(content) - BLOCK + 1, BLOCK):
        key = hashlib.sha256(key + content[begin : begin + BLOCK].tobytes()).digest()
        keys.append(key)
    return keys


def _by_medium(visual: np.ndarray, layouts: Sequence[Layout]) -> Iterator[np.ndarray]:
    """Split the positions of all visual tokens by image and video."""
    begin = 0
    for layout in layouts:
        yield visual[begin : begin + layout.num_tokens]
        begin += layout.num_tokens
