"""What /v1/models and /v1/tokenize return: the model's card and limits, the cost of a prompt."""

from typing import Any, Literal, Self

from pydantic import BaseModel

from onevision.anyres import CropLayout, Layout
from onevision.boxes import Coordinates
from onevision.inputs.frame_times import NumFrames
from onevision.inputs.processor import MediaFact


class ModelCard(BaseModel):
    """A model and the limits of a request."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "onevision"
    max_model_len: int
    modalities: list[str]
    temperature: float  # unless a request sets it
    coordinates: Coordinates  # how the model writes boxes and points
    limits: dict[str, Any]  # Any: whole numbers and seconds
    fetches: list[str]  # hosts whose https URLs are fetched


class ModelList(BaseModel):
    """The models of this server: the base, then its variants with adapters."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class MediaCount(BaseModel):
    """What one image or video costs."""

    kind: Literal["image", "video"]
    tokens: int
    crops: int  # or frames
    dropped: int = 0  # visual tokens that `keep` drops
    # Where the crops of the grid meet, as shares of the image's width and height.
    cuts_across: list[float] = []
    cuts_down: list[float] = []
    # When each sampled frame is shown, in seconds from the first; empty for a list of frames.
    seconds: list[float] = []

    @classmethod
    def of(cls, layout: Layout, fact: MediaFact) -> Self:
        """Describes a layout: its tokens, and which cuts or frames the model sees."""
        if not isinstance(layout, CropLayout) and layout.num_frames is not None:
            times = fact.seconds if isinstance(fact, NumFrames) else None
            return cls(
                kind="video",
                tokens=layout.num_tokens,
                crops=layout.num_frames,
                dropped=layout.num_dropped,
                seconds=[round(time, 3) for time in times or ()],
            )
        if not isinstance(layout, CropLayout):  # cells, which nothing cuts apart
            return cls(kind="image", tokens=layout.num_tokens, crops=1)
        size = layout.crop_size
        return cls(
            kind="image",
            tokens=layout.num_tokens,
            crops=layout.num_crops,
            dropped=layout.num_dropped,
            cuts_across=[
                round((size * i - layout.left) / layout.resized_width, 4)
                for i in range(1, layout.cols)
            ],
            cuts_down=[
                round((size * i - layout.top) / layout.resized_height, 4)
                for i in range(1, layout.rows)
            ],
        )


class TokenCount(BaseModel):
    """The tokens of a prompt, and how many its answer may have."""

    prompt_tokens: int
    text_tokens: int
    image_tokens: int
    video_tokens: int
    dropped_tokens: int
    max_tokens: int
    media: list[MediaCount]
