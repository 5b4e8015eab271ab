"""Images and videos of prompts -> visual tokens [V, D], a few crops at a time.

Tokens are cached by salt and content, so the same picture in another question costs nothing.
"""

import itertools
import time
from collections import OrderedDict, defaultdict
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


@dataclass(eq=False, kw_only=True)
class MediaEncoding:
    """How far the vision encoder has come with one image or video of a prompt."""

    key: tuple[bytes, bytes]  # salt, digest of the content
    layout: Layout
    last_position: int  # of its visual tokens in the prompt
    crops: Tensor  # [N, 3, H, W], those still to be encoded
    patches: list[Tensor] = field(default_factory=list)  # [n, P, D] of those encoded
    tokens: Tensor | None = None  # [V, D], once all are
    seconds: float = 0.0  # its share of the encoder's time


def pending_encodings(
    prompt: ModelInputs, digests: Sequence[bytes], *, salt: bytes
) -> list[MediaEncoding]:
    """Returns the images and videos of a prompt in order, with nothing encoded yet."""
    if not prompt.layouts:
        return []
    crops = prompt.pixel_values.split([layout.num_crops for layout in prompt.layouts])
    visual = prompt.visual_mask[0].nonzero()[:, 0]
    ends = itertools.accumulate(layout.num_tokens for layout in prompt.layouts)
    return [
        MediaEncoding(
            key=(salt, digest), layout=layout, last_position=int(visual[end - 1]), crops=own
        )
        for digest, layout, end, own in zip(digests, prompt.layouts, ends, crops, strict=True)
    ]


class VisionCache:
    """Encodes media, and keeps up to `max_bytes` of their visual tokens (LRU).

    `one_at_a_time` never encodes crops of two media together, so that the bits of a medium's
    tokens depend on the medium alone.
    """

    def __init__(
        self,
        network: LlavaNetwork,
        *,
        max_bytes: int,
        one_at_a_time: bool = False,
        cuda_graphs: bool = False,
    ) -> None:
        self.network, self.max_bytes, self.one_at_a_time = network, max_bytes, one_at_a_time
        self.device = network.language_model.device
        patches = network.vision_encoder.position_embedding.num_embeddings
        self.crops_at_once = max(1, PATCHES_AT_ONCE[self.device.type] // patches)
        self._vision_encoder: Callable[[Tensor], Tensor] = network.vision_encoder
        if cuda_graphs and self.device.type == "cuda":
            self._vision_encoder = GraphedVisionEncoder(network.vision_encoder)
        self.hits = self.misses = self.num_bytes = 0
        self._tokens: OrderedDict[tuple[bytes, bytes], Tensor] = OrderedDict()

    def encode(self, media: Sequence[MediaEncoding]) -> None:
        """Encodes up to `crops_at_once` crops of the first media whose tokens are not cached."""
        chosen: list[tuple[MediaEncoding, Tensor]] = []
        room = self.crops_at_once
        for medium in media:
            if self._look_up(medium) or any(other.key == medium.key for other, _ in chosen):
                continue
            if not room or (chosen and self.one_at_a_time):
                break
            if medium.layout.num_crops == len(medium.crops) == 2 and torch.equal(*medium.crops):
                medium.crops = medium.crops[:1]  # the base of a small picture is its only crop
            chosen.append((medium, medium.crops[:room]))
            medium.crops = medium.crops[room:]
            room -= len(chosen[-1][1])
        if chosen:
            self._encode_chosen(chosen)
        for medium in media:
            if medium.tokens is None and medium.patches and not len(medium.crops):
                self._arrange(medium)

    def encode_crops(self, pixels: Tensor, owners: Sequence[Layout]) -> Tensor:
        """Returns projected patches [N, P, D] of crops [N, 3, H, W]; `owners` are their layouts."""
        return self.network.project(self._vision_encoder(pixels), owners)

    def _look_up(self, medium: MediaEncoding) -> bool:
        """Takes the tokens of a medium from the cache; returns whether it has them now."""
        if medium.tokens is None and (cached := self._tokens.get(medium.key)) is not None:
            self._tokens.move_to_end(medium.key)
            self.hits += 1
            medium.tokens, medium.crops = cached, medium.crops[:0]
        return medium.tokens is not None

    def _encode_chosen(self, chosen: Sequence[tuple[MediaEncoding, Tensor]]) -> None:
        pixels = torch.cat([crops for _, crops in chosen]).to(self.device)  # [N, 3, H, W]
        owners = [medium.layout for medium, crops in chosen for _ in crops]
        began = time.monotonic()
        patches = self.encode_crops(pixels, owners)  # [N, P, D]
        seconds = time.monotonic() - began
        counts = [len(crops) for _, crops in chosen]
        for (medium, _), own in zip(chosen, patches.split(counts), strict=True):
            medium.patches.append(own)
            medium.seconds += seconds * len(own) / len(pixels)

    def _arrange(self, medium: MediaEncoding) -> None:
        """Arranges the patches of a medium that is fully encoded as its visual tokens."""
        patches = torch.cat(medium.patches)
        if len(patches) < medium.layout.num_crops:
            patches = patches.expand(medium.layout.num_crops, -1, -1)
        medium.tokens = arrange(patches, (medium.layout,), self.network.image_newline)
        medium.patches = []
        self.misses += 1
        self._add(medium.key, medium.tokens)

    def _add(self, key: tuple[bytes, bytes], tokens: Tensor) -> None:
        size = tokens.numel() * tokens.element_size()
        if size > self.max_bytes or key in self._tokens:
            return
        self._tokens[key] = tokens
        self.num_bytes += size
        while self.num_bytes > self.max_bytes:
            _, oldest = self._tokens.popitem(last=False)
            self.num_bytes -= oldest.numel() * oldest.element_size()
