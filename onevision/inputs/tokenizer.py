"""Text <-> ids. Text encodes without added tokens, so it can never become a control token."""

import json
from functools import cached_property
from pathlib import Path

from tokenizers import Encoding
from tokenizers import Tokenizer as HFTokenizer
from tokenizers.decoders import DecodeStream

from onevision.errors import CheckpointError

IM_START, IM_END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"

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
    """A tokenizer.json, read twice: whole for decoding, without its added tokens for encoding."""

    def __init__(self, definition: str, *, name: str = "tokenizer.json") -> None:
        """Read the text of a tokenizer.json. Raises CheckpointError if it is none."""
        self.definition, self.name = definition, name
        try:
            self._whole = HFTokenizer.from_str(definition)
            values = json.loads(definition)
            added = values.pop("added_tokens", [])
            self._added = {token["content"]: token["id"] for token in added}
            self._plain = HFTokenizer.from_str(json.dumps(values | {"added_tokens": []}))
        except Exception as error:  # tokenizers raises bare Exception
            raise CheckpointError(f"{name}: not a tokenizer definition ({error})") from error
        self._recurring: dict[str, Encoding] = {}
        # The whole text is seen: no length limit, padding or template of the file applies.
        self._plain.no_truncation()
        self._plain.no_padding()

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
    def newline_id(self) -> int | None:
        """The id of a line break, where it is a token of its own."""
        ids = self.encode("\n").ids
        return ids[0] if len(ids) == 1 else None

    def encode(self, text: str) -> Encoding:
        """Encode text, with character offsets; what spells a control token stays text."""
        if len(text) > RECURRING_CHARACTERS:
            return self._encode(text)
        if text not in self._recurring:
            if len(self._recurring) == RECURRING_TEXTS:
                self._recurring.clear()
            self._recurring[text] = self._encode(text)
        return self._recurring[text]

    def _encode(self, text: str) -> Encoding:
        # Lone surrogates, which come from damaged input, cannot be UTF-8.
        text = text.encode("utf-8", errors="replace").decode("utf-8")
        return self._plain.encode(text, add_special_tokens=False)

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
    """Turns ids into text as they come; never gives half a character."""

    def __init__(self, tokenizer: HFTokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)

    def push(self, token_id: int) -> str:
        """Take one more id; return the characters it completes, possibly none."""
        return self._stream.step(self._tokenizer, token_id) or ""
