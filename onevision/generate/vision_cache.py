"""Images and videos of prompts -> visual tokens [V, D], a few crops at a time.

Tokens are cached by salt and content, so the same picture in another question costs nothing.
"""

import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from onevision.accelerate.cuda_graphs import GraphedVisionEncoder
from onevision.accelerate.processor import has_amx
from onevision.anyres import Layout
from onevision.batch import ModelInputs
from onevision.model.convnet import ConvNet
from onevision.model.llava import LlavaNetwork
from onevision.model.vision import VisionEncoder
from onevision.pruning import VisualTokens

# Patches encoded at once, by what computes: more are slower on a CPU, or keep answers waiting, and
# fewer are slower on a GPU.
PATCHES_AT_ONCE = {"cpu": 1024, "cpu with AMX": 2048, "gpu": 16384}


@dataclass(eq=False, kw_only=True)
class MediaEncoding:
    """How far the vision encoder has come with one image or video of a prompt."""

    key: tuple[bytes, bytes]  # salt, digest of the content
    layout: Layout
    last_position: int  # of its visual tokens in the prompt
    crops: Tensor  # [N, 3, H, W], those still to be encoded
    patches: list[Tensor] = field(default_factory=list)  # [n, P, D] of those encoded
    tokens: Tensor | None = None  # [V, D], once all are
    places: Tensor | None = None  # [V] int64, as in `VisualTokens`
    seconds: float = 0.0  # its share of the encoder's time

    @property
    def first_position(self) -> int:
        """Of its visual tokens in the prompt, which follow one another."""
        return self.last_position + 1 - self.layout.num_tokens


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


def _chooses(*media: MediaEncoding) -> bool:
    """Whether tokens of one are dropped: which ones must not depend on what is encoded with it."""
    return any(medium.layout.num_dropped for medium in media)


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
        patches = network.vision_encoder.sequence_length
        kind = "cpu with AMX" if has_amx() else "cpu"
        at_once = PATCHES_AT_ONCE[kind if self.device.type == "cpu" else "gpu"]
        self.crops_at_once = max(1, at_once // patches)
        encoder = network.vision_encoder
        self._encoder: Callable[[Tensor, Sequence[Layout]], Tensor] = encoder
        is_whole = isinstance(encoder, VisionEncoder | ConvNet)  # not shared by several devices
        if cuda_graphs and self.device.type == "cuda" and is_whole:
            self._encoder = GraphedVisionEncoder(encoder)
        self.hits = self.misses = self.num_bytes = 0
        self._tokens: OrderedDict[tuple[bytes, bytes], VisualTokens] = OrderedDict()

    def encode(self, media: Sequence[MediaEncoding]) -> None:
        """Encodes up to `crops_at_once` crops of the first media whose tokens are not cached."""
        chosen: list[tuple[MediaEncoding, slice]] = []
        room = self.crops_at_once
        for medium in media:
            if self._look_up(medium) or any(other.key == medium.key for other, _ in chosen):
                continue
            if not room or (chosen and (self.one_at_a_time or _chooses(medium, chosen[-1][0]))):
                break
            whole = medium.layout.crops_together
            if whole > room and chosen:
                break
            first = medium.layout.num_crops - len(medium.crops)
            if medium.layout.num_crops == len(medium.crops) == 2 and _is_repeated(medium):
                medium.crops = medium.crops[:1]  # the base of a small picture is its only crop
            taken = max(room // whole, 1) * whole  # pictures and windows are not divided
            taken = min(taken, len(medium.crops))
            chosen.append((medium, slice(first, first + taken)))
            room = max(0, room - taken)
        if chosen:
            self._encode_chosen(chosen)
        for medium in media:
            if medium.tokens is None and medium.patches and not len(medium.crops):
                self._arrange(medium)

    def encode_crops(self, pixels: Tensor, owners: Sequence[Layout]) -> Tensor:
        """Returns projected patches [N, P, D] of crops [N, 3, H, W]; `owners` are their layouts."""
        return self.network.project(self._encoder(pixels, owners), owners)

    def _look_up(self, medium: MediaEncoding) -> bool:
        """Takes the tokens of a medium from the cache; returns whether it has them now."""
        if medium.tokens is None and (cached := self._tokens.get(medium.key)) is not None:
            self._tokens.move_to_end(medium.key)
            self.hits += 1
            medium.tokens, medium.places = cached.tokens, cached.places
            medium.crops = medium.crops[:0]
        return medium.tokens is not None

    def _encode_chosen(self, chosen: Sequence[tuple[MediaEncoding, slice]]) -> None:
        """Encodes some crops of each medium, the first that are left."""
        counts = [part.stop - part.start for _, part in chosen]
        crops = [medium.crops[:n] for (medium, _), n in zip(chosen, counts, strict=True)]
        pixels = torch.cat(crops).to(self.device)  # [N, 3, H, W]
        owners = [owner for medium, part in chosen for owner in medium.layout.owners[part]]
        for (medium, _), count in zip(chosen, counts, strict=True):
            medium.crops = medium.crops[count:]
        began = time.monotonic()
        patches = self.encode_crops(pixels, owners)  # [N, P, D]
        seconds = time.monotonic() - began
        for (medium, _), own in zip(chosen, patches.split(counts), strict=True):
            medium.patches.append(own)
            medium.seconds += seconds * len(own) / len(pixels)

    def _arrange(self, medium: MediaEncoding) -> None:
        """Arranges the patches of a medium that is fully encoded as its visual tokens."""
        patches = torch.cat(medium.patches)
        if len(patches) < medium.layout.num_crops:
            patches = patches.expand(medium.layout.num_crops, -1, -1)
        made = self.network.arrange(patches, (medium.layout,))
        medium.tokens, medium.places = made.tokens, made.places
        medium.patches = []
        self.misses += 1
        self._add(medium.key, made)

    def _add(self, key: tuple[bytes, bytes], tokens: VisualTokens) -> None:
        size = tokens.tokens.nbytes + tokens.places.nbytes
        if size > self.max_bytes or key in self._tokens:
            return
        self._tokens[key] = tokens
        self.num_bytes += size
        while self.num_bytes > self.max_bytes:
            _, oldest = self._tokens.popitem(last=False)
            self.num_bytes -= oldest.tokens.nbytes + oldest.places.nbytes


def _is_repeated(medium: MediaEncoding) -> bool:
    """Whether both crops of a medium are one, which the encoder sees apart."""
    return medium.layout.crops_together == 1 and torch.equal(*medium.crops)
