"""Language model: embeddings [B, S, D] -> hidden states [B, S, D], logits on request.

Qwen, LLaMA and Mistral share one architecture and differ in its numbers.
"""

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onevision.batch import Blocks
from onevision.config import LanguageConfig
from onevision.model.attention import Attend, attend, rotate, within_window


class Cache(Protocol):
    """Keys and values of earlier positions, for every layer; attention goes through it."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Appends `k`, `v` [B, G, S, K] in `layer`; attends with `q` [B, Q, S, K] to them all."""
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
        """The type of its activations."""
        return self.norm.weight.dtype

    @property
    def device(self) -> torch.device:
        """The device of its weights."""
        return self.norm.weight.device

    def forward(
        self,
        x: Tensor,
        position_ids: Tensor,
        *,
        mask: Tensor | Blocks | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Runs embeddings `x` [B, S, D] at `position_ids` [B, S] -> normed hidden states [B, S, D].

        Attention is causal within a row unless `mask` [B, 1, S, T] is given, True where a query
        sees a key. With a `cache`, rows continue those in the cache, which alone decides what is
        visible. Padding on the right needs no mask.
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
        """Transforms `x` [B, S, D] -> [B, S, D]."""
        x = x + self.attention(self.attention_norm(x), rotation, mask=mask, cache=cache)
        return x + self.mlp(self.mlp_norm(x))


class Attention(nn.Module):
    """Grouped-query attention: Q query heads share G key/value heads.

    Queries, keys and values may have biases; the heads of queries and keys may be normed.
    """

    def __init__(self, config: LanguageConfig, index: int) -> None:
        super().__init__()
        self.index, self.head_size = index, config.head_size
        self.num_heads, self.num_groups = config.num_heads, config.num_kv_heads
        width, kv_width = config.hidden_size, config.num_kv_heads * config.head_size
        self.query = nn.Linear(width, config.query_width, bias=config.attention_bias)
        self.key = nn.Linear(width, kv_width, bias=config.attention_bias)
        self.value = nn.Linear(width, kv_width, bias=config.attention_bias)
        self.output = nn.Linear(config.query_width, width, bias=False)
        self.query_norm, self.key_norm = nn.Identity(), nn.Identity()
        if config.head_norms:
            self.query_norm = RMSNorm(config.head_size, eps=config.rms_norm_eps)
            self.key_norm = RMSNorm(config.head_size, eps=config.rms_norm_eps)
        self.attend: Attend = attend

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        *,
        mask: Tensor | Blocks | None,
        cache: Cache | None,
    ) -> Tensor:
        """Transforms `x` [B, S, D] -> [B, S, D]."""
        q, k, v = (
            layer(x).unflatten(-1, (-1, self.head_size)).transpose(1, 2)  # [B, heads, S, K]
            for layer in (self.query, self.key, self.value)
        )
        q, k = rotate(self.query_norm(q), rotation), rotate(self.key_norm(k), rotation)
        if cache is not None:
            x = cache.attend(self.index, q, k, v)
        else:
            x = self.attend(q, k, v, mask=mask, is_causal=mask is None)
        return self.output(x.transpose(1, 2).flatten(2))


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)), without biases."""

    def __init__(self, width: int, *, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        self.activation: Callable[[Tensor], Tensor] = F.silu

    def forward(self, x: Tensor) -> Tensor:
        """Transforms `x` [B, S, D] -> [B, S, D]."""
        return self.down(self.activation(self.gate(x)) * self.up(x))


class RMSNorm(nn.Module):
    """x / rms(x) * weight, computed in fp32."""

    def __init__(self, width: int, *, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalises the last axis of `x` [..., D] -> [..., D]."""
        x32 = x.float()
        x32 = x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * x32.to(x.dtype)


def rotary(
    position_ids: Tensor, head_size: int, *, theta: float, factor: float = 1.0, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Returns the cosine and sine [B, 1, S, K] of every position / `factor`, computed in fp32."""
    steps = torch.arange(0, head_size, 2, device=position_ids.device).float()
    speeds = theta ** (-steps / head_size) / factor
    angles = position_ids[..., None].float() * speeds  # [B, S, K/2]
    angles = torch.cat([angles, angles], dim=-1)[:, None]
    return angles.cos().to(dtype), angles.sin().to(dtype)
