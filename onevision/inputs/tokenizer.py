"""Text <-> ids. Text encodes without added tokens, so it can never become a control token."""

import json
from collections.abc import Mapping
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

from tokenizers import Encoding
from tokenizers import Tokenizer as HFTokenizer

from onevision.errors import CheckpointError

IM_START, IM_END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"

# What a decoder gives for half a character.
UNFINISHED = "\ufffd"

# Texts so short come again and again (role names, line breaks, "Yes"); so many are remembered.
RECURRING_CHARACTERS, RECURRING_TEXTS = 40, 1024


def _byte_table() -> dict[str, int]:
    """Return the byte of each character that byte-level vocabularies write (gpt-2, encoder.py)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    moved = {chr(256 + number): byte for number, byte in enumerate(others)}
    return {chr(byte): byte for byte in plain} | moved


BYTES = _byte_table()


class Tokenizer:
    """A tokenizer.json, read thrice: whole for decoding, without its added tokens for encoding.

    The third encodes what goes on after a control token: to that, LLaMA's newer tokenizers put no
    space in front ("legacy": false), its older ones do.
    """

    def __init__(self, definition: str, *, name: str = "tokenizer.json") -> None:
        """Read the text of a tokenizer.json. Raises CheckpointError if it is none."""
        self.definition, self.name = definition, name
        try:
            self._whole = HFTokenizer.from_str(definition)
            values = json.loads(definition)
            added = values.pop("added_tokens", [])
            self._added = {token["content"]: token["id"] for token in added}
            plain = _without(values, frozenset(self._added))
            self._plain = HFTokenizer.from_str(json.dumps(plain))
            self._going_on = HFTokenizer.from_str(json.dumps(_without_first_space(plain)))
        except Exception as error:  # tokenizers raises bare Exception
            raise CheckpointError(f"{name}: not a tokenizer definition ({error})") from error
        self._recurring: dict[tuple[str, bool], Encoding] = {}
        # The whole text is seen: no length limit or padding of the file applies.
        for tokenizer in (self._whole, self._plain, self._going_on):
            tokenizer.no_truncation()
            tokenizer.no_padding()

    @classmethod
    def from_directory(cls, directory: Path) -> "Tokenizer":
        """Read `tokenizer.json` of a checkpoint directory. Raises CheckpointError."""
        path = directory / "tokenizer.json"
        if not path.is_file():
            raise CheckpointError(
                f"{path}: missing; a tokenizer.json of the base model is expected beside the "
                "weights (transformers writes one with AutoTokenizer(...).save_pretrained)"
            )
        return cls(path.read_text(encoding="utf-8"), name=str(path))

    @property
    def size(self) -> int:
        """One more than the largest id."""
        return self._whole.get_vocab_size(with_added_tokens=True)

    def id_of(self, token: str) -> int:
        """Return the id of a control token. Raises CheckpointError if there is none."""
        token_id = self._added.get(token)
        if token_id is None:
            raise CheckpointError(
                f"{self.name}: no added token {token!r}; the chat template needs it. "
                "Use the tokenizer that came with the weights"
            )
        return token_id

    @property
    def added_tokens(self) -> dict[str, int]:
        """The control tokens and their ids."""
        return dict(self._added)

    @cached_property
    def opening(self) -> tuple[int, ...]:
        """The ids that stand before every text, by the file's own template: `<s>`, or nothing."""
        encoding = self._whole.encode("a")
        marks = zip(encoding.ids, encoding.special_tokens_mask, strict=True)
        return tuple(token_id for token_id, _ in takewhile(lambda mark: mark[1], marks))

    def lone_ids(self, text: str) -> frozenset[int]:
        """Return the id of `text` where it is one token, and nothing where it is not."""
        ids = self.encode(text, continues=True).ids
        return frozenset(ids) if len(ids) == 1 else frozenset()

    def encode(self, text: str, *, continues: bool = False) -> Encoding:
        """Encode text, with character offsets; what spells a control token stays text.

        `continues` where a control token stands before it.
        """
        if len(text) > RECURRING_CHARACTERS:
            return self._encode(text, continues=continues)
        key = text, continues
        if key not in self._recurring:
            if len(self._recurring) == RECURRING_TEXTS:
                self._recurring.clear()
            self._recurring[key] = self._encode(text, continues=continues)
        return self._recurring[key]

    def _encode(self, text: str, *, continues: bool) -> Encoding:
        # Lone surrogates, which come from damaged input, cannot be UTF-8.
        text = text.encode("utf-8", errors="replace").decode("utf-8")
        tokenizer = self._going_on if continues else self._plain
        return tokenizer.encode(text, add_special_tokens=False)

    def decode(self, ids: list[int]) -> str:
        """Return the text of `ids`, control tokens left out."""
        return self._whole.decode(ids, skip_special_tokens=True)

    def spell(self, ids: list[int]) -> str:
        """Return the text of `ids`, control tokens spelled out."""
        return self._whole.decode(ids, skip_special_tokens=False)

    def bytes_of(self, token_id: int) -> bytes:
        """Return the bytes a token stands for, which may be a part of a character.

        Byte-level vocabularies write each byte as a printable character (GPT-2's table).
        """
        spelled = self._whole.id_to_token(token_id)
        if spelled is None:
            return b""
        if spelled in self._added or not all(letter in BYTES for letter in spelled):
            return spelled.encode()
        return bytes(BYTES[letter] for letter in spelled)

    def stream(self) -> "TextStream":
        """Return a decoder that is fed id by id."""
        return TextStream(self._whole)


class TextStream:
    """Turns ids into text as they come, in whole characters.

    A new id is decoded together with those before it that gave the last text, so spaces that a
    decoder takes off the beginning are taken off once. Bytes that are no characters end as U+FFFD.
    """

    def __init__(self, tokenizer: HFTokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []  # those that gave the last text, and those after them
        self._shown = 0  # how many of them have given their text

    def push(self, token_id: int) -> str:
        """Take one more id; return the characters it completes, possibly none."""
        self._ids.append(token_id)
        text = self._new()
        if not text or text.endswith(UNFINISHED):
            return ""
        self._ids, self._shown = self._ids[self._shown :], len(self._ids) - self._shown
        return text

    def flush(self) -> str:
        """Return what is left at the end: U+FFFD for half a character."""
        text = self._new()
        self._shown = len(self._ids)
        return text

    def _new(self) -> str:
        return self.decode(self._ids)[len(self.decode(self._ids[: self._shown])) :]

    def decode(self, ids: list[int]) -> str:
        """Return the text of ids that have nothing to do with the stream."""
        return self._tokenizer.decode(ids, skip_special_tokens=True)


def _without(values: Mapping[str, Any], controls: frozenset[str]) -> dict[str, Any]:
    """Return a tokenizer.json (hence Any) that cannot make a control token of text.

    Of a model whose own vocabulary holds them, as LLaMA's does, merges that would spell one go.
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


def _without_first_space(values: Any) -> Any:  # Any: a tokenizer.json or a part of it
    """Return it with Metaspace's "first" turned into "never", wherever it stands."""
    if isinstance(values, list):
        return [_without_first_space(value) for value in values]
    if not isinstance(values, dict):
        return values
    if values.get("type") == "Metaspace" and values.get("prepend_scheme") == "first":
        return values | {"prepend_scheme": "never"}
    return {
        key: value if key == "model" else _without_first_space(value)
        for key, value in values.items()
    }
