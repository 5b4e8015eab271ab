"""ModelInputs and TrainingBatch: the tensors that enter the model, by name."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from onevision.anyres import Layout
from onevision.conversation import Usage


@dataclass(frozen=True, kw_only=True)
class ModelInputs:
    """A batch of B prompts, padded to the right, with all their pixels.

    `input_ids` already holds one placeholder per visual token, newlines included.
    """

    input_ids: Tensor  # [B, S] int64
    attention_mask: Tensor  # [B, S] bool, False at padding
    visual_mask: Tensor  # [B, S] bool, True at visual tokens
    pixel_values: Tensor  # [N, 3, H, W] float32, the crops of all media in prompt order
    layouts: tuple[Layout, ...]  # one per image or video, in prompt order

    @property
    def lengths(self) -> Tensor:
        """Tokens per prompt, [B]."""
        return self.attention_mask.sum(1)

    def to(self, device: torch.device | str) -> "ModelInputs":
        """Returns the batch with its tensors on `device`."""
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            visual_mask=self.visual_mask.to(device),
            pixel_values=self.pixel_values.to(device),
        )


def stack(prompts: Sequence[ModelInputs], *, pad_id: int) -> ModelInputs:
    """Joins prompts into one batch, padded to the right with `pad_id`."""

    def pad(rows: list[Tensor], value: int) -> Tensor:
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)

    return ModelInputs(
        input_ids=pad([row for p in prompts for row in p.input_ids], pad_id),
        attention_mask=pad([row for p in prompts for row in p.attention_mask], 0),
        visual_mask=pad([row for p in prompts for row in p.visual_mask], 0),
        pixel_values=torch.cat([p.pixel_values for p in prompts]),
        layouts=tuple(layout for p in prompts for layout in p.layouts),
    )


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """The attention mask of a row of samples that do not attend to each other."""

    lengths: tuple[int, ...]
    # Per sample [s, s] bool, True if a query (first axis) attends to a key; None: causal.
    masks: tuple[Tensor | None, ...]

    def to(self, device: torch.device | str) -> "Blocks":
        """Returns the blocks with their masks on `device`."""
        masks = tuple(None if mask is None else mask.to(device) for mask in self.masks)
        return replace(self, masks=masks)


@dataclass(frozen=True, kw_only=True)
class TrainingBatch:
    """B training rows, with explicit attention masks and prediction targets."""

    input_ids: Tensor  # [B, S] int64
    visual_mask: Tensor  # [B, S] bool
    position_ids: Tensor  # [B, S] int64
    # [B, 1, S, S] bool, True if a query (third axis) attends to a key; or blocks for one long row.
    mask: Tensor | Blocks
    sources: Tensor  # [L] int64, flat positions (of B * S) whose hidden states predict
    targets: Tensor  # [L] int64, the id each should predict
    pixel_values: Tensor  # [N, 3, H, W] float32
    layouts: tuple[Layout, ...]

    def to(self, device: torch.device | str) -> "TrainingBatch":
        """Returns the batch on `device`."""
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            visual_mask=self.visual_mask.to(device),
            position_ids=self.position_ids.to(device),
            mask=self.mask.to(device),
            sources=self.sources.to(device),
            targets=self.targets.to(device),
            pixel_values=self.pixel_values.to(device),
        )


def usage(inputs: ModelInputs, *, completion_tokens: int = 0) -> Usage:
    """Counts the tokens of a batch by kind."""
    images = sum(la.num_tokens for la in inputs.layouts if not la.is_video)
    videos = sum(la.num_tokens for la in inputs.layouts if la.is_video)
    return Usage(
        text_tokens=int(inputs.attention_mask.sum()) - images - videos,
        image_tokens=images,
        video_tokens=videos,
        completion_tokens=completion_tokens,
        dropped_tokens=sum(layout.num_dropped for layout in inputs.layouts),
    )
