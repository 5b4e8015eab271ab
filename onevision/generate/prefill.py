"""Prompts -> keys, values and the logits of what comes next: a few crops or a chunk at a time."""

from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from onevision.generate.kv_cache import Pass, Span
from onevision.generate.prefix_cache import PrefixCache
from onevision.generate.request import Request
from onevision.generate.settings import EngineSettings
from onevision.generate.vision_cache import Encoder, Medium
from onevision.model.llava import LlavaNetwork


class Reader:
    """Reads prompts in the order in which they came, several short ones in one pass.

    Deterministic, it reads one at a time, in chunks that begin at multiples of their size: what is
    computed is then a function of the prompt alone, remembered beginnings included.
    """

    def __init__(
        self,
        network: LlavaNetwork,
        settings: EngineSettings,
        new_span: Callable[[Request], Span],
    ) -> None:
        self.network, self.settings, self.new_span = network, settings, new_span
        self.encoder = Encoder(
            network,
            max_bytes=settings.encoder_bytes,
            apart=settings.deterministic,
            cuda_graphs=settings.replays,
        )
        self.chunk_tokens = settings.chunk_on(network.language_model.device.type)
        self.prefixes = PrefixCache()

    def read(self, prompts: Sequence[Request]) -> list[tuple[Request, Tensor]]:
        """Take one step with `prompts`; return those read to the end, with their logits [vocab]."""
        if self.settings.deterministic:
            prompts = prompts[:1]
        for request in prompts:
            if request.span is None:
                request.span = self.new_span(request)
        self._recall(prompts[0])
        if missing(prompts[0]):
            self.encoder.work(deque((m, r.tenant) for r in prompts for m in missing(r)))
        return self._prefill(prompts) if not missing(prompts[0]) else []

    def remember(self, keys: Sequence[bytes], span: Span) -> None:
        """Let later prompts of the tenant begin with what `span` holds."""
        if self.settings.prefix_cache:
            self.prefixes.add(keys, span)

    def _recall(self, request: Request) -> None:
        """Begin a prompt with what is remembered, where that is more than what has been read."""
        assert request.span is not None
        multiple = self.chunk_tokens if self.settings.deterministic else 1
        limit = request.num_tokens - 1  # the last token gives the logits
        try:
            known, tokens = self.prefixes.longest(request.keys, limit=limit, multiple=multiple)
        except KeyError:
            return
        if tokens > request.span.end:
            self.prefixes.tokens_saved += tokens - request.span.end
            request.cached_tokens = tokens
            request.span.take_from(known, tokens)

    def _prefill(self, prompts: Sequence[Request]) -> list[tuple[Request, Tensor]]:
        chunk, room = list[tuple[Request, slice]](), self.chunk_tokens
        for request in prompts:
            self._recall(request)
            assert request.span is not None
            if not room or missing(request):
                break
            begin = request.span.end
            if self.settings.deterministic:
                room = self.chunk_tokens - begin % self.chunk_tokens
            part = slice(begin, min(begin + room, request.num_tokens))
            chunk.append((request, part))
            room -= part.stop - part.start
        return self._run(chunk)

    def _run(self, chunk: Sequence[tuple[Request, slice]]) -> list[tuple[Request, Tensor]]:
        """Run parts of prompts in one pass; return those that end with it."""
        network = self.network
        norm = network.language_model.norm.weight
        device = norm.device
        ids = torch.cat([r.prompt.input_ids[:, part] for r, part in chunk], dim=1)
        visual = torch.cat([r.prompt.visual_mask[:, part] for r, part in chunk], dim=1)
        positions = torch.cat([torch.arange(part.start, part.stop) for _, part in chunk])
        tokens = [norm.new_zeros(0, len(norm))]
        tokens += [piece for r, part in chunk for piece in visual_tokens(r, part)]
        x = network.place(ids.to(device), visual.to(device), torch.cat(tokens))
        spans = [r.span for r, _ in chunk if r.span is not None]
        counts = [part.stop - part.start for _, part in chunk]
        cache = Pass(spans, counts)
        hidden = network.run(x, positions[None].to(device), cache=cache)[0]
        cache.advance()
        ends = torch.tensor(counts).cumsum(0) - 1
        done = [i for i, (r, part) in enumerate(chunk) if part.stop == r.num_tokens]
        if not done:
            return []
        logits = network.head(hidden[ends[done].to(device)])
        for i in done:
            request = chunk[i][0]
            self._count(request)
            assert request.span is not None
            self.remember(request.keys, request.span)
        return [(chunk[i][0], row) for i, row in zip(done, logits, strict=True)]

    def _count(self, request: Request) -> None:
        self.prefixes.hits += request.cached_tokens > 0
        self.prefixes.misses += request.cached_tokens == 0


def missing(request: Request) -> list[Medium]:
    """Return the images and videos that are not encoded and whose tokens are still to be read."""
    begin = 0 if request.span is None else request.span.end
    return [m for m in request.media if m.tokens is None and m.last >= begin]


def visual_tokens(request: Request, part: slice) -> list[Tensor]:
    """Return the visual tokens [n, D] that stand in a part of a prompt, in order."""
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
