"""Text <-> token ids. Text is encoded without control tokens, so it never becomes one.

Control tokens are the added tokens that the file calls special, and those that chat templates use.
Other added tokens, such as `<loc_1>`, are words: text that spells one becomes its id.
"""

import json
from collections.abc import Mapping
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

from tokenizers import Encoding
from tokenizers import Tokenizer as HFTokenizer

from onevision.errors import CheckpointError
from onevision.inputs.tokenizer_guard import try_tokenizer

IM_START, IM_END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
IMAGE_PAD, VIDEO_PAD = "<|image_pad|>", "<|video_pad|>"

# Control tokens whatever the file says: chat templates and placeholders need them.
CONTROLS = frozenset(
    {
        *(IM_START, IM_END, END_OF_TEXT, "<image>", "<video>"),
        *(VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD),
        *("<s>", "</s>", "<unk>", "<pad>"),
        *("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"),
        *("<|start_header_id|>", "<|end_header_id|>"),
    }
)

# What decoders return for an incomplete character.
UNFINISHED = "\ufffd"

# Short texts recur (role names, line breaks, "Yes"): the encodings of so many are cached.
CACHED_CHARACTERS, CACHED_TEXTS = 40, 1024


def _byte_table() -> dict[str, int]:
    """Returns the byte behind each character of byte-level vocabularies (gpt-2, encoder.py)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    moved = {chr(256 + number): byte for number, byte in enumerate(others)}
    return {chr(byte): byte for byte in plain} | moved


BYTES = _byte_table()


class Tokenizer:
    """A tokenizer.json: as it is for decoding, without its control tokens for encoding.

    It is loaded a third time to encode text that follows a control token: LLaMA's newer tokenizers
    ("legacy": false) put no space in front of such text; its older ones do.
    """

    def __init__(self, definition: str, *, name: str = "tokenizer.json") -> None:
        """Loads the text of a tokenizer.json. Raises CheckpointError if it is not one."""
        self.definition, self.name = definition, name
        try:
            self._whole = HFTokenizer.from_str(definition)
            values = json.loads(definition)
            added = values.pop("added_tokens", [])
            self._added = {token["content"]: token["id"] for token in added}
            words = [token for token in added if not _is_control(token)]
            controls = self._added.keys() - {token["content"] for token in words}
            plain = _add_words(_remove_controls(values, frozenset(controls)), words)
            self._plain = HFTokenizer.from_str(json.dumps(plain))
            self._continuing = HFTokenizer.from_str(json.dumps(_disable_first_space(plain)))
            _check_words(self._plain, words)
        except Exception as error:  # tokenizers raises bare Exception
            raise CheckpointError(f"{name}: not a tokenizer definition ({error})") from error
        self._cache: dict[tuple[str, bool], Encoding] = {}
        # Never truncate or pad, whatever the file says.
        for tokenizer in (self._whole, self._plain, self._continuing):
            tokenizer.no_truncation()
            tokenizer.no_padding()

    @classmethod
    def from_directory(cls, directory: Path) -> "Tokenizer":
        """Reads `tokenizer.json` of a checkpoint directory. Raises CheckpointError.

        It is tried in a process of its own first.
        """
        path = directory / "tokenizer.json"
        if not path.is_file():
            raise CheckpointError(
                f"{path}: missing; a tokenizer.json of the base model is expected beside the "
                "weights (transformers writes one with AutoTokenizer(...).save_pretrained)"
            )
        try:
            definition = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path}: not readable as UTF-8 text ({error})") from error
        try_tokenizer(definition, name=str(path))
        return cls(definition, name=str(path))

    @cached_property
    def size(self) -> int:
        """The number of ids: one more than the largest."""
        count = self._whole.get_vocab_size(with_added_tokens=True)
        return max(count, *(token_id + 1 for token_id in self._added.values()), 0)

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of every token, control tokens and added words included."""
        return self._whole.get_vocab(with_added_tokens=True)

    def id_of(self, token: str) -> int:
        """Returns the id of a control token. Raises CheckpointError if it is unknown."""
        token_id = self._added.get(token)
        if token_id is None:
            raise CheckpointError(
                f"{self.name}: no added token {token!r}; the chat template needs it. "
                "Use the tokenizer that came with the weights"
            )
        return token_id

    @property
    def added_tokens(self) -> dict[str, int]:
        """The control tokens and added words, and their ids."""
        return dict(self._added)

    @cached_property
    def bos_ids(self) -> tuple[int, ...]:
        """The ids that the file puts before every text, such as BOS (`<s>`); often none."""
        encoding = self._whole.encode("a")
        marks = zip(encoding.ids, encoding.special_tokens_mask, strict=True)
        return tuple(token_id for token_id, _ in takewhile(lambda mark: mark[1], marks))

    def single_token_ids(self, text: str) -> frozenset[int]:
        """Returns the id of `text` if it is a single token; empty otherwise."""
        ids = self.encode(text, continues=True).ids
        return frozenset(ids) if len(ids) == 1 else frozenset()

    def encode(self, text: str, *, continues: bool = False) -> Encoding:
        """Encodes text with character offsets; text that spells a control token stays text.

        `continues` says that a control token precedes it.
        """
        if len(text) > CACHED_CHARACTERS:
            return self._encode(text, continues=continues)
        key = text, continues
        if key not in self._cache:
            if len(self._cache) == CACHED_TEXTS:
                self._cache.clear()
            self._cache[key] = self._encode(text, continues=continues)
        return self._cache[key]

    def _encode(self, text: str, *, continues: bool) -> Encoding:
        # Lone surrogates, from damaged input, cannot be encoded as UTF-8.
        text = text.encode("utf-8", errors="replace").decode("utf-8")
        tokenizer = self._continuing if continues else self._plain
        return tokenizer.encode(text, add_special_tokens=False)

    def decode(self, ids: list[int]) -> str:
        """Returns the text of `ids` without control tokens."""
        return self._whole.decode(ids, skip_special_tokens=True)

    def decode_with_controls(self, ids: list[int]) -> str:
        """Returns the text of `ids`, control tokens included."""
        return self._whole.decode(ids, skip_special_tokens=False)

    def bytes_of(self, token_id: int) -> bytes:
        """Returns the bytes of a token, which may be part of a character.

        Byte-level vocabularies write each byte as a printable character (GPT-2's table).
        """
        spelled = self._whole.id_to_token(token_id)
        if spelled is None:
            return b""
        if spelled in self._added or not all(letter in BYTES for letter in spelled):
            return spelled.encode()
        return bytes(BYTES[letter] for letter in spelled)

    def stream(self) -> "TextStream":
        """Returns a decoder that takes one id at a time."""
        return TextStream(self._whole)


class TextStream:
    """Decodes ids one at a time into whole characters, for streaming.

    A new id is decoded together with the ids of the previous piece of text, so that a decoder which
    strips leading spaces strips only the very first. Invalid bytes become U+FFFD.
    """

    def __init__(self, tokenizer: HFTokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []  # those of the last piece of text, then the pending ones
        self._num_emitted = 0  # how many of them belong to the last piece

    def push(self, token_id: int) -> str:
        """Adds an id; returns the characters it completes, possibly none."""
        self._ids.append(token_id)
        text = self._new_text()
        if not text or text.endswith(UNFINISHED):
            return ""
        self._ids, self._num_emitted = (
            self._ids[self._num_emitted :],
            len(self._ids) - self._num_emitted,
        )
        return text

    def flush(self) -> str:
        """Returns the rest at the end: U+FFFD for an incomplete character."""
        text = self._new_text()
        self._num_emitted = len(self._ids)
        return text

    def _new_text(self) -> str:
        return self.decode(self._ids)[len(self.decode(self._ids[: self._num_emitted])) :]

    def decode(self, ids: list[int]) -> str:
        """Returns the text of `ids`, independently of the stream."""
        return self._tokenizer.decode(ids, skip_special_tokens=True)


def _is_control(token: Mapping[str, Any]) -> bool:
    return bool(token.get("special", True)) or token["content"] in CONTROLS


def _add_words(values: dict[str, Any], words: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns a tokenizer.json (hence Any) with added words that keep their ids.

    An added token gets the id of the same entry of the vocabulary, so every word becomes one; BPE
    never forms it without a merge.
    """
    model = dict(values.get("model", {}))
    if words and isinstance(model.get("vocab"), dict):
        model["vocab"] = model["vocab"] | {word["content"]: word["id"] for word in words}
    return values | {"model": model, "added_tokens": words}


def _check_words(tokenizer: HFTokenizer, words: list[dict[str, Any]]) -> None:
    for word in words:
        if tokenizer.token_to_id(word["content"]) != word["id"]:
            raise ValueError(
                f"the added token {word['content']!r} does not get its id {word['id']}"
            )


def _remove_controls(values: Mapping[str, Any], controls: frozenset[str]) -> dict[str, Any]:
    """Returns a tokenizer.json (hence Any) that cannot turn text into a control token.

    If the model's own vocabulary contains control tokens, as LLaMA's does, merges that would
    produce one are removed.
    """
    plain = dict(values) | {"added_tokens": []}
    model = dict(values.get("model", {}))
    if model.get("type") == "BPE" and controls & model["vocab"].keys():
        kept = controls - {model.get("unk_token")}
        model["vocab"] = {t: i for t, i in model["vocab"].items() if t not in kept}
        model["merges"] = [merge for merge in model["merges"] if not _spells(merge, controls)]
    return plain | {"model": model}


def _spells(merge: str | list[str], controls: frozenset[str]) -> bool:
    parts = merge.split(" ") if isinstance(merge, str) else merge
    return not controls.isdisjoint((*parts, "".join(parts)))


def _disable_first_space(values: Any) -> Any:  # Any: a tokenizer.json or a part of it
    """Returns a copy with every Metaspace's prepend_scheme "first" changed to "never"."""
    if isinstance(values, list):
        return [_disable_first_space(value) for value in values]
    if not isinstance(values, dict):
        return values
    if values.get("type") == "Metaspace" and values.get("prepend_scheme") == "first":
        return values | {"prepend_scheme": "never"}
    return {
        key: value if key == "model" else _disable_first_space(value)
        for key, value in values.items()
    }
