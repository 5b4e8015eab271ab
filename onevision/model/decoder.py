"""Language model: embeddings [B, S, D] -> hidden states [B, S, D], logits on request.

Qwen, LLaMA and Mistral are one architecture with other numbers.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onevision.accelerate.fused import Joined
from onevision.batch import Blocks
from onevision.config import LanguageConfig
from onevision.model import few_kernels
from onevision.model.attention import attend, within_window


class Cache(Protocol):
    """Keys and values of what was read before, of every layer; attention goes through it."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Add `k`, `v` [B, G, S, K] to what `layer` holds; let `q` [B, Q, S, K] look at it all."""
        ...


class Decoder(nn.Module):
    """A causal transformer: RMSNorm, rotary positions, grouped-query attention, SwiGLU."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(DecoderBlock(config, i) for i in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        self.rope_theta, self.rope_factor = config.rope_theta, config.rope_factor
        self.head_size, self.window = config.head_size, config.sliding_window

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self.norm.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.norm.weight.device

    def forward(
        self,
        x: Tensor,
        position_ids: Tensor,
        *,
        mask: Tensor | Blocks | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Run embeddings `x` [B, S, D] at `position_ids` [B, S] -> normed hidden states [B, S, D].

        Attention is causal over the row unless `mask` [B, 1, S, T] says what may be seen (True).
        With a `cache`, the row continues what it holds, and the cache alone says what is seen.
        Padding to the right needs no mask.
        """
        if cache is None:
            mask = within_window(self.window, mask, position_ids)
        rotation = rotary(
            position_ids,
            self.head_size,
            theta=self.rope_theta,
            factor=self.rope_factor,
            dtype=x.dtype,
        )
        for block in self.blocks:
            x = block(x, rotation, mask=mask, cache=cache)
        return self.norm(x)


class DecoderBlock(nn.Module):
    """Pre-norm attention and SwiGLU, each added to its input."""

    def __init__(self, config: LanguageConfig, index: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.attention = Attention(config, index)
        self.mlp_norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = SwiGLU(config.hidden_size, hidden=config.intermediate_size)

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        *,
        mask: Tensor | Blocks | None,
        cache: Cache | None,
    ) -> Tensor:
        """Transform `x` [B, S, D] -> [B, S, D]."""
        x = x + self.attention(self.attention_norm(x), rotation, mask=mask, cache=cache)
        return x + self.mlp(self.mlp_norm(x))


class Attention(nn.Module):
    """Grouped-query attention: Q query heads share G key/value heads; q, k, v may have biases."""

    def __init__(self, config: LanguageConfig, index: int) -> None:
        super().__init__()
        self.index, self.head_size = index, config.head_size
        self.num_heads, self.num_groups = config.num_heads, config.num_kv_heads
        width, kv_width = config.hidden_size, config.num_kv_heads * config.head_size
        self.query = nn.Linear(width, width, bias=config.attention_bias)
        self.key = nn.Linear(width, kv_width, bias=config.attention_bias)
        self.value = nn.Linear(width, kv_width, bias=config.attention_bias)
        self.output = nn.Linear(width, width, bias=False)
        # In inference: query, key and value in one product; see fuse.py.
        self.joined: Joined | None = None

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        *,
        mask: Tensor | Blocks | None,
        cache: Cache | None,
    ) -> Tensor:
        """Transform `x` [B, S, D] -> [B, S, D]."""
        q, k, v = self.heads(x, rotation)
        if cache is not None:
            x = cache.attend(self.index, q, k, v)
        else:
            x = attend(q, k, v, mask=mask, is_causal=mask is None)
        return self.output(x.transpose(1, 2).flatten(2))

    def heads(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> Sequence[Tensor]:
        """Return queries [B, Q, S, K], keys and values [B, G, S, K] of `x` [B, S, D], turned.

        In training each is a tensor of its own, so that values do not keep queries in memory.
        """
        if self.joined is None:
            q, k, v = (
                layer(x).unflatten(-1, (-1, self.head_size)).transpose(1, 2)
                for layer in (self.query, self.key, self.value)
            )
            return rotate(q, rotation), rotate(k, rotation), v
        heads = self.joined(x).unflatten(-1, (-1, self.head_size)).transpose(1, 2)
        turned, v = heads.tensor_split([self.num_heads + self.num_groups], dim=1)
        return *rotate(turned, rotation).tensor_split([self.num_heads], dim=1), v


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)), without biases."""

    def __init__(self, width: int, *, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        self.activation: Callable[[Tensor], Tensor] = F.silu
        self.joined: Joined | None = None  # in inference: gate and up in one product

    def forward(self, x: Tensor) -> Tensor:
        """Transform `x` [B, S, D] -> [B, S, D]."""
        if self.joined is None:
            return self.down(self.activation(self.gate(x)) * self.up(x))
        gate, up = self.joined(x).chunk(2, dim=-1)
        return self.down(self.activation(gate) * up)


class RMSNorm(nn.Module):
    """x / rms(x) * weight, computed in fp32."""

    def __init__(self, width: int, *, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis of `x` [..., D] -> [..., D]."""
        if few_kernels.launches_are_dear(x) and x.dtype == self.weight.dtype:
            return few_kernels.rms_norm(x, self.weight, self.eps)
        x32 = x.float()
        x32 = x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * x32.to(x.dtype)


def rotary(
    position_ids: Tensor, head_size: int, *, theta: float, factor: float = 1.0, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the cosine and sine [B, 1, S, K] of every position / `factor`, computed in fp32."""
    steps = torch.arange(0, head_size, 2, device=position_ids.device).float()
    speeds = theta ** (-steps / head_size) / factor
    angles = position_ids[..., None].float() * speeds  # [B, S, K/2]
    angles = torch.cat([angles, angles], dim=-1)[:, None]
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate `x` [B, heads, S, K] by position; pairs are (i, i + K/2)."""
    cos, sin = rotation
    if few_kernels.launches_are_dear(x):
        return few_kernels.rotate(x, cos, sin)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin
