"""The crops of a pass -> their features: each of several devices encodes a part of them.

Every device has a copy of the vision encoder. Encoders at native resolution, whose cells see each
other, run on the first device alone.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from onevision.anyres import Layout
from onevision.generate.parallel.leader import Leader
from onevision.generate.parallel.protocol import Encode
from onevision.model.convnet import ConvNet
from onevision.model.vision import VisionEncoder


class LeadingEncoder(nn.Module):
    """Stands for the vision encoder on the first device; the others encode their parts."""

    def __init__(self, encoder: VisionEncoder | ConvNet, leader: Leader) -> None:
        super().__init__()
        self.encoder, self.leader = encoder, leader
        self.sequence_length, self.width = encoder.sequence_length, encoder.width

    def forward(self, pixel_values: Tensor, owners: Sequence[Layout] = ()) -> Tensor:
        """Encodes crops [N, 3, H, W] -> features [N, P, C]. Raises EngineError."""
        if len(pixel_values) == 1:
            return self.encoder(pixel_values, owners)
        pixels = pixel_values.to(next(self.encoder.parameters()).dtype).contiguous()
        num_crops, _, height, width = pixels.shape
        with self.leader.passing(Encode(num_crops=num_crops, height=height, width=width)):
            dist.broadcast(pixels, src=0)
            features = encode_part(self.encoder, pixels, rank=0, count=self.leader.count)
        assert features is not None
        return features


def encode_part(encoder: nn.Module, pixels: Tensor, *, rank: int, count: int) -> Tensor | None:
    """Encodes a device's part of crops [N, 3, H, W]; the first gets all features [N, P, C].

    A device for which there is none encodes the first one, so that all parts have a shape.
    """
    sizes = divide_crops(len(pixels), count)
    begin, end = list(pairwise(accumulate(sizes, initial=0)))[rank]
    own = encoder(pixels[begin:end] if end > begin else pixels[:1])
    own = F.pad(own, (0, 0, 0, 0, 0, sizes[0] - len(own))).contiguous()
    parts = None if rank else [torch.empty_like(own) for _ in sizes]
    dist.gather(own, parts)
    if parts is None:
        return None
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def divide_crops(num_crops: int, count: int) -> list[int]:
    """Returns how many crops each of `count` devices encodes; the first have one more."""
    least, more = divmod(num_crops, count)
    return [least + (rank < more) for rank in range(count)]
