"""The whole model: ModelInputs -> logits, in four steps: encode, place, run, head."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from onevision.anyres import Layout
from onevision.batch import Blocks, ModelInputs
from onevision.config import ModelConfig
from onevision.model.decoder import Cache, Decoder
from onevision.model.projector import Projector
from onevision.model.vision import VisionEncoder
from onevision.model.visual_tokens import arrange, pool_first


class LlavaNetwork(nn.Module):
    """Vision encoder, projector, `image_newline`, language model."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        language_width = config.language.hidden_size
        self.vision_encoder = VisionEncoder(config.vision)
        self.projector = Projector(
            config.projector,
            vision_width=config.vision.hidden_size,
            language_width=language_width,
        )
        self.image_newline: nn.Parameter | None = None
        if config.image_newline:
            self.image_newline = nn.Parameter(torch.randn(language_width) * language_width**-0.5)
        self.language_model = Decoder(config.language)

    def forward(self, inputs: ModelInputs) -> Tensor:
        """Returns logits [B, S, vocab] for every position of `inputs`."""
        visual_tokens = self.encode(inputs.pixel_values, inputs.layouts)
        x = self.place(inputs.input_ids, inputs.visual_mask, visual_tokens)
        return self.head(self.run(x))

    def encode(
        self,
        pixel_values: Tensor,
        layouts: tuple[Layout, ...],
        *,
        crops_at_once: int | None = None,
    ) -> Tensor:
        """Turns crops [N, 3, H, W] into visual tokens [V, D], in prompt order.

        `crops_at_once` limits the memory of the vision encoder; None encodes all crops together.
        """
        if not layouts:  # text alone skips the vision encoder
            norm = self.language_model.norm.weight
            return norm.new_zeros(0, len(norm))
        size = crops_at_once or len(pixel_values)
        owners = [layout for layout in layouts for _ in range(layout.num_crops)]  # one per crop
        patches = [
            self.patches(pixel_values[first : first + size], owners[first : first + size])
            for first in range(0, len(owners), size)
        ]
        return arrange(torch.cat(patches), layouts, self.image_newline)  # [N, P, D] -> [V, D]

    def patches(self, pixel_values: Tensor, owners: Sequence[Layout]) -> Tensor:
        """Turns crops [N, 3, H, W] of the media `owners` into projected patches [N, P, D]."""
        return self.project(self.vision_encoder(pixel_values), owners)

    def project(self, features: Tensor, owners: Sequence[Layout]) -> Tensor:
        """Pools and projects features [N, P, C] of crops of the media `owners` -> [N, P, D]."""
        return self.projector(pool_first(features, owners))

    def place(self, input_ids: Tensor, visual_mask: Tensor, visual_tokens: Tensor) -> Tensor:
        """Embeds ids [B, S] and puts visual tokens [V, D] where the mask is True -> [B, S, D]."""
        assert len(visual_tokens) == visual_mask.sum(), "placeholders and visual tokens differ"
        x = self.language_model.embedding(input_ids)
        return x.masked_scatter(visual_mask[..., None], visual_tokens.to(x.dtype))

    def run(
        self,
        x: Tensor,
        position_ids: Tensor | None = None,
        *,
        mask: Tensor | Blocks | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Runs the language model on embeddings [B, S, D] -> hidden states [B, S, D].

        `position_ids` [B, S] count from 0 by default; visual tokens take ordinary positions.
        """
        if position_ids is None:
            position_ids = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
        return self.language_model(x, position_ids, mask=mask, cache=cache)

    def head(self, hidden: Tensor) -> Tensor:
        """Scores the vocabulary for hidden states [..., D] -> logits [..., vocab]."""
        return self.language_model.head(hidden)
