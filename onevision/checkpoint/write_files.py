"""ModelConfig and tokenizer -> the JSON files that other projects expect beside the weights."""

import json
from typing import Any

from onevision.anyres import AnyRes
from onevision.checkpoint.write_config import hf_rule, llava_hf_config, lmms_lab_config
from onevision.config import ModelConfig
from onevision.errors import CheckpointError
from onevision.inputs.templates import HELPFUL
from onevision.inputs.tokenizer import END_OF_TEXT, IM_END, IM_START, Tokenizer

IMAGE, VIDEO = "<image>", "<video>"
BICUBIC = 3  # Pillow's number
# ChatML as the reference writes it: default system line, media where they stand in the content.
# Newlines are expressions, because Jinja drops a bare one after a tag.
CHAT_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\n" + HELPFUL + "<|im_end|>\\n' }}"
    "{% endif %}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% else %}{{ '<' + part['type'] + '>' + ('' if loop.last else '\\n') }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{{ '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def lmms_lab_files(config: ModelConfig, tokenizer: Tokenizer) -> dict[str, str]:
    """Return the files of a reference checkpoint; it marks images by a number of its own."""
    return {
        "config.json": _json(lmms_lab_config(config)),
        "tokenizer.json": tokenizer.definition,
        "tokenizer_config.json": _json(_tokenizer_config(config, tokenizer)),
    }


def llava_hf_files(config: ModelConfig, tokenizer: Tokenizer) -> dict[str, str]:
    """Return the files of a transformers checkpoint. Raises CheckpointError.

    It finds placeholders by id, so its tokenizer needs <image> and <video> as added tokens.
    """
    rule = hf_rule(config)
    tokenizer = with_placeholders(tokenizer, vocab_size=config.language.vocab_size)
    image_id, video_id = tokenizer.id_of(IMAGE), tokenizer.id_of(VIDEO)
    image = _image_processor(config, rule)
    tokens = _tokenizer_config(config, tokenizer) | {"processor_class": "LlavaOnevisionProcessor"}
    return {
        "config.json": _json(llava_hf_config(config, image_id=image_id, video_id=video_id)),
        "tokenizer.json": tokenizer.definition,
        "tokenizer_config.json": _json(tokens),
        "preprocessor_config.json": _json(image),
        "video_preprocessor_config.json": _json(_video_processor(image)),
        "processor_config.json": _json(_processor(rule)),
        "chat_template.json": _json({"chat_template": CHAT_TEMPLATE}),
    }


def with_placeholders(tokenizer: Tokenizer, *, vocab_size: int) -> Tokenizer:
    """Return the tokenizer with <image> and <video> among its added tokens.

    Raises CheckpointError where the embedding has no rows left for them.
    """
    definition = json.loads(tokenizer.definition)
    known = tokenizer.added_tokens
    next_id = tokenizer.size
    for token in (IMAGE, VIDEO):
        if token in known:
            continue
        if next_id >= vocab_size:
            raise CheckpointError(
                f"the vocabulary of {vocab_size} has no unused row for {token}; "
                "llava-hf checkpoints need one each for <image> and <video>"
            )
        definition["added_tokens"].append(
            {
                "id": next_id,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
        )
        next_id += 1
    return Tokenizer(json.dumps(definition, ensure_ascii=False), name=tokenizer.name)


def _tokenizer_config(config: ModelConfig, tokenizer: Tokenizer) -> dict[str, Any]:  # Any: JSON
    specials = [t for t in (IM_START, IM_END) if t in tokenizer.added_tokens]
    return {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_prefix_space": False,
        "bos_token": None,
        "eos_token": IM_END,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
        "errors": "replace",
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": False,
        "additional_special_tokens": specials,
        "model_max_length": config.language.max_positions,
        "chat_template": CHAT_TEMPLATE,
    }


def _image_processor(config: ModelConfig, rule: AnyRes) -> dict[str, Any]:
    return {
        "image_processor_type": "LlavaOnevisionImageProcessor",
        "processor_class": "LlavaOnevisionProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_pad": True,
        "image_mean": list(config.inputs.image_mean),
        "image_std": list(config.inputs.image_std),
        "image_grid_pinpoints": sorted(
            [rows * rule.crop_size, cols * rule.crop_size] for cols, rows in rule.all_grids
        ),
        "resample": BICUBIC,
        "rescale_factor": 1 / 255,
        "size": {"height": rule.crop_size, "width": rule.crop_size},
    }


def _video_processor(image: dict[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in image.items() if k not in ("image_grid_pinpoints", "do_pad")}
    return kept | {"video_processor_type": "LlavaOnevisionVideoProcessor"}


def _processor(rule: AnyRes) -> dict[str, Any]:
    return {
        "processor_class": "LlavaOnevisionProcessor",
        "num_image_tokens": rule.side**2,
        "vision_feature_select_strategy": "full",
        "vision_aspect_ratio": f"anyres_max_{rule.max_crops}",
        "image_token": IMAGE,
        "video_token": VIDEO,
    }


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
