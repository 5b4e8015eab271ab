"""What a server tells of its model, and of the cost of a question."""

from typing import Any, Literal

from pydantic import BaseModel


class ModelCard(BaseModel):
    """A model, and what a request to it may cost."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "onevision"
    max_model_len: int
    modalities: list[str]
    temperature: float  # where a request gives none
    limits: dict[str, Any]  # Any: whole numbers and seconds
    fetches: list[str]  # hosts whose https addresses are fetched


class ModelList(BaseModel):
    """The models of a server: one."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class MediaCount(BaseModel):
    """What one image or video costs."""

    kind: Literal["image", "video"]
    tokens: int
    crops: int  # or frames


class TokenCount(BaseModel):
    """What a prompt costs, and how many tokens its answer may have."""

    prompt_tokens: int
    text_tokens: int
    image_tokens: int
    video_tokens: int
    max_tokens: int
    media: list[MediaCount]
