"""The whole model: ModelInputs -> logits, in four steps: encode, place, run, head."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from onevision.anyres import Layout
from onevision.batch import Blocks, ModelInputs
from onevision.config import ConvNetConfig, ModelConfig, VisionConfig
from onevision.image_rules import has_fast_frames
from onevision.model.convnet import ConvNet
from onevision.model.decoder import Cache, Decoder
from onevision.model.native_vision import NativeEncoder
from onevision.model.projector import Projector
from onevision.model.vision import VisionEncoder
from onevision.model.visual_tokens import arrange, crop_batches, pool_first
from onevision.pruning import VisualTokens, find_positions


class LlavaNetwork(nn.Module):
    """Vision encoder, projector, language model; `image_newline`, with SlowFast `faster_token`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        language_width = config.language.hidden_size
        self.vision_encoder = _build_encoder(config.vision)
        self.projector = Projector(
            config.projector,
            vision_width=config.vision.hidden_size,
            num_patches=config.vision.num_patches,
            language_width=language_width,
        )
        self.image_newline: nn.Parameter | None = None
        if config.image_newline:
            self.image_newline = nn.Parameter(_draw(language_width))
        self.faster_token: nn.Parameter | None = None
        if has_fast_frames(config.inputs.video):
            self.faster_token = nn.Parameter(_draw(language_width))
        self.language_model = Decoder(config.language)

    @property
    def learned_tokens(self) -> Mapping[str, nn.Parameter]:
        """The learned vectors [D] among visual tokens that this model has, by name."""
        both = {"image_newline": self.image_newline, "faster_token": self.faster_token}
        return {name: vector for name, vector in both.items() if vector is not None}

    def forward(self, inputs: ModelInputs) -> Tensor:
        """Returns logits [B, S, vocab] for every position of `inputs`."""
        visual = self._encode(inputs.pixel_values, inputs.layouts, None)
        x = self.place(inputs.input_ids, inputs.visual_mask, visual.tokens)
        return self.head(self.run(x, find_positions(inputs, visual.places)))

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
        return self._encode(pixel_values, layouts, crops_at_once).tokens

    def _encode(
        self, pixel_values: Tensor, layouts: tuple[Layout, ...], crops_at_once: int | None
    ) -> VisualTokens:
        if not layouts:  # text alone skips the vision encoder
            norm = self.language_model.norm.weight
            return VisualTokens(tokens=norm.new_zeros(0, len(norm)), places=torch.arange(0))
        owners = [owner for layout in layouts for owner in layout.owners]  # one per crop
        patches = [
            self.patches(pixel_values[some], owners[some])
            for some in crop_batches(owners, crops_at_once or len(owners))
        ]
        return self.arrange(torch.cat(patches), layouts)

    def patches(self, pixel_values: Tensor, owners: Sequence[Layout]) -> Tensor:
        """Turns crops [N, 3, H, W] of the media `owners` into projected patches [N, P, D]."""
        return self.project(self.vision_encoder(pixel_values, owners), owners)

    def arrange(self, patches: Tensor, layouts: Sequence[Layout]) -> VisualTokens:
        """Merges projected patches [N, P, D] of all media into visual tokens, in prompt order."""
        return arrange(patches, layouts, self.image_newline, self.faster_token)

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


def _draw(width: int) -> Tensor:
    return nn.init.normal_(torch.empty(width), std=width**-0.5)


def _build_encoder(
    config: VisionConfig | ConvNetConfig,
) -> VisionEncoder | NativeEncoder | ConvNet:
    if isinstance(config, ConvNetConfig):
        return ConvNet(config)
    return NativeEncoder(config) if config.rotary else VisionEncoder(config)
