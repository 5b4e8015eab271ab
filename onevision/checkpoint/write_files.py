"""ModelConfig and tokenizer -> the JSON files that other projects expect beside the weights."""

import json
from typing import Any

from onevision.anyres import AnyRes, SingleCrop
from onevision.checkpoint.write_config import (
    HF_ONEVISION,
    HfModel,
    config_pinpoints,
    hf_model,
    llava_hf_config,
    lmms_lab_config,
    transformer,
)
from onevision.config import ModelConfig, Template
from onevision.errors import CheckpointError
from onevision.inputs.templates import TEMPLATES, ChatTemplate, RoleFormat
from onevision.inputs.tokenizer import END_OF_TEXT, IM_END, IM_START, Tokenizer
from onevision.native import Native

IMAGE, VIDEO, UNKNOWN = "<image>", "<video>", "<unk>"
BICUBIC = 3  # Pillow's number
# A Jinja macro: the words of a message, with a marker and a line break for each image or video.
# Newlines are expressions, since Jinja drops a bare one after a tag.
WORDS = (
    "{%- macro words(message) -%}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% else %}{{ MARKER }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{%- endmacro -%}"
)
MARKER = "'<' + part['type'] + '>' + ('' if loop.last else '\\n')"


def lmms_lab_files(config: ModelConfig, tokenizer: Tokenizer) -> dict[str, str]:
    """Returns the files of a reference checkpoint, which marks images by an id of its own."""
    return {
        "config.json": to_json(lmms_lab_config(config)),
        "tokenizer.json": tokenizer.definition,
        "tokenizer_config.json": to_json(tokenizer_values(config, tokenizer)),
    }


def llava_hf_files(config: ModelConfig, tokenizer: Tokenizer) -> dict[str, str]:
    """Returns the files of a transformers checkpoint. Raises CheckpointError.

    It finds placeholders by id, so the tokenizer gets <image> and <video> as added tokens.
    """
    model = hf_model(config)
    vocab_size = hf_vocab_size(config, tokenizer)
    tokenizer = with_placeholders(tokenizer, vocab_size=vocab_size)
    image_id, video_id = tokenizer.id_of(IMAGE), tokenizer.id_of(VIDEO)
    values = llava_hf_config(config, image_id=image_id, video_id=video_id, vocab_size=vocab_size)
    image = _image_processor(config, model)
    tokens = tokenizer_values(config, tokenizer) | {"processor_class": model.processor}
    files = {
        "config.json": to_json(values),
        "tokenizer.json": tokenizer.definition,
        "tokenizer_config.json": to_json(tokens),
        "preprocessor_config.json": to_json(image),
        "processor_config.json": to_json(_processor(config, model)),
    }
    if (template := chat_template(config.inputs.template)) is not None:
        files["chat_template.json"] = to_json({"chat_template": template})
    if model.video_processor is not None:
        files["video_preprocessor_config.json"] = to_json(_video_processor(image, model))
    return files


def hf_vocab_size(config: ModelConfig, tokenizer: Tokenizer) -> int:
    """Returns the rows of the embedding in a checkpoint of transformers.

    If all rows are taken, as LLaMA's 32,000 are, it grows to a multiple of 64 to make room for
    <image> and <video>.
    """
    rows = config.language.vocab_size
    needed = tokenizer.size + sum(t not in tokenizer.added_tokens for t in (IMAGE, VIDEO))
    return rows if needed <= rows else 64 * -(-needed // 64)


def with_placeholders(tokenizer: Tokenizer, *, vocab_size: int) -> Tokenizer:
    """Returns the tokenizer with <image> and <video> among its added tokens.

    Raises CheckpointError if the embedding has no unused rows for them.
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


def chat_template(template: Template) -> str | None:
    """Returns the chat template (Jinja) that transformers expects; None for "plain", not a chat."""
    chat = TEMPLATES.get(template)
    if chat is None:
        return None
    words = "words(message) | trim" if chat.strips else "words(message)"

    def spoken(turn: RoleFormat, before: str = "") -> str:
        head, tail = json.dumps(turn.head), json.dumps(turn.tail)
        lead = f" + {json.dumps(turn.lead)}" if turn.lead else ""
        return f"{head}{before}{lead} + ({words}) + {tail}"

    line = chat.default_system
    default = f"{chat.system.head}{line}{chat.system.tail}" if line else ""
    inside, outside = (" + said.system", "") if chat.system_inside else ("", "said.system + ")
    return (
        f"{WORDS.replace('MARKER', _marker(chat))}"
        f"{{% set said = namespace(system={json.dumps(default)}, between='') %}}"
        "{% for message in messages %}"
        "{% if message['role'] == 'system' %}"
        f"{{% set said.system = {spoken(chat.system)} %}}"
        "{% elif message['role'] == 'user' %}"
        f"{{{{ said.between + {outside}{spoken(chat.user, inside)} }}}}"
        f"{{% set said.system = '' %}}{{% set said.between = {json.dumps(chat.between)} %}}"
        "{% else %}"
        f"{{{{ {spoken(chat.assistant)} }}}}"
        "{% endif %}{% endfor %}"
        f"{{% if add_generation_prompt %}}{{{{ {json.dumps(chat.assistant.head)} }}}}{{% endif %}}"
    )


def _marker(chat: ChatTemplate) -> str:
    """Returns the Jinja expression for an image or a video."""
    if chat.separates_media:
        return MARKER
    head, tail = json.dumps(f"{chat.media.head}<|"), json.dumps(f"_pad|>{chat.media.tail}")
    return f"{head} + part['type'] + {tail}"


def tokenizer_values(config: ModelConfig, tokenizer: Tokenizer) -> dict[str, Any]:  # Any: JSON
    """Returns the content of tokenizer_config.json."""
    added, template = tokenizer.added_tokens, chat_template(config.inputs.template)
    values: dict[str, Any] = {
        "clean_up_tokenization_spaces": False,
        "model_max_length": config.language.max_positions,
    }
    if template is not None:
        values["chat_template"] = template
    if IM_START not in added or tokenizer.bos_ids:  # LLaMA or Mistral
        names = {number: token for token, number in added.items()}
        chat = TEMPLATES.get(config.inputs.template)
        return values | {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": names[tokenizer.bos_ids[0]] if tokenizer.bos_ids else None,
            "eos_token": None if chat is None else chat.end,
            "unk_token": UNKNOWN if UNKNOWN in added else None,
            "pad_token": UNKNOWN if UNKNOWN in added else None,
        }
    return values | {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_prefix_space": False,
        "bos_token": None,
        "eos_token": IM_END,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
        "errors": "replace",
        "split_special_tokens": False,
        "additional_special_tokens": [t for t in (IM_START, IM_END) if t in added],
    }


def _image_processor(config: ModelConfig, model: HfModel) -> dict[str, Any]:
    rule = config.inputs.image
    assert not isinstance(rule, Native), "`hf_model` has refused it"
    values: dict[str, Any] = {
        "image_processor_type": model.image_processor,
        "processor_class": model.processor,
        "do_convert_rgb": True,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": list(config.inputs.image_mean),
        "image_std": list(config.inputs.image_std),
        "resample": BICUBIC,
        "rescale_factor": 1 / 255,
        "size": {"height": rule.crop_size, "width": rule.crop_size},
    }
    if isinstance(rule, AnyRes):
        pinpoints = config_pinpoints(config)
        values |= {"do_pad": True, "image_grid_pinpoints": pinpoints}
    if model is HF_ONEVISION or (isinstance(rule, SingleCrop) and rule.fit == "squash"):
        return values
    # CLIP's own steps, which leave the crops of a grid and a padded square unchanged.
    cut = {"height": rule.crop_size, "width": rule.crop_size}
    pads = isinstance(rule, AnyRes) or rule.fit == "pad"
    return values | {
        "do_center_crop": True,
        "crop_size": cut,
        "do_pad": pads,
        "size": {"shortest_edge": rule.crop_size},
    }


def _video_processor(image: dict[str, Any], model: HfModel) -> dict[str, Any]:
    kept = {k: v for k, v in image.items() if k not in ("image_grid_pinpoints", "do_pad")}
    return kept | {"video_processor_type": model.video_processor}


def _processor(config: ModelConfig, model: HfModel) -> dict[str, Any]:
    vision, rule = transformer(config), config.inputs.image
    values: dict[str, Any] = {
        "processor_class": model.processor,
        "vision_feature_select_strategy": "default" if vision.class_token else "full",
        "image_token": IMAGE,
    }
    if model.video_processor is not None:
        values["video_token"] = VIDEO
    if model is HF_ONEVISION:
        assert isinstance(rule, AnyRes)
        budget = f"anyres_max_{rule.max_crops}"
        return values | {"num_image_tokens": rule.side**2, "vision_aspect_ratio": budget}
    return values | {
        "patch_size": vision.patch_size,
        "num_additional_image_tokens": int(vision.class_token),
    }


def to_json(values: dict[str, Any]) -> str:
    """Returns the text of a JSON file."""
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
