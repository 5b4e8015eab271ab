"""transformers' models of the family with random weights, as directories that we load."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import randomise
from tests.sentencepiece import CHATML, LLAMA_3, definition

transformers = pytest.importorskip("transformers")

CLIP: Mapping[str, Any] = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 336,
    "patch_size": 14,
}
SIGLIP = CLIP | {
    "model_type": "siglip_vision_model",
    "image_size": 384,
    "vision_use_head": False,
}
LLAMA: Mapping[str, Any] = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 1024,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
}
IMAGE_ID, VIDEO_ID = 1000, 1001
CLIP_PIXELS = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


@dataclass(frozen=True, kw_only=True)
class Member:
    """One model of the family: what transformers calls it, and how it differs."""

    model: str = "Llava"
    vision: Mapping[str, Any] = field(default_factory=lambda: CLIP)
    text: Mapping[str, Any] = field(default_factory=lambda: LLAMA)
    extra: Mapping[str, Any] = field(default_factory=dict)
    preprocessor: Mapping[str, Any] = field(default_factory=lambda: CLIP_PIXELS)
    controls: tuple[str, ...] = ()
    bos: str = "<s>"
    # What our reader is meant to find.
    template: str = "vicuna_v1"


QWEN = LLAMA | {"model_type": "qwen2", "num_key_value_heads": 2, "max_position_embeddings": 32768}
MEMBERS = {
    "llava-1.5": Member(preprocessor={**CLIP_PIXELS, "do_pad": True}),
    "bakLlava": Member(
        text={**LLAMA, "model_type": "mistral", "num_key_value_heads": 2, "sliding_window": 512},
        template="mistral_instruct",
    ),
    "llava-interleave": Member(
        vision=SIGLIP,
        text={**QWEN, "rope_theta": 1e6, "tie_word_embeddings": True},
        extra={"vision_feature_layer": -1, "vision_feature_select_strategy": "full",
               "tie_word_embeddings": True},
        preprocessor={},
        controls=CHATML,
        bos="",
        template="qwen_1_5",
    ),
    "llava-v1.6-vicuna": Member(model="LlavaNext"),
    "llava-v1.6-mistral": Member(
        model="LlavaNext",
        text={**LLAMA, "model_type": "mistral", "num_key_value_heads": 2, "sliding_window": None,
              "rope_theta": 1e6},
        template="mistral_instruct",
    ),
    "llama3-llava-next": Member(
        model="LlavaNext",
        text={**LLAMA, "num_key_value_heads": 2, "rope_theta": 5e5},
        controls=LLAMA_3,
        bos="<|begin_of_text|>",
        template="llava_llama_3",
    ),
    "llava-v1.6-34b": Member(
        model="LlavaNext",
        text={**LLAMA, "num_key_value_heads": 2, "rope_theta": 5e6},
        controls=CHATML,
        bos="",
        template="chatml_direct",
    ),
    "llava-next-qwen1.5": Member(
        model="LlavaNext",
        text={**QWEN, "num_key_value_heads": 4, "rope_theta": 1e6},
        controls=CHATML,
        bos="",
        template="qwen_1_5",
    ),
    "llava-next-video": Member(
        model="LlavaNextVideo",
        text={**LLAMA, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        extra={"spatial_pool_mode": "average", "spatial_pool_stride": 2,
               "video_token_index": VIDEO_ID},
    ),
}  # fmt: skip


def build(member: Member):
    """Build transformers' model with random weights."""
    config = getattr(transformers, f"{member.model}Config")(
        vision_config=dict(member.vision),
        text_config=dict(member.text),
        image_token_index=IMAGE_ID,
        **member.extra,
    )
    return randomise(getattr(transformers, f"{member.model}ForConditionalGeneration")(config))


def write(theirs, member: Member, directory: Path) -> Path:
    """Write it as transformers does, with a tokenizer and a processor's file beside it."""
    theirs.save_pretrained(directory)
    tokenizer = definition(controls=member.controls, bos=member.bos)
    (directory / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    (directory / "preprocessor_config.json").write_text(json.dumps(member.preprocessor))
    return directory
