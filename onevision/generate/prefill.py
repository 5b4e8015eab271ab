"""Prompts -> their KV caches, and the logits of the first new token: a chunk of tokens per step."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from onevision.generate.kv_cache import KVCache, KVCacheBatch
from onevision.generate.prefix_cache import PrefixCache
from onevision.generate.request import Request
from onevision.generate.settings import EngineSettings
from onevision.generate.vision_cache import MediaEncoding, VisionCache
from onevision.model.llava import LlavaNetwork
from onevision.pruning import add_gaps


class Prefiller:
    """Prefills prompts in the order they came, several short ones in one pass.

    A deterministic one takes one prompt at a time, in chunks that begin at multiples of their size:
    what is computed then depends on the prompt alone, whatever the prefix cache holds.
    """

    def __init__(
        self,
        network: LlavaNetwork,
        settings: EngineSettings,
        prefix_cache: PrefixCache,
        new_kv_cache: Callable[[Request], KVCache],
    ) -> None:
        self.network, self.prefix_cache, self.new_kv_cache = network, prefix_cache, new_kv_cache
        self.deterministic = settings.deterministic
        self.vision_cache = VisionCache(
            network,
            max_bytes=settings.encoder_bytes,
            one_at_a_time=settings.deterministic,
            cuda_graphs=settings.allows_cuda_graphs,
        )
        self.chunk_tokens = settings.chunk_tokens_on(network.language_model.device.type)

    def step(self, requests: Sequence[Request]) -> list[tuple[Request, Tensor]]:
        """Encodes some crops, then prefills up to `chunk_tokens` tokens of `requests`.

        Returns the requests whose prompts are complete now, with their logits [vocab].
        """
        if self.deterministic:
            requests = requests[:1]
        for request in requests:
            if request.kv_cache is None:
                request.kv_cache = self.new_kv_cache(request)
        self._reuse_prefix(requests[0])
        if find_unencoded(requests[0]):
            self.vision_cache.encode([m for r in requests for m in find_unencoded(r)])
        if find_unencoded(requests[0]):
            return []
        return self._run(self._next_chunk(requests))

    def _reuse_prefix(self, request: Request) -> None:
        """Copies a cached prefix if it is longer than what is prefilled already."""
        assert request.kv_cache is not None
        multiple = self.chunk_tokens if self.deterministic else 1
        limit = request.num_tokens - 1  # the last token gives the logits
        found = self.prefix_cache.find(request.block_hashes, limit=limit, multiple=multiple)
        if found is None:
            return
        cached, length = found
        if length > request.kv_cache.length:
            self.prefix_cache.tokens_saved += length - request.kv_cache.length
            request.cached_tokens = length
            request.kv_cache.copy_prefix(cached, length)

    def _next_chunk(self, requests: Sequence[Request]) -> list[tuple[Request, slice]]:
        """Returns which positions of which prompts the next pass takes."""
        chunk, room = list[tuple[Request, slice]](), self.chunk_tokens
        for request in requests:
            self._reuse_prefix(request)
            assert request.kv_cache is not None
            if not room or find_unencoded(request):
                break
            begin = request.kv_cache.length
            if self.deterministic:
                room = self.chunk_tokens - begin % self.chunk_tokens
            part = slice(begin, min(begin + room, request.num_tokens))
            chunk.append((request, part))
            room -= part.stop - part.start
        return chunk

    def _run(self, chunk: Sequence[tuple[Request, slice]]) -> list[tuple[Request, Tensor]]:
        """Runs parts of prompts in one pass; returns the requests that are complete with it."""
        network = self.network
        norm = network.language_model.norm.weight
        device = norm.device
        ids = torch.cat([r.prompt.input_ids[:, part] for r, part in chunk], dim=1)  # [1, S]
        visual = torch.cat([r.prompt.visual_mask[:, part] for r, part in chunk], dim=1)
        positions = torch.cat([find_part_positions(r, part) for r, part in chunk])
        tokens = [norm.new_zeros(0, len(norm))]
        tokens += [piece for r, part in chunk for piece in slice_visual_tokens(r, part)]
        x = network.place(ids.to(device), visual.to(device), torch.cat(tokens))  # [1, S, D]
        caches = [r.kv_cache for r, _ in chunk if r.kv_cache is not None]
        counts = [part.stop - part.start for _, part in chunk]
        batch = KVCacheBatch(caches, counts)
        hidden = network.run(x, positions[None].to(device), cache=batch)[0]  # [S, D]
        batch.advance()
        last = torch.tensor(counts).cumsum(0) - 1
        done = [i for i, (r, part) in enumerate(chunk) if part.stop == r.num_tokens]
        if not done:
            return []
        logits = network.head(hidden[last[done].to(device)])  # [len(done), vocab]
        for i in done:
            self._add_to_prefix_cache(chunk[i][0], caches[i])
        return [(chunk[i][0], row) for i, row in zip(done, logits, strict=True)]

    def _add_to_prefix_cache(self, request: Request, cache: KVCache) -> None:
        self.prefix_cache.hits += request.cached_tokens > 0
        self.prefix_cache.misses += request.cached_tokens == 0
        self.prefix_cache.add(request.block_hashes, cache)


def find_unencoded(request: Request) -> list[MediaEncoding]:
    """Returns the media whose visual tokens are still to be prefilled and are not encoded yet."""
    begin = 0 if request.kv_cache is None else request.kv_cache.length
    return [m for m in request.media if m.tokens is None and m.last_position >= begin]


def find_part_positions(request: Request, part: slice) -> Tensor:
    """Returns the rotary positions [n] of a part of a prompt: dropped tokens leave theirs empty."""
    positions = torch.arange(part.start, part.stop)
    for medium in request.media:
        add_gaps(
            positions, begin=part.start, first=medium.first_position, layout=medium.layout,
            places=medium.places,
        )  # fmt: skip
    return positions


def slice_visual_tokens(request: Request, part: slice) -> list[Tensor]:
    """Returns the visual tokens [n, D] at the positions `part` of a prompt, in order."""
    mask = request.prompt.visual_mask[0]
    before = int(mask[: part.start].sum())
    wanted = range(before, before + int(mask[part].sum()))
    found, first = list[Tensor](), 0
    for medium in request.media:
        count = medium.layout.num_tokens
        begin, end = max(wanted.start, first), min(wanted.stop, first + count)
        if begin < end:
            assert medium.tokens is not None
            found.append(medium.tokens[begin - first : end - first])
        first += count
    return found
