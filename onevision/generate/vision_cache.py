"""Images and videos of waiting prompts -> visual tokens, a few crops at a time, each once.

What was encoded is kept by content, so the same picture in another question costs nothing.
"""

import itertools
import time
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from onevision.accelerate.cuda_graphs import GraphedVisionEncoder
from onevision.anyres import Layout
from onevision.batch import ModelInputs
from onevision.model.llava import LlavaNetwork
from onevision.model.visual_tokens import arrange

# Patches encoded at once: more are slower on a CPU, fewer are slower on a GPU.
PATCHES_AT_ONCE = defaultdict(lambda: 16384, cpu=1024)


@dataclass(eq=False)
class Medium:
    """One image or video of a prompt, on its way through the vision encoder."""

    digest: bytes
    layout: Layout
    last: int  # position of its last visual token
    crops: Tensor  # [N, 3, H, W], those not yet encoded
    patches: list[Tensor] = field(default_factory=list)  # [n, P, D] of those that are
    tokens: Tensor | None = None  # [V, D], once all are
    seconds: float = 0.0  # its share of what encoding took


def media_of(prompt: ModelInputs, digests: Sequence[bytes]) -> list[Medium]:
    """Return the images and videos of a prompt of one row, nothing encoded yet."""
    if not prompt.layouts:
        return []
    crops = prompt.pixel_values.split([layout.num_crops for layout in prompt.layouts])
    visual = prompt.visual_mask[0].nonzero()[:, 0]
    ends = itertools.accumulate(layout.num_tokens for layout in prompt.layouts)
    return [
        Medium(digest=digest, layout=layout, last=int(visual[end - 1]), crops=own)
        for digest, layout, end, own in zip(digests, prompt.layouts, ends, crops, strict=True)
    ]


class Encoder:
    """Encodes media in parts; keeps up to `max_bytes` of visual tokens by content.

    `apart` never encodes crops of two media together, so that the bits of a medium's tokens are a
    function of the medium alone.
    """

    def __init__(
        self,
        network: LlavaNetwork,
        *,
        max_bytes: int,
        apart: bool = False,
        cuda_graphs: bool = False,
    ) -> None:
        self.network, self.max_bytes, self.apart = network, max_bytes, apart
        self.device = network.language_model.device
        patches = network.vision_encoder.position_embedding.num_embeddings
        self.crops_at_once = max(1, PATCHES_AT_ONCE[self.device.type] // patches)
        self._see: Callable[[Tensor], Tensor] = network.vision_encoder
        if cuda_graphs and self.device.type == "cuda":
            self._see = GraphedVisionEncoder(network.vision_encoder)
        self.hits = self.misses = self.num_bytes = 0
        self._kept: OrderedDict[tuple[bytes, bytes], Tensor] = OrderedDict()

    def patches(self, pixels: Tensor, owners: Sequence[Layout]) -> Tensor:
        """Turn crops [N, 3, H, W] of the media `owners` into projected patches [N, P, D]."""
        return self.network.project(self._see(pixels), owners)

    def recall(self, medium: Medium, salt: bytes) -> bool:
        """Take the visual tokens from what is kept for the same tenant, if they are there."""
        if medium.tokens is None and (kept := self._kept.get((salt, medium.digest))) is not None:
            self._kept.move_to_end((salt, medium.digest))
            self.hits += 1
            medium.tokens, medium.crops = kept, medium.crops[:0]
        return medium.tokens is not None

    def work(self, waiting: deque[tuple[Medium, bytes]]) -> None:
        """Encode some crops of the first media that wait; take those that are done off the queue.

        Each comes with the salt of its tenant.
        """
        todo: list[tuple[Medium, Tensor]] = []
        room = self.crops_at_once
        for medium, salt in list(waiting):
            if self.recall(medium, salt) or any(m.digest == medium.digest for m, _ in todo):
                continue
            if not room or (todo and self.apart):
                break
            if medium.layout.num_crops == len(medium.crops) == 2 and torch.equal(*medium.crops):
                medium.crops = medium.crops[:1]  # a small picture is its own only crop
            todo.append((medium, medium.crops[:room]))
            medium.crops = medium.crops[room:]
            room -= len(todo[-1][1])
        if todo:
            self._encode(todo)
        self._finish(waiting)

    def _encode(self, todo: list[tuple[Medium, Tensor]]) -> None:
        pixels = torch.cat([crops for _, crops in todo]).to(self.device)
        owners = [medium.layout for medium, crops in todo for _ in crops]
        began = time.monotonic()
        patches = self.patches(pixels, owners)
        seconds = time.monotonic() - began
        for (medium, _), own in zip(todo, patches.split([len(c) for _, c in todo]), strict=True):
            medium.patches.append(own)
            medium.seconds += seconds * len(own) / len(pixels)

    def _finish(self, waiting: deque[tuple[Medium, bytes]]) -> None:
        """Arrange what is complete and take it off the queue, wherever it stands."""
        for entry in list(waiting):
            medium, salt = entry
            if medium.tokens is None and medium.patches and not len(medium.crops):
                patches = torch.cat(medium.patches)
                if len(patches) < medium.layout.num_crops:
                    patches = patches.expand(medium.layout.num_crops, -1, -1)
                newline = self.network.image_newline
                medium.tokens = arrange(patches, (medium.layout,), newline)
                medium.patches = []
                self.misses += 1
                self._keep((salt, medium.digest), medium.tokens)
            if medium.tokens is not None:
                waiting.remove(entry)

    def _keep(self, key: tuple[bytes, bytes], tokens: Tensor) -> None:
        size = tokens.numel() * tokens.element_size()
        if size > self.max_bytes or key in self._kept:
            return
        self._kept[key] = tokens
        self.num_bytes += size
        while self.num_bytes > self.max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.num_bytes -= oldest.numel() * oldest.element_size()
