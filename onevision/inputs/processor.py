"""The one door: Conversation -> ModelInputs, and the labels of a training example."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from onevision.anyres import (
    CropLayout,
    ImageRule,
    Layout,
    SingleCrop,
    VideoLayout,
    plan,
    plan_video,
)
from onevision.batch import ModelInputs, stack
from onevision.config import InputConfig, Template
from onevision.conversation import Conversation, Image, Usage, Video
from onevision.inputs.chat import IGNORE, LabelRule, Piece, Slot, render
from onevision.inputs.image import cut_crops, normalise, squash_frames
from onevision.inputs.media import image_size, open_image
from onevision.inputs.tokenizer import END_OF_TEXT, Tokenizer
from onevision.inputs.video import choose_frames


@dataclass(frozen=True, kw_only=True)
class Example:
    """A conversation to learn from: what goes in, and what should come out."""

    inputs: ModelInputs  # a batch of one
    labels: Tensor  # [1, S] int64, IGNORE where nothing is learned; not shifted


class Processor:
    """Turns conversations into ModelInputs by the rules of one checkpoint."""

    def __init__(self, config: InputConfig, tokenizer: Tokenizer) -> None:
        self.config, self.tokenizer = config, tokenizer

    def __call__(self, conversation: Conversation) -> ModelInputs:
        """Prepare one conversation, a batch of one. Raises InputError, MediaError."""
        return self.example(conversation).inputs

    def batch(self, conversations: Sequence[Conversation]) -> ModelInputs:
        """Prepare several conversations as one batch, padded to the right."""
        return self.join([self(conversation) for conversation in conversations])

    def join(self, prompts: Sequence[ModelInputs]) -> ModelInputs:
        """Stack prepared prompts into one batch, padded to the right."""
        return stack(prompts, pad_id=self.tokenizer.added_tokens.get(END_OF_TEXT, 0))

    def example(
        self,
        conversation: Conversation,
        *,
        template: Template | None = None,
        label_rule: LabelRule = "reference",
        image_first: bool = False,
    ) -> Example:
        """Prepare one conversation with the labels of training. Raises InputError, MediaError."""
        pieces = render(
            conversation,
            self.tokenizer,
            template=template or self.config.template,
            label_rule=label_rule,
            image_first=image_first,
        )
        return self._assemble(pieces, *self._prepare(conversation))

    def about_same_media(
        self, conversations: Sequence[Conversation], *, template: Template | None = None
    ) -> list[Example]:
        """Prepare conversations that show the very same media; the pixels are made once."""
        assert all(c.media == conversations[0].media for c in conversations)
        layouts, pixel_values = self._prepare(conversations[0])
        template = template or self.config.template
        return [
            self._assemble(render(c, self.tokenizer, template=template), layouts, pixel_values)
            for c in conversations
        ]

    def layouts(self, conversation: Conversation) -> tuple[Layout, ...]:
        """Lay out all media from their headers alone; no pixel is decoded. Raises MediaError."""
        rules = self._image_rules(conversation)
        return tuple(self._lay_out(media, rules) for media in conversation.media)

    def num_tokens(
        self,
        conversation: Conversation,
        *,
        template: Template | None = None,
        image_first: bool = False,
    ) -> int:
        """Count the tokens `example` would give, visual ones included, from headers alone."""
        pieces = render(
            conversation,
            self.tokenizer,
            template=template or self.config.template,
            image_first=image_first,
        )
        words = sum(len(piece.ids) for piece in pieces if not isinstance(piece, Slot))
        return words + sum(layout.num_tokens for layout in self.layouts(conversation))

    def _lay_out(self, media: Image | Video, rules: dict[str, ImageRule]) -> Layout:
        if isinstance(media, Video):
            num_frames = len(choose_frames(media).indices)
            return plan_video(num_frames=num_frames, rule=self.config.video)
        size = image_size(media.source)
        return plan(width=size.width, height=size.height, rule=rules[media.detail])

    def _assemble(
        self, pieces: Sequence[Piece], layouts: tuple[Layout, ...], pixel_values: Tensor
    ) -> Example:
        ids, labels, visual = self._expand(pieces, layouts)
        inputs = ModelInputs(
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.bool),
            visual_mask=torch.tensor([visual]),
            pixel_values=pixel_values,
            layouts=layouts,
        )
        return Example(inputs=inputs, labels=torch.tensor([labels]))

    def _prepare(self, conversation: Conversation) -> tuple[tuple[Layout, ...], Tensor]:
        """Lay out and normalise all media of a conversation."""
        rules = self._image_rules(conversation)
        prepared = [self._prepare_one(media, rules) for media in conversation.media]
        size = self.config.image.crop_size
        pixels = [torch.zeros(0, 3, size, size), *(pixels for _, pixels in prepared)]
        return tuple(layout for layout, _ in prepared), torch.cat(pixels)

    def _image_rules(self, conversation: Conversation) -> dict[str, ImageRule]:
        """Return the rule for each `detail`: images count over all turns, videos do not."""
        kinds = Counter(type(media) for media in conversation.media)
        single, several = self.config.image, self.config.multi_image
        low = SingleCrop(
            crop_size=single.crop_size, patch_size=single.patch_size, fit="squash", newline=False
        )
        return {"auto": single if kinds[Image] <= 1 else several, "high": single, "low": low}

    def _prepare_one(
        self, media: Image | Video, rules: dict[str, ImageRule]
    ) -> tuple[Layout, Tensor]:
        if isinstance(media, Video):
            choice = choose_frames(media)
            layout = plan_video(num_frames=len(choice.indices), rule=self.config.video)
            crops = squash_frames(choice.frames(), layout)
        else:
            picture = open_image(media.source)
            layout = plan(width=picture.width, height=picture.height, rule=rules[media.detail])
            crops = cut_crops(picture, layout, image_mean=self.config.image_mean)
        pixels = normalise(crops, mean=self.config.image_mean, std=self.config.image_std)
        return layout, pixels

    def _expand(
        self, pieces: Sequence[Piece], layouts: Sequence[Layout]
    ) -> tuple[list[int], list[int], list[bool]]:
        """Write every slot as its number of placeholders."""
        ids: list[int] = []
        labels: list[int] = []
        visual: list[bool] = []
        remaining = iter(layouts)
        for piece in pieces:
            if isinstance(piece, Slot):
                count = next(remaining).num_tokens
                ids += [self.config.image_token_id] * count
                labels += [IGNORE] * count
                visual += [True] * count
            else:
                ids += piece.ids
                labels += piece.labels
                visual += [False] * len(piece.ids)
        return ids, labels, visual


def usage(inputs: ModelInputs, *, completion_tokens: int = 0) -> Usage:
    """Count the tokens of a batch by kind."""
    images = sum(la.num_tokens for la in inputs.layouts if isinstance(la, CropLayout))
    videos = sum(la.num_tokens for la in inputs.layouts if isinstance(la, VideoLayout))
    return Usage(
        text_tokens=int(inputs.attention_mask.sum()) - images - videos,
        image_tokens=images,
        video_tokens=videos,
        completion_tokens=completion_tokens,
    )
