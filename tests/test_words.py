"""Phrases of an older, idiosyncratic English that must not come back."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = (
    *("README.md", "SECURITY.md", "ARCHITECTURE.md", "CONTRIBUTING.md"),
    *("onevision", "docs", "integrations", "runs", "deploy"),
)
# What procedural pictures say in their own words.
EXEMPT = ROOT / "onevision" / "synth" / "worlds"
SUFFIXES = (".py", ".md", ".sh", ".html", ".js", ".css", ".conf", ".service")
# Each with what to write in its place.
PHRASES = {
    "anew": "again, re-...",
    "are seen": "are sampled, are used",
    "as it comes": "as it arrives",
    "asked for a word": "tested",
    "at hand": "available",
    "by lot": "at random",
    "foretell": "predict",
    "foretold": "predicted",
    "go on": "continue, resume",
    "goes on": "continues, resumes",
    "hearers": "callbacks",
    "in company": "with other requests",
    "is told": "is given",
    "leaves out": "omits, skips",
    "lie below": "are in",
    "nobody": "no one, none",
    "of a sudden": "suddenly",
    "rightly": "correctly",
    "said so": "",
    "strangers": "untrusted clients",
    "taken on": "accepted",
    "thrice": "three times",
    "to be had": "available, supported",
    "was told": "was given",
    "what is there": "what exists",
    "where it breaks": "on failure",
    "where there is none": "if there is none",
    "where they lie": "where they are",
    "whoever": "the client, the caller",
}
PATTERN = re.compile(rf"\b({'|'.join(PHRASES)})\b", re.IGNORECASE)


def _files() -> Iterator[Path]:
    for room in ROOMS:
        path = ROOT / room
        assert path.exists(), room
        yield from [path] if path.is_file() else path.rglob("*")


def _found(text: str) -> list[str]:
    """Return the phrases that occur in `text`, line breaks notwithstanding."""
    return PATTERN.findall(re.sub(r"[\s#]+", " ", text))


def test_old_phrases_do_not_come_back():
    found = {
        path.relative_to(ROOT).as_posix(): phrases
        for path in _files()
        if path.is_file() and path.suffix in SUFFIXES and not path.is_relative_to(EXEMPT)
        if (phrases := _found(path.read_text(encoding="utf-8")))
    }
    assert not found


def test_a_phrase_is_found_across_lines_and_case():
    assert _found("chosen By\n    # lot; at random") == ["By lot"]
    assert not _found("a ballot by lottery")
