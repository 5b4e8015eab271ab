"""An `Int4Linear` on a GPU -> the same layer in the layout of ATen's kernel there.

The kernel multiplies any number of rows in bf16 from half a byte a weight; it unpacks the weights
again for every few rows, so that prompts are read slower than with 8 bits.
"""

import torch
from torch import Tensor, nn

from onevision.accelerate.int4 import GROUP, Int4Linear

# Tiles of 16 inputs that the kernel reads at a time, of the 2, 4 or 8 that it knows.
INNER_TILES = 8
# Rows that a layer is tried with, and how far its products may be from the plain layer's, as a
# share of the largest: the kernel rounds weights to bf16, the plain layer does not.
ROWS_TO_TRY, MOST_ERROR = (1, 5, 40), 2**-6


class CudaInt4Linear(nn.Module):
    """An `Int4Linear` whose weights have the layout of ATen's kernel for GPUs, half a byte each."""

    def __init__(self, layer: Int4Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.register_buffer("bias", layer.bias)
        pairs = layer.numbers[:, ::2] << 4 | layer.numbers[:, 1::2]
        self.packed = torch.ops.aten._convert_weight_to_int4pack(pairs, INNER_TILES)
        scales = torch.stack([layer.scale, layer.middle], dim=-1).transpose(0, 1)
        self.scales = scales.contiguous()  # [K/64, N, 2]

    def forward(self, x: Tensor) -> Tensor:
        """Transforms `x` [..., K] -> [..., N], in the type of `x`; the kernel takes bf16."""
        rows = x.flatten(0, -2)
        y = torch.ops.aten._weight_int4pack_mm(
            rows.to(torch.bfloat16), self.packed, GROUP, self.scales
        ).to(x.dtype)
        if self.bias is not None:
            y += self.bias
        return y.unflatten(0, x.shape[:-1])


@torch.inference_mode()
def pack_int4(layer: Int4Linear, reasons: list[str]) -> nn.Module:
    """Returns the layer packed; or itself where the kernel is absent or wrong, and adds why."""
    try:
        packed = CudaInt4Linear(layer)
        if (fault := _find_fault(packed, layer)) is None:
            return packed
    except (AttributeError, RuntimeError) as error:
        fault = str(error).splitlines()[0]
    reasons.append(f"ATen's int4, {layer.in_features} x {layer.out_features}: {fault}")
    return layer


def _find_fault(packed: nn.Module, layer: Int4Linear) -> str | None:
    device = layer.numbers.device
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(max(ROWS_TO_TRY), layer.in_features, generator=generator)
    rows = rows.to(device=device, dtype=torch.bfloat16)
    expected = layer(rows.float())
    for count in ROWS_TO_TRY:
        off = (packed(rows[:count]).float() - expected[:count]).abs() / expected.abs().max()
        if float(off.nan_to_num(torch.inf).max()) > MOST_ERROR:
            return f"wrong products of {count} rows, by {float(off.max()):.2g} of the largest"
    return None
