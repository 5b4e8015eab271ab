"""A foreign config.json and what lies beside it -> how pictures, videos and words enter.

Rules come from the files, never from a name: the reference chooses a chat format by the name of a
checkpoint's folder; here the kind of language model, the tokenizer's control tokens and
transformers' chat template say which it is.
"""

import math
import re
from ast import literal_eval
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from onevision.anyres import AnyRes, ImageRule, Merge, SingleCrop, VideoRule
from onevision.checkpoint.gather import Gathered
from onevision.checkpoint.read_sizes import Reader
from onevision.config import CLIP_MEAN, CLIP_STD, InputConfig, Template, Triple, VisionConfig
from onevision.errors import CheckpointError
from onevision.inputs.templates import HEADER
from onevision.inputs.tokenizer import IM_START

Values = Mapping[str, Any]  # Any: foreign JSON

# Our own key for the chat format, in configs that we write for others.
TEMPLATE_KEY = "conversation_template"
# And for videos pooled before the projector.
POOL_FIRST_KEY = "spatial_pool_first"
# What in transformers' chat template tells the format; the first that occurs does.
TEMPLATE_MARKS: tuple[tuple[str, Template], ...] = (
    (HEADER, "llava_llama_3"),
    ("Answer the questions.", "chatml_direct"),
    (IM_START, "qwen_1_5"),
    ("[INST]", "mistral_instruct"),
    ("USER:", "vicuna_v1"),
    ("###", "llava_v0"),
)
# The id of <image> in the reference and in transformers.
IMAGE_TOKEN_ID = 151646
SIGLIP: Triple = (0.5, 0.5, 0.5)
MODES = "square, pad, anyres and anyres_max_N"
# What transformers cuts pictures by; a plain "llava" takes one crop, as its processor makes it.
ANYRES_TYPES = ("llava_next", "llava_next_video")


@dataclass(frozen=True, kw_only=True)
class Cells:
    """The vision encoder's square, and whether a learned newline exists."""

    crop_size: int
    patch_size: int
    class_token: bool
    has_newline: bool


def read_inputs(
    reader: Reader, gathered: Gathered, vision: VisionConfig, *, vocab_size: int
) -> InputConfig:
    """Read how a conversation becomes ids and crops. Raises CheckpointError."""
    values, preprocessor = reader.values, gathered.preprocessor
    cells = Cells(
        crop_size=vision.image_size,
        patch_size=vision.patch_size,
        class_token=vision.class_token,
        has_newline=reader.names.newline in reader.shapes,
    )
    image = _image_rule(reader, preprocessor, cells)
    token_id = values.get("image_token_index", values.get("image_token_id", IMAGE_TOKEN_ID))
    several = SingleCrop(
        crop_size=cells.crop_size, patch_size=cells.patch_size, newline=cells.has_newline
    )
    mean, std = (CLIP_MEAN, CLIP_STD) if cells.class_token else (SIGLIP, SIGLIP)
    return InputConfig(
        image=image,
        multi_image=image if isinstance(image, SingleCrop) else several,
        video=_video_rule(reader, cells),
        template=_template(reader, gathered),
        image_mean=_triple(preprocessor.get("image_mean", mean)),
        image_std=_triple(preprocessor.get("image_std", std)),
        # A tokenizer without <image> may number further; any row of the embedding will do.
        image_token_id=min(int(token_id), vocab_size - 1),
    )


def _image_rule(reader: Reader, preprocessor: Values, cells: Cells) -> ImageRule:
    values, foreign = reader.values, reader.names.layout == "llava-hf"
    mode, default = _mode(reader, preprocessor)
    # transformers has no such key; the reference's default is "flat".
    merge = values.get("mm_patch_merge_type", default)
    if merge not in get_args(Merge):
        raise CheckpointError(
            f"config.json: mm_patch_merge_type {merge!r} is not supported; "
            f"supported are {', '.join(get_args(Merge))}"
        )
    if mode in ("square", "pad", "crop"):
        # CLIP's own processor cuts out the middle where SigLIP's squashes.
        fit = "pad" if mode == "pad" else "crop" if cells.class_token else "squash"
        newline = merge == "spatial_unpad" and cells.has_newline
        return SingleCrop(
            crop_size=cells.crop_size, patch_size=cells.patch_size, fit=fit, newline=newline
        )
    match = re.fullmatch(r"anyres(?:_max_(\d+))?", mode)
    if not match:
        raise CheckpointError(
            f"config.json: image mode {mode!r} with merge {merge!r} is not supported; "
            f"supported are {MODES}"
        )
    grids = _grids(values.get("image_grid_pinpoints"), cells.crop_size, heights_first=foreign)
    rule = AnyRes(
        crop_size=cells.crop_size,
        patch_size=cells.patch_size,
        max_crops=int(match[1]) if match[1] else None,
        grids=grids,
        merge=merge,
    )
    complete = replace(rule, max_grid=max(cols for cols, _ in grids), grids=None)
    return complete if set(complete.all_grids) == set(grids) else rule


def _mode(reader: Reader, preprocessor: Values) -> tuple[str, Merge]:
    """Return how a picture is cut and, where the config does not say, how crops are merged."""
    values = reader.values
    if reader.names.layout != "llava-hf":
        return values.get("image_aspect_ratio") or "square", "flat"
    if said := values.get("vision_aspect_ratio") or values.get("image_aspect_ratio"):
        return said, "spatial_unpad"
    if values.get("model_type") in ANYRES_TYPES:
        return "anyres", "spatial_unpad"
    if values.get("model_type") == "llava":
        return "pad" if preprocessor.get("do_pad") else "square", "flat"
    return "square", "spatial_unpad"


def _video_rule(reader: Reader, cells: Cells) -> VideoRule:
    """Read how frames are pooled; transformers' LlavaNextVideo has keys of its own.

    It pools before the projector, as the first release did with a "spatial_pool" resampler; the
    reference's later code pools after it, always.
    """
    values = reader.values
    ours = values.get("spatial_pool_mode", values.get("mm_spatial_pool_mode", "bilinear"))
    resampled = values.get("mm_resampler_type") == "spatial_pool"
    first = resampled or "spatial_pool_mode" in values
    newline = "no_token" if values.get("model_type") in ANYRES_TYPES else "one_token"
    newline = values.get("mm_newline_position", newline) if cells.has_newline else "no_token"
    return VideoRule(
        crop_size=cells.crop_size,
        patch_size=cells.patch_size,
        fit="crop" if cells.class_token else "squash",
        pool=ours,
        pool_first=values.get(POOL_FIRST_KEY, first),
        newline=newline,
    )


def _template(reader: Reader, gathered: Gathered) -> Template:
    said = reader.values.get(TEMPLATE_KEY)
    if said is not None:
        if said not in get_args(Template):
            raise CheckpointError(
                f"config.json: {TEMPLATE_KEY} is {said!r}; "
                f"expected one of {', '.join(get_args(Template))}"
            )
        return said
    if reader.names.layout == "llava-hf":
        for mark, template in TEMPLATE_MARKS:
            if mark in gathered.chat_template:
                return template
    if reader.kind == "qwen2":
        return "qwen_1_5"
    if HEADER in gathered.controls:
        return "llava_llama_3"
    if IM_START in gathered.controls:
        return "chatml_direct"
    return "mistral_instruct" if reader.kind == "mistral" else "vicuna_v1"


def _grids(
    pinpoints: object, crop_size: int, *, heights_first: bool
) -> tuple[tuple[int, int], ...]:
    """Read sizes in pixels, or the range text "(1x1),...,(6x6)", as (columns, rows)."""
    if isinstance(pinpoints, str) and "x" in pinpoints:
        numbers = [(int(a), int(b)) for a, b in re.findall(r"\((\d+)x(\d+)\)", pinpoints)]
        if not numbers:
            raise CheckpointError(
                f"config.json: image_grid_pinpoints is {pinpoints!r}; expected (1x1),..."
            )
        (left, top), (right, bottom) = numbers[0], numbers[-1]
        cols, rows = range(left, right + 1), range(top, bottom + 1)
        return tuple((c, r) for c in cols for r in rows)
    if isinstance(pinpoints, str):
        pinpoints = literal_eval(pinpoints)
    if not isinstance(pinpoints, Sequence) or not pinpoints:
        raise CheckpointError(
            f"config.json: image_grid_pinpoints is {pinpoints!r}; expected a list of sizes"
        )
    if any(math.remainder(size, crop_size) for pair in pinpoints for size in pair):
        raise CheckpointError(
            f"config.json: image_grid_pinpoints are not multiples of {crop_size} pixels"
        )
    pairs = [(a // crop_size, b // crop_size) for a, b in pinpoints]
    return tuple((b, a) if heights_first else (a, b) for a, b in pairs)


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)
