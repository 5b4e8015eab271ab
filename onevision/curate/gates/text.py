"""Gates on what is said: length, language, words, repetition, texts of evaluation data."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from onevision.conversation import Text
from onevision.curate.gates.gate import GateItem
from onevision.curate.rules import HAN, WORD, count_words
from onevision.data.mixture import Mixture, open_mixture
from onevision.data.records import to_conversation
from onevision.errors import DataError, InputError

# Words in a row that two texts share by chance no more.
NGRAM = 13
# Share of letters that are Chinese, above which a text is Chinese.
HAN_SHARE = 0.3
LETTER = re.compile(r"[^\W\d_]")


class LengthGate:
    """Marks records with an answer of too few or too many words."""

    name = "length"

    def __init__(self, least: int, most: int) -> None:
        self.least, self.most = least, most

    def check(self, items: Sequence[GateItem]) -> list[str | None]:
        """Returns the count that is out of range."""
        return [self._check(item) for item in items]

    def _check(self, item: GateItem) -> str | None:
        for words in map(count_words, item.answers):
            if not self.least <= words <= self.most:
                return f"an answer has {words} words; expected {self.least} to {self.most}"
        return None


class LanguageGate:
    """Marks records with an answer in the other language of the two."""

    name = "language"

    def __init__(self, language: str) -> None:
        self.language = language

    def check(self, items: Sequence[GateItem]) -> list[str | None]:
        """Returns the language that is found."""
        return [self._check(item) for item in items]

    def _check(self, item: GateItem) -> str | None:
        for answer in item.answers:
            letters = LETTER.findall(answer)
            if not letters:
                continue
            found = "zh" if len(HAN.findall(answer)) > HAN_SHARE * len(letters) else "en"
            if found != self.language:
                return f"an answer is {found}; expected {self.language}"
        return None


class WordsGate:
    """Marks records that hold a word, or words in a row, of a list."""

    name = "words"

    def __init__(self, words: Iterable[str]) -> None:
        chosen = sorted({" ".join(word.split()).casefold() for word in words} - {""})
        if not chosen:
            raise InputError("the list of words is empty; expected one a line")
        # Chinese has no spaces: there a word is found anywhere.
        parts = [re.escape(w) if HAN.search(w) else rf"\b{re.escape(w)}\b" for w in chosen]
        self._pattern = re.compile("|".join(parts))

    def check(self, items: Sequence[GateItem]) -> list[str | None]:
        """Returns the first word that is found."""
        found = [self._pattern.search(" ".join(item.text.casefold().split())) for item in items]
        return [None if word is None else f"it says {word[0]!r}" for word in found]


class DuplicatesGate:
    """Marks records whose words are those of an earlier one, or of another data set."""

    name = "duplicates"

    def __init__(self, others: Mixture | None = None) -> None:
        self._seen: dict[bytes, str] = {}
        for item in _read_all(others) if others is not None else ():
            self._seen.setdefault(_key(item), item.record.where)

    def check(self, items: Sequence[GateItem]) -> list[str | None]:
        """Returns which record is repeated; case, punctuation and spaces do not count."""
        found: list[str | None] = []
        for item in items:
            key = _key(item)
            earlier = self._seen.get(key)
            self._seen.setdefault(key, item.record.where)
            found.append(earlier and f"it says what {earlier} says of the same picture")
        return found


class LeaksGate:
    """Marks records that share 13 words in a row with evaluation data."""

    name = "leaks"

    def __init__(self, evaluated: Mixture) -> None:
        self._grams: dict[int, str] = {}
        for item in _read_all(evaluated):
            for gram in _grams(item):
                self._grams.setdefault(gram, item.record.where)

    def check(self, items: Sequence[GateItem]) -> list[str | None]:
        """Returns where the shared words are."""
        return [self._check(item) for item in items]

    def _check(self, item: GateItem) -> str | None:
        for gram in _grams(item):
            if gram in self._grams:
                return f"it shares {NGRAM} words with {self._grams[gram]}"
        return None


def read_words(path: Path) -> list[str]:
    """Returns the lines of a list of words; "#" begins a comment. Raises InputError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: the list of words cannot be read; expected UTF-8 text with a word a line"
        ) from error
    return [line for line in lines if line.strip() and not line.startswith("#")]


def open_others(path: Path) -> Mixture:
    """Opens records to compare with. Raises DataError."""
    return open_mixture(path)


def _read_all(mixture: Mixture) -> Iterator[GateItem]:
    """Yields the records of a mixture that can be read."""
    for dataset in mixture.datasets:
        for row in dataset.rows.tolist():
            try:
                record = dataset.source.read(row)
                yield GateItem(record, to_conversation(record))
            except DataError:
                continue  # `data check` names them


def _key(item: GateItem) -> bytes:
    """Returns a hash of the picture's names and the words of a record."""
    media = [str(part) for m in item.conversation.messages for part in m.parts
             if not isinstance(part, Text)]  # fmt: skip
    words = " ".join(WORD.findall(item.text.casefold()))
    return hashlib.blake2b("\n".join([*media, words]).encode(), digest_size=16).digest()


def _grams(item: GateItem) -> Iterator[int]:
    """Yields hashes of words in a row, within each question and answer."""
    for text in (*item.questions, *item.answers):
        words = WORD.findall(text.casefold())
        for begin in range(len(words) - NGRAM + 1):
            gram = " ".join(words[begin : begin + NGRAM])
            yield int.from_bytes(hashlib.blake2b(gram.encode(), digest_size=8).digest(), "big")
