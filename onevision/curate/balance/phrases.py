"""A caption -> its noun phrases, by rules: no model, no data, the same everywhere.

Words of closed classes, verbs and punctuation end a phrase; what lies between is one, if it is not
all adverbs. Words lose their plural. LLaVA uses spaCy's chunker, whose model is not on PyPI under
its own name; tests/curate/test_balance.py measures the agreement with phrases marked by hand.
"""

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path

import yaml

WORDS = Path(__file__).parent / "words.yaml"
TOKEN = re.compile(r"[a-z][a-z'-]*|\d+|[^\s\w]")
IRREGULAR = {
    "men": "man", "women": "woman", "children": "child", "people": "person", "feet": "foot",
    "teeth": "tooth", "mice": "mouse", "geese": "goose", "sheep": "sheep", "knives": "knife",
    "leaves": "leaf", "shelves": "shelf", "wolves": "wolf", "loaves": "loaf", "wives": "wife",
    "scarves": "scarf", "halves": "half", "calves": "calf", "oxen": "ox", "buses": "bus",
}  # fmt: skip
# Determiners of one thing.
ONE = ("a", "an", "another", "each", "every")
# Words that end in s and are no plurals.
SINGULAR = re.compile(
    r"('s|ss|us|is|news|lens|glasses|scissors|pants|jeans|shorts|clothes|tennis|series)$"
)


@dataclass(frozen=True, kw_only=True)
class WordLists:
    """The lists of words.yaml, which says what each is for."""

    closed: frozenset[str]
    determiners: frozenset[str]
    verbs: frozenset[str]
    things: frozenset[str]


@cache
def word_lists() -> WordLists:
    """Returns the lists of the package."""
    lists = yaml.safe_load(WORDS.read_text(encoding="utf-8"))
    return WordLists(**{name: frozenset(words.split()) for name, words in lists.items()})


def find_phrases(caption: str) -> tuple[str, ...]:
    """Returns the noun phrases of an English caption, each once, in their order."""
    found: dict[str, None] = {}
    run = list[str]()
    words = TOKEN.findall(caption.lower().replace("\u2019", "'"))
    before = begun = ""
    for word, after in pairwise([*words, ""]):
        if _ends_phrase(word, before, run) or (run and _is_verb_between(word, begun, after)):
            _close(run, found)
            run, begun = list[str](), word
        elif not _is_adverb(word):
            run.append(word)
        before = word
    _close(run, found)
    return tuple(found)


def _is_verb_between(word: str, begun: str, after: str) -> bool:
    """Whether a word that no list knows must be a verb, by what its phrase began with and meets.

    After "a", no head is a plural: "a dog barks". Two phrases do not touch: "workers repair the
    roof".
    """
    lists = word_lists()
    if word in lists.things:
        return False
    if begun in ONE:
        return len(word) > 3 and word.endswith("s") and not SINGULAR.search(word)
    return after in lists.determiners


def _ends_phrase(word: str, before: str, run: list[str]) -> bool:
    """Whether a word is no part of a noun phrase where it stands."""
    lists = word_lists()
    if not word[0].isalpha() or word in lists.closed:
        return True
    if word in lists.things:
        return False
    if word.endswith(("ing", "ed")) and len(word) > 4:
        return before not in lists.determiners
    return word in lists.verbs and (bool(run) or before not in lists.determiners)


def _is_adverb(word: str) -> bool:
    return word.endswith("ly") and len(word) > 4 and word not in word_lists().things


def _close(run: list[str], found: dict[str, None]) -> None:
    if run and len(run[-1]) > 1:
        head = _singular(run[-1].removesuffix("'s").strip("'-"))
        found[" ".join([*run[:-1], head])] = None


@lru_cache(maxsize=100_000)
def _singular(word: str) -> str:
    if word in IRREGULAR:
        return IRREGULAR[word]
    if len(word) < 4 or not word.endswith("s") or SINGULAR.search(word):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y" if len(word) > 4 else word[:-1]
    if word.endswith(("ches", "shes", "xes", "sses", "zes", "atoes")):
        return word[:-2]
    return word[:-1]
