"""Conversation -> ModelInputs, or a training example with labels: the only way to either."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
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
from onevision.conversation import Conversation, Image, Video
from onevision.inputs.chat import IGNORE, LabelRule, MediaSlot, Piece, render
from onevision.inputs.frame_times import NumFrames
from onevision.inputs.image import cut_crops, cut_frames, normalise
from onevision.inputs.media import image_size, open_image
from onevision.inputs.templates import check_template
from onevision.inputs.tokenizer import END_OF_TEXT, Tokenizer
from onevision.inputs.upright import ImageSize
from onevision.inputs.video import FrameChoice, choose_frames
from onevision.native import MAX_RATIO, Native

# What `detail: low` leaves of a picture at native resolution: 256 cells of 28 px.
LOW_PIXELS = 448 * 448


# What must be known about an image or a video to lay it out.
MediaFact = ImageSize | NumFrames


@dataclass(frozen=True, kw_only=True)
class MediaView:
    """How the model will see one image or video: its layout, and what to decode."""

    layout: Layout
    source: Image | FrameChoice | None  # None if its crops are cut elsewhere
    seconds: tuple[float, ...] | None = None  # of the frames; None for an image
    words: str | None = None  # said after it beside the user's; see `frame_times.py`


@dataclass(frozen=True, kw_only=True)
class Outline:
    """A prompt laid out from text and media headers alone; no pixel is decoded yet."""

    pieces: tuple[Piece, ...]
    views: tuple[MediaView, ...]  # one per image or video, in prompt order

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """The layouts of all media, in prompt order."""
        return tuple(view.layout for view in self.views)

    @property
    def seconds(self) -> tuple[tuple[float, ...], ...]:
        """The times of the frames of every video, in prompt order."""
        return tuple(view.seconds for view in self.views if view.seconds is not None)

    @property
    def num_tokens(self) -> int:
        """Tokens of the prompt, visual tokens included."""
        words = sum(len(piece.ids) for piece in self.pieces if not isinstance(piece, MediaSlot))
        return words + sum(layout.num_tokens for layout in self.layouts)

    @property
    def num_positions(self) -> int:
        """Rotary positions of the prompt: visual tokens that `keep` drops leave theirs empty."""
        return self.num_tokens + sum(layout.num_dropped for layout in self.layouts)


@dataclass(frozen=True, kw_only=True)
class Example:
    """A conversation as training input and labels."""

    input_ids: Tensor  # [S] int64
    visual_mask: Tensor  # [S] bool, True at visual tokens
    labels: Tensor  # [S] int64, IGNORE if unlabelled; not shifted
    crops: Tensor  # [N, 3, H, W] uint8, of all media in prompt order
    layouts: tuple[Layout, ...]


class Processor:
    """Turns conversations into ModelInputs by the rules of one checkpoint.

    Raises CheckpointError if the tokenizer lacks the template's control tokens.
    """

    def __init__(
        self, config: InputConfig, tokenizer: Tokenizer, *, fast_images: bool = False
    ) -> None:
        """Follows `config`; `fast_images` resizes pictures faster but rounds differently."""
        check_template(config.template, tokenizer)
        self.config, self.tokenizer, self.fast_images = config, tokenizer, fast_images

    @property
    def sizes_frames(self) -> bool:
        """Whether the layout of a video depends on the size of its frames."""
        return isinstance(self.config.video, Native)

    def __call__(self, conversation: Conversation) -> ModelInputs:
        """Prepares one conversation, a batch of one. Raises InputError, MediaError."""
        return self.inputs(self.example(conversation))

    def inputs(self, example: Example) -> ModelInputs:
        """Returns the model's input for an example, as a batch of one."""
        return ModelInputs(
            input_ids=example.input_ids[None],
            attention_mask=torch.ones_like(example.visual_mask)[None],
            visual_mask=example.visual_mask[None],
            pixel_values=normalise(
                example.crops, mean=self.config.image_mean, std=self.config.image_std
            ),
            layouts=example.layouts,
        )

    def batch(self, conversations: Sequence[Conversation]) -> ModelInputs:
        """Prepares several conversations as one batch, padded to the right."""
        return self.join([self(conversation) for conversation in conversations])

    def join(self, prompts: Sequence[ModelInputs]) -> ModelInputs:
        """Stacks prepared prompts into one batch, padded to the right."""
        return stack(prompts, pad_id=self.tokenizer.added_tokens.get(END_OF_TEXT, 0))

    def outline(
        self,
        conversation: Conversation,
        *,
        template: Template | None = None,
        label_rule: LabelRule = "reference",
        image_first: bool = False,
        facts: Sequence[MediaFact] | None = None,
    ) -> Outline:
        """Lays out a conversation without decoding a pixel. Raises InputError, MediaError.

        `facts` describe its media, in order, if another process opens them (`sandbox.py`); the
        crops are then passed to `example`.
        """
        rules = self._image_rules(conversation)
        if facts is None:
            views = [self._view(media, rules) for media in conversation.media]
        else:
            told = zip(conversation.media, facts, strict=True)
            views = [self._view_of(media, fact, rules) for media, fact in told]
        outline = Outline(pieces=(), views=tuple(views))
        pieces = self.pieces(
            conversation, outline, template=template, label_rule=label_rule, image_first=image_first
        )
        return replace(outline, pieces=pieces)

    def pieces(
        self,
        conversation: Conversation,
        like: Outline,
        *,
        template: Template | None = None,
        label_rule: LabelRule = "reference",
        image_first: bool = False,
    ) -> tuple[Piece, ...]:
        """Renders a conversation about the media that are laid out in `like`."""
        return tuple(
            render(
                conversation,
                self.tokenizer,
                template=template or self.config.template,
                label_rule=label_rule,
                image_first=image_first,
                seconds=like.seconds,
                after_media=[view.words for view in like.views],
            )
        )

    def example(self, source: Conversation | Outline, *, crops: Tensor | None = None) -> Example:
        """Decodes a conversation into an example with labels. Raises InputError, MediaError.

        `crops`, uint8 [N, 3, H, W], are those of all media if they have already been cut.
        """
        outline = source if isinstance(source, Outline) else self.outline(source)
        return self._assemble(outline, self._crops(outline) if crops is None else crops)

    def examples_sharing_media(
        self, conversations: Sequence[Conversation], *, template: Template | None = None
    ) -> list[Example]:
        """Prepares conversations about the same media, whose crops are cut only once."""
        assert all(c.media == conversations[0].media for c in conversations)
        first = self.outline(conversations[0], template=template)
        crops = self._crops(first)
        pieces = [self.pieces(one, first, template=template) for one in conversations]
        return [self._assemble(replace(first, pieces=p), crops) for p in pieces]

    def _image_rules(self, conversation: Conversation) -> dict[str, ImageRule]:
        """Returns the rule per `detail`; "auto" counts the images of all turns, and no videos."""
        kinds = Counter(type(media) for media in conversation.media)
        single, several = self.config.image, self.config.multi_image
        if isinstance(single, Native):
            least = MAX_RATIO * single.crop_size**2  # what `Native` demands of larger cells
            most = min(single.max_pixels, max(single.min_pixels, LOW_PIXELS, least))
            low = replace(single, max_pixels=most)
            return {"auto": single if kinds[Image] <= 1 else several, "high": single, "low": low}
        fit = single.fit if isinstance(single, SingleCrop) else "squash"
        low = SingleCrop(
            crop_size=single.crop_size, patch_size=single.patch_size, fit=fit, newline=False
        )
        return {"auto": single if kinds[Image] <= 1 else several, "high": single, "low": low}

    def _view(self, media: Image | Video, rules: dict[str, ImageRule]) -> MediaView:
        if isinstance(media, Video):
            choice = choose_frames(media)
            fact = choice.fact(sizes_frames=self.sizes_frames)
            return self._view_of(media, fact, rules, source=choice)
        return self._view_of(media, image_size(media.source), rules, source=media)

    def _view_of(
        self,
        media: Image | Video,
        fact: MediaFact,
        rules: dict[str, ImageRule],
        *,
        source: Image | FrameChoice | None = None,
    ) -> MediaView:
        view = MediaView(layout=self._layout(media, fact, rules), source=source)
        if not isinstance(fact, NumFrames):
            return view
        return replace(view, seconds=fact.times, words=fact.words(self.config.video))

    def _layout(self, media: Image | Video, fact: MediaFact, rules: dict[str, ImageRule]) -> Layout:
        keep = 1.0 if media.keep is None else float(media.keep)
        if isinstance(fact, NumFrames):
            size = fact.size or ImageSize(width=640, height=480)  # then it does not matter
            return plan_video(
                num_frames=fact.count,
                rule=self.config.video,
                width=size.width,
                height=size.height,
                numbers=fact.numbers,
                keep=keep,
            )
        assert isinstance(media, Image), "a size is of an image"
        return plan(width=fact.width, height=fact.height, rule=rules[media.detail], keep=keep)

    def _crops(self, outline: Outline) -> Tensor:
        """Decodes and cuts all media: [N, 3, H, W] uint8."""
        size = self.config.image.crop_size
        crops = [self._crops_of(view) for view in outline.views]
        match crops:
            case []:
                return torch.zeros(0, 3, size, size, dtype=torch.uint8)
            case [only]:
                return only
            case _:
                return torch.cat(crops)

    def _crops_of(self, view: MediaView) -> Tensor:
        if isinstance(view.source, FrameChoice):
            assert not isinstance(view.layout, CropLayout)
            return cut_frames(view.source.frames(), view.layout, image_mean=self.config.image_mean)
        assert not isinstance(view.layout, VideoLayout) and view.source is not None
        picture = open_image(view.source.source)
        return cut_crops(
            picture, view.layout, image_mean=self.config.image_mean, fast=self.fast_images
        )

    def _assemble(self, outline: Outline, crops: Tensor) -> Example:
        """Replaces every media slot by as many placeholders as it has visual tokens."""
        total = outline.num_tokens
        ids = np.full(total, self.config.image_token_id)
        labels = np.full(total, IGNORE)
        visual = np.ones(total, dtype=bool)
        begin, remaining = 0, iter(outline.layouts)
        layout: Layout | None = None
        for piece in outline.pieces:
            if isinstance(piece, MediaSlot):
                if layout is None or not piece.frame:  # not a later frame of the same video
                    layout = next(remaining)
                begin += layout.num_tokens if piece.frame is None else _frame_tokens(layout)
                continue
            words = slice(begin, begin + len(piece.ids))
            ids[words], labels[words], visual[words] = piece.ids, piece.labels, False
            begin = words.stop
        return Example(
            input_ids=torch.from_numpy(ids),
            visual_mask=torch.from_numpy(visual),
            labels=torch.from_numpy(labels),
            crops=crops,
            layouts=outline.layouts,
        )


def _frame_tokens(layout: Layout) -> int:
    """Returns the visual tokens of one frame of a video."""
    assert not isinstance(layout, CropLayout) and layout.num_frames, "an image has no frames"
    return layout.num_tokens // layout.num_frames
