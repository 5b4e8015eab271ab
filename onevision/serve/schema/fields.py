"""Fields of a request that are not known here: refused with what to use instead, or ignored.

    level                           a field that is not known
    request                         refused if another server knows it or it looks like a typo;
                                    otherwise ignored, and named in x-ignored-params
    messages, parts and all below   refused
    anywhere                        ignored if it is null, or listed as `harmless` by its model

A field that would change the answer is never ignored.
"""

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from onevision.serve.schema.body import In, RequestBody
from onevision.serve.schema.problems import ApiError

IMAGE_PART = (
    'send each image as a content part: {"type": "image_url", "image_url": '
    '{"url": "data:image/png;base64,..."}}'
)
VIDEO_PART = (
    'send each video as a content part: {"type": "video_url", "video_url": '
    '{"url": "data:video/mp4;base64,..."}}'
)
NO_TOOLS = "tools are not supported here"
NO_AUDIO = "audio is not supported here"
# What other servers and older APIs call it -> what to use here.
INSTEAD = {
    **dict.fromkeys(("image", "images", "image_url", "image_urls", "img"), IMAGE_PART),
    **dict.fromkeys(("video", "videos", "video_url", "video_urls"), VIDEO_PART),
    **dict.fromkeys(("audio", "audios", "input_audio", "audio_url"), NO_AUDIO),
    **dict.fromkeys(
        ("tools", "tool_calls", "tool_call_id", "functions", "function_call", "max_tool_calls"),
        NO_TOOLS,
    ),
    **dict.fromkeys(("file", "file_id", "file_url", "file_data", "files"), IMAGE_PART),
    **dict.fromkeys(("max_new_tokens", "num_predict", "n_predict"), "use max_tokens"),
    **dict.fromkeys(("guided_json", "format"), "use response_format"),
    "guided_regex": "use structured_outputs.regex",
    "guided_choice": "use structured_outputs.choice",
    **dict.fromkeys(("guided_grammar", "grammar"), "use structured_outputs.regex"),
    "max_output_tokens": "use max_tokens",
    "instructions": "send a message with the role system",
    **dict.fromkeys(("system", "system_prompt"), "send a message with the role system"),
    **dict.fromkeys(("prompt", "input", "inputs", "query"), "use messages"),
    "options": "give its entries as fields of the request: temperature, top_p, seed, ...",
    "parameters": "give its entries as fields of the request: temperature, top_p, seed, ...",
    "extra_body": "give its entries as fields of the request",
    **dict.fromkeys(("repeat_penalty", "penalty"), "use repetition_penalty"),
    **dict.fromkeys(("stop_sequences", "stop_words"), "use stop"),
    **dict.fromkeys(("bad_words", "allowed_token_ids", "logits_processors"), "use logit_bias"),
    "best_of": "use n",
    "num_return_sequences": "use n",
    "modalities": "answers are text; detail says how an image is cut",
    **dict.fromkeys(("max_pixels", "min_pixels", "max_dynamic_patch"), "use detail"),
    "nframes": "use num_frames",
    **dict.fromkeys(("max_frames", "frames"), "use num_frames"),
    **dict.fromkeys(("video_start", "start_time"), "use start"),
    **dict.fromkeys(("video_end", "end_time"), "use end"),
}
# Fields of a request that other servers know and that would change the answer, without a
# counterpart here.
UNSUPPORTED = frozenset({
    "web_search_options", "prediction", "prompt_embeds", "image_embeds", "conversation",
    "previous_response_id", "background", "suffix", "echo", "use_beam_search", "beam_width",
    "length_penalty", "early_stopping", "no_repeat_ngram_size", "prompt_logprobs", "chat_template",
    "chat_template_kwargs", "add_generation_prompt", "continue_final_message", "prefix",
    "documents", "mm_processor_kwargs", "truncate_prompt_tokens", "include_stop_str_in_output",
    "skip_special_tokens", "structural_tag", "raw", "template", "context", "think", "thinking",
    "typical_p", "tfs_z", "top_a", "mirostat", "mirostat_tau", "mirostat_eta", "num_ctx",
    "repeat_last_n", "dry_multiplier", "xtc_probability", "lora_request", "lora", "adapter",
})  # fmt: skip
# Values that ask for nothing.
NEUTRAL: tuple[Any, ...] = (None, [], {}, False, "", ["text"])  # Any: JSON
# What these fields are when they are left out.
DEFAULTS: dict[str, tuple[Any, ...]] = {  # Any: JSON
    "add_generation_prompt": (None, True), "skip_special_tokens": (None, True),
    "best_of": (None, 1), "length_penalty": (None, 1), "num_return_sequences": (None, 1),
}  # fmt: skip
# As close as "temperatures" is to "temperature".
TYPO = 0.85


def check_fields(body: RequestBody) -> tuple[str, ...]:
    """Returns the names of ignored fields of a request. Raises ApiError for those that matter."""
    known, ignored = set(type(body).model_fields), list[str]()
    for name, value in (body.model_extra or {}).items():
        if name in body.harmless or _is_neutral(name, value):
            continue
        if name in body.instead or name in INSTEAD or name in UNSUPPORTED:
            raise _refusal(name, name, hint=body.instead.get(name))
        if close := _find_close(name, known):
            raise _refusal(name, name, hint=f"did you mean {close}?")
        ignored.append(name)
    for path, name, part in _extras_within(body):
        if name in part.ignored:
            ignored.append(f"{path}.{name}")
        elif name not in part.harmless:
            close = _find_close(name, type(part).model_fields)
            hint = f"did you mean {close}?" if close else None
            raise _refusal(f"{path}.{name}", name, hint=hint)
    return tuple(ignored)


def _extras_within(model: In, path: str = "") -> Iterator[tuple[str, str, In]]:
    """Yields the fields that the parts of a request have beside the known ones: path, name, part.

    A field that is null says nothing.
    """
    for field, value in model.__dict__.items():
        place = f"{path}.{field.rstrip('_')}".removeprefix(".")
        parts = value if isinstance(value, list) else [value]
        for number, part in enumerate(parts):
            if isinstance(part, In):
                own = f"{place}[{number}]" if isinstance(value, list) else place
                extra = part.model_extra or {}
                yield from ((own, name, part) for name in extra if extra[name] is not None)
                yield from _extras_within(part, own)


def _find_close(name: str, known: Iterable[str]) -> str | None:
    """Returns the known field that a name misspells, as topP, top-p and temperatures do."""
    plain = {_plain(one): one for one in known}
    found = difflib.get_close_matches(_plain(name[:80]), plain, n=1, cutoff=TYPO)
    return plain[found[0]] if found else None


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def _is_neutral(name: str, value: Any) -> bool:  # Any: JSON
    if name in DEFAULTS:
        return value in DEFAULTS[name]
    is_number = isinstance(value, (int, float)) and value is not False
    return not is_number and value in NEUTRAL


def _refusal(param: str, name: str, *, hint: str | None) -> ApiError:
    hint = hint or INSTEAD.get(name) or "leave it out"
    return ApiError(
        f"{param[:160]} is not supported here; {hint}",
        code="unsupported_parameter",
        param=param[:160],
    )
