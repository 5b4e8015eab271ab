"""A mixture's prompt styles, places of media and turns -> conversations with them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from onevision.conversation import Conversation, Message, Part, Text
from onevision.data.mixture import published_mixtures
from onevision.errors import DataError
from onevision.values import from_plain, read_yaml, shorten_value

STYLES_FILE = "prompt_styles.yaml"
Position = Literal["tail", "head", "whole"]
# 2^32 over the golden ratio, odd: its multiples spread evenly (Knuth's multiplicative hashing).
SPREAD = 2_654_435_769


@dataclass(frozen=True, kw_only=True)
class PromptStyle:
    """Words that follow a question (tail), precede it (head) or are all of it (whole).

    With several texts, each row takes one of them, the same in every epoch.
    """

    name: str
    texts: tuple[str, ...]
    position: Position = "tail"


def read_styles(mixture: Path) -> tuple[PromptStyle, ...]:
    """Reads the styles beside a mixture file, or the published ones if there are none."""
    beside = mixture.parent / STYLES_FILE
    path = beside if beside.is_file() else published_mixtures() / STYLES_FILE
    content = read_yaml(path, error=DataError)
    styles = content.get("styles") if isinstance(content, dict) else None
    if not isinstance(styles, dict):
        raise DataError(f"{path}: no mapping `styles:`; expected name: {{texts, position}}")
    return tuple(
        _read_style(name, style, where=f"{path}: style {name!r}") for name, style in styles.items()
    )


def apply_style(conversation: Conversation, style: PromptStyle, *, row: int) -> Conversation:
    """Adds the style's words to every question that has none of its texts yet."""
    text = style.texts[row % len(style.texts)]

    def message(one: Message) -> Message:
        words = "".join(part.text for part in one.parts if isinstance(part, Text))
        if one.role != "user" or any(known in words for known in style.texts):
            return one
        if style.position == "tail":
            return replace(one, content=[*one.parts, Text(f"\n{text}")])
        if style.position == "whole" and words.strip():
            return one
        first = next((n for n, p in enumerate(one.parts) if isinstance(p, Text)), len(one.parts))
        added = Text(("\n" if first else "") + text)
        return replace(one, content=[*one.parts[:first], added, *one.parts[first:]])

    return Conversation([message(one) for one in conversation.messages])


def is_in_front(row: int, *, share: float) -> bool:
    """Whether a row is among the `share` whose media come first; the same in every epoch."""
    return (row * SPREAD + SPREAD) % 2**32 < share * 2**32


def place_media_in_front(conversation: Conversation) -> Conversation:
    """Puts the media of each turn before its words, each on a line of its own.

    LLaVA-NeXT-Interleave learns both places (arXiv 2407.07895, section 3.2).
    """

    def message(one: Message) -> Message:
        media = [part for part in one.parts if not isinstance(part, Text)]
        if not media:
            return one
        words = "".join(part.text for part in one.parts if isinstance(part, Text)).strip()
        lines = [part for medium in media for part in (medium, Text("\n"))]
        return replace(one, content=[*lines, Text(words)] if words else lines[:-1])

    return replace(conversation, messages=[message(one) for one in conversation.messages])


def split_turns(conversation: Conversation) -> list[Conversation]:
    """Returns a conversation for every learned answer, each with all media before its question.

    A question that follows others is easier: their answers say what the picture shows. Raises
    DataError if words precede a medium, media follow the first question, or no answer is learned.
    """
    messages = conversation.messages
    system = messages[:1] if messages[0].role == "system" else ()
    turns = messages[len(system) :]
    shared, first = _divide(turns[0])
    talks = []
    for user, answer in zip(turns[::2], turns[1::2], strict=False):
        if user is not turns[0] and not all(isinstance(part, Text) for part in user.parts):
            raise DataError("turns are apart, but media follow the first question; join them")
        words = first if user is turns[0] else _gap(first) + _words(user.parts)
        if answer.learned:
            asked = replace(user, content=(*shared, Text(words)))
            talks.append(Conversation([*system, asked, answer]))
    if not talks:
        raise DataError("turns are apart, and no answer is learned")
    return talks


def join_turns(talks: list[Conversation]) -> Conversation:
    """Returns one conversation with the questions of all, and the media of the first."""
    rest = list[Message]()
    for talk in talks[1:]:
        asked, answer = talk.messages[-2:]
        words = _words(asked.parts).lstrip()
        rest += [replace(asked, content=(Text(words),)), answer]
    return Conversation([*talks[0].messages, *rest])


def _divide(asked: Message) -> tuple[tuple[Part, ...], str]:
    """Returns the first question's media, with what is between them, and the words after."""
    places = [place for place, part in enumerate(asked.parts) if not isinstance(part, Text)]
    end = places[-1] + 1 if places else 0
    if _words(asked.parts[:end]).strip():
        raise DataError(
            "turns are apart, but words of the first question precede its media; put media first"
        )
    return asked.parts[:end], _words(asked.parts[end:])


def _words(parts: tuple[Part, ...]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Text))


def _gap(text: str) -> str:
    """Returns the white space with which a text begins."""
    return text[: len(text) - len(text.lstrip())]


def _read_style(name: str, style: object, *, where: str) -> PromptStyle:
    """Reads a style; keys that only describe it are ignored."""
    if not isinstance(style, Mapping):
        raise DataError(f"{where} is {shorten_value(style)}; expected texts and position")
    values = {"name": name} | {key: style[key] for key in ("texts", "position") if key in style}
    made = from_plain(PromptStyle, values, where=where, complete=False, error=DataError)
    if not made.texts:
        raise DataError(f"{where} has no `texts`; expected at least one")
    return made
