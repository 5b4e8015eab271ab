"""Texts of a foreign checkpoint -> InputConfig: how pictures, videos and words are prepared.

Rules come from the files, never from a name. The reference chooses a chat format by the name of a
checkpoint's folder; here it follows from the kind of language model, the tokenizer's control tokens
and the chat template of transformers.
"""

import math
import re
from ast import literal_eval
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

from onevision.anyres import AnyRes, ImageRule, Merge, SingleCrop, VideoRule
from onevision.checkpoint.kinds import value_or
from onevision.checkpoint.read_sizes import ForeignCheckpoint
from onevision.config import CLIP_MEAN, CLIP_STD, InputConfig, Template, Triple, VisionConfig
from onevision.errors import CheckpointError
from onevision.inputs.templates import HEADER
from onevision.inputs.tokenizer import IM_START
from onevision.values import name_closest

# Our own keys in configs of other layouts: the chat format; pooling videos before projecting them.
TEMPLATE_KEY = "conversation_template"
POOL_FIRST_KEY = "spatial_pool_first"
# Texts that identify a format in the chat template of transformers; the first that occurs decides.
TEMPLATE_MARKS: tuple[tuple[str, Template], ...] = (
    (HEADER, "llava_llama_3"),
    ("Answer the questions.", "chatml_direct"),
    (IM_START, "qwen_1_5"),
    ("[INST]", "mistral_instruct"),
    ("USER:", "vicuna_v1"),
    ("###", "llava_v0"),
)
# Of how many frames the first is slow, where the config leaves it to the reference.
FASTER_STRIDE = 10
# The id of <image> in the reference and in transformers.
IMAGE_TOKEN_ID = 151646
# Far above the 36 of OneVision.
MAX_GRIDS = 10_000
SIGLIP: Triple = (0.5, 0.5, 0.5)
MODES = "square, pad, anyres and anyres_max_N"
# Models of transformers that cut pictures into grids; a plain "llava" takes one crop.
ANYRES_TYPES = ("llava_next", "llava_next_video")
# How they cut pictures, and their grids as [height, width], where the config leaves it to them.
DEFAULT_MODES = {
    "llava_next": "anyres",
    "llava_next_video": "anyres",
    "llava_onevision": "anyres_max_9",
}
NEXT_GRIDS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
ONEVISION_GRIDS = [[384 * rows, 384 * cols] for rows in range(1, 7) for cols in range(1, 7)]
DEFAULT_GRIDS = {
    "llava_next": NEXT_GRIDS,
    "llava_next_video": NEXT_GRIDS,
    "llava_onevision": ONEVISION_GRIDS,
}


@dataclass(frozen=True, kw_only=True)
class VisionGeometry:
    """Sizes of the vision encoder that rules depend on, and whether there is a learned newline."""

    crop_size: int
    patch_size: int
    class_token: bool
    has_newline: bool


def read_inputs(source: ForeignCheckpoint, vision: VisionConfig, *, vocab_size: int) -> InputConfig:
    """Reads how a conversation becomes ids and crops. Raises CheckpointError."""
    values, preprocessor = source.values, source.contents.preprocessor
    geometry = VisionGeometry(
        crop_size=vision.image_size,
        patch_size=vision.patch_size,
        class_token=vision.class_token,
        has_newline=source.has("image_newline"),
    )
    image = _image_rule(source, geometry)
    token_id = values.get("image_token_index", values.get("image_token_id", IMAGE_TOKEN_ID))
    several = SingleCrop(
        crop_size=geometry.crop_size, patch_size=geometry.patch_size, newline=geometry.has_newline
    )
    mean, std = (CLIP_MEAN, CLIP_STD) if geometry.class_token else (SIGLIP, SIGLIP)
    return InputConfig(
        image=image,
        multi_image=image if isinstance(image, SingleCrop) else several,
        video=_video_rule(source, geometry),
        template=read_template(source),
        image_mean=read_triple(preprocessor.get("image_mean", mean)),
        image_std=read_triple(preprocessor.get("image_std", std)),
        # Without <image> in the tokenizer the id may exceed the embedding; any row will do.
        image_token_id=min(int(token_id), vocab_size - 1),
    )


def _image_rule(source: ForeignCheckpoint, geometry: VisionGeometry) -> ImageRule:
    values, foreign = source.values, source.names.layout == "llava-hf"
    mode, default = _mode(source)
    # transformers lacks this key; the reference's default is "flat".
    merge = values.get("mm_patch_merge_type", default)
    if merge not in get_args(Merge):
        raise CheckpointError(
            f"config.json: mm_patch_merge_type {merge!r} is not supported; "
            f"supported are {', '.join(get_args(Merge))}"
        )
    if mode in ("square", "pad", "crop"):
        # CLIP's processor crops the middle, SigLIP's squashes.
        fit = "pad" if mode == "pad" else "crop" if geometry.class_token else "squash"
        newline = merge == "spatial_unpad" and geometry.has_newline
        return SingleCrop(
            crop_size=geometry.crop_size, patch_size=geometry.patch_size, fit=fit, newline=newline
        )
    match = re.fullmatch(r"anyres(?:_max_(\d+))?", mode)
    if not match:
        raise CheckpointError(
            f"config.json: image mode {mode!r} with merge {merge!r} is not supported; "
            f"supported are {MODES}"
        )
    pinpoints = values.get("image_grid_pinpoints")
    if pinpoints is None and foreign:
        processor = source.contents.preprocessor.get("image_grid_pinpoints")
        pinpoints = processor or DEFAULT_GRIDS.get(str(values.get("model_type")))
    grids = _grids(pinpoints, geometry.crop_size, heights_first=foreign)
    rule = AnyRes(
        crop_size=geometry.crop_size,
        patch_size=geometry.patch_size,
        max_crops=int(match[1]) if match[1] else None,
        grids=grids,
        merge=merge,
    )
    complete = replace(rule, max_grid=max(cols for cols, _ in grids), grids=None)
    return complete if set(complete.all_grids) == set(grids) else rule


def _mode(source: ForeignCheckpoint) -> tuple[str, Merge]:
    """Returns how a picture is cut, and how crops are merged unless the config says."""
    values = source.values
    if source.names.layout != "llava-hf":
        return values.get("image_aspect_ratio") or "square", "flat"
    if stated := values.get("vision_aspect_ratio") or values.get("image_aspect_ratio"):
        return stated, "spatial_unpad"
    model_type = values.get("model_type")
    if model_type in DEFAULT_MODES:
        return DEFAULT_MODES[model_type], "spatial_unpad"
    if model_type == "llava":
        pads = source.contents.preprocessor.get("do_pad")
        if pads not in (None, True, False):
            raise CheckpointError(f"do_pad of the preprocessor is {pads!r}; expected true or false")
        return "pad" if pads else "square", "flat"
    raise CheckpointError(
        f"config.json: model_type is {model_type!r}; expected llava, {', '.join(DEFAULT_MODES)}, "
        "or a vision_aspect_ratio"
    )


def _video_rule(source: ForeignCheckpoint, geometry: VisionGeometry) -> VideoRule:
    """Reads how frames are pooled; LlavaNextVideo of transformers has keys of its own.

    It pools before the projector, as the first release did with a "spatial_pool" resampler; the
    reference's later code always pools after it.
    """
    values = source.values
    ours = values.get("spatial_pool_mode", values.get("mm_spatial_pool_mode", "bilinear"))
    resampled = values.get("mm_resampler_type") == "spatial_pool"
    first = resampled or "spatial_pool_mode" in values
    newline = "no_token" if values.get("model_type") in ANYRES_TYPES else "one_token"
    newline = values.get("mm_newline_position", newline) if geometry.has_newline else "no_token"
    # The reference has fast frames only where a newline ends every row.
    faster = newline == "grid" and values.get("add_faster_video")
    return VideoRule(
        crop_size=geometry.crop_size,
        patch_size=geometry.patch_size,
        fit="crop" if geometry.class_token else "squash",
        pool=ours,
        pool_first=values.get(POOL_FIRST_KEY, first),
        newline=newline,
        slow_every=value_or(values, "faster_token_stride", FASTER_STRIDE) if faster else None,
        time_instruction=bool(values.get("add_time_instruction")),
    )


def read_template(source: ForeignCheckpoint, *, default: Template | None = None) -> Template:
    """Returns the chat format that the files state or, without a `default`, imply.

    Raises CheckpointError for an unknown one.
    """
    stated = source.values.get(TEMPLATE_KEY)
    if stated is not None:
        if stated not in get_args(Template):
            raise CheckpointError(
                f"config.json: {TEMPLATE_KEY} is {stated!r}"
                f"{name_closest(str(stated), get_args(Template))}"
            )
        return stated
    return default or _implied_template(source)


def _implied_template(source: ForeignCheckpoint) -> Template:
    contents = source.contents
    if source.names.layout == "llava-hf":
        for mark, template in TEMPLATE_MARKS:
            if mark in contents.chat_template:
                return template
    if source.kind == "qwen2":
        return "qwen_1_5"
    if HEADER in contents.added_tokens:
        return "llava_llama_3"
    if IM_START in contents.added_tokens:
        return "chatml_direct"
    return "mistral_instruct" if source.kind == "mistral" else "vicuna_v1"


def _grids(
    pinpoints: object, crop_size: int, *, heights_first: bool
) -> tuple[tuple[int, int], ...]:
    """Converts sizes in pixels, or the range "(1x1),...,(6x6)" as text, to (columns, rows)."""
    wrong = CheckpointError(
        f"config.json: image_grid_pinpoints is {pinpoints!s:.60}; expected a list of at most "
        f"{MAX_GRIDS} sizes such as [384, 768], or the text (1x1),...,(6x6)"
    )
    if isinstance(pinpoints, str) and "x" in pinpoints:
        numbers = [(int(a), int(b)) for a, b in re.findall(r"\((\d{1,4})x(\d{1,4})\)", pinpoints)]
        if len(numbers) < 2 or not pinpoints.rstrip().endswith(")"):
            raise wrong
        (left, top), (right, bottom) = numbers[0], numbers[-1]
        cols, rows = range(left, right + 1), range(top, bottom + 1)
        if not 1 <= len(cols) * len(rows) <= MAX_GRIDS:
            raise wrong
        return tuple((c, r) for c in cols for r in rows)
    if isinstance(pinpoints, str):
        try:
            pinpoints = literal_eval(pinpoints)
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            raise wrong from error
    if not isinstance(pinpoints, Sequence) or not 1 <= len(pinpoints) <= MAX_GRIDS:
        raise wrong
    if not all(_is_size(pair) for pair in pinpoints):
        raise wrong
    if any(size % crop_size for pair in pinpoints for size in pair):
        raise CheckpointError(
            f"config.json: image_grid_pinpoints are not multiples of {crop_size} pixels"
        )
    pairs = [(a // crop_size, b // crop_size) for a, b in pinpoints]
    return tuple((b, a) if heights_first else (a, b) for a, b in pairs)


def _is_size(pair: object) -> bool:
    return (
        isinstance(pair, Sequence)
        and len(pair) == 2
        and all(type(size) is int and size > 0 for size in pair)
    )


def read_triple(values: object) -> Triple:
    """Returns the numbers of the three channels. Raises CheckpointError."""
    if isinstance(values, Sequence) and len(values) == 3:
        red, green, blue = values
        if all(type(number) in (int, float) and math.isfinite(number) for number in values):
            return float(red), float(green), float(blue)
    raise CheckpointError(
        f"the preprocessor's image_mean or image_std is {values!s:.60}; expected three numbers"
    )
