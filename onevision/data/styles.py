"""Prompt styles: the words that tell a model how to answer, kept as data and put into questions."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from onevision.conversation import Conversation, Message, Text
from onevision.data.mixture import published_mixtures
from onevision.errors import DataError

STYLES_FILE = "prompt_styles.yaml"
Position = Literal["tail", "head", "whole"]


@dataclass(frozen=True, kw_only=True)
class PromptStyle:
    """Words that follow a question (tail), precede it (head) or are all of it (whole).

    Of several texts each row takes one, the same in every epoch.
    """

    name: str
    texts: tuple[str, ...]
    position: Position = "tail"


def read_styles(mixture: Path) -> tuple[PromptStyle, ...]:
    """Read the styles that lie beside a mixture file, else the published ones."""
    beside = mixture.parent / STYLES_FILE
    path = beside if beside.is_file() else published_mixtures() / STYLES_FILE
    if not path.is_file():
        return ()
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not YAML ({str(error).splitlines()[0]}); mend it") from error
    styles = content.get("styles") if isinstance(content, dict) else None
    if not isinstance(styles, dict):
        raise DataError(f"{path}: no mapping `styles:`; expected name: {{texts, position}}")
    return tuple(_read(path, name, style) for name, style in styles.items())


def apply_style(conversation: Conversation, style: PromptStyle, *, row: int) -> Conversation:
    """Put the style's words into every question that does not carry any of its texts already."""
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


def _read(path: Path, name: str, style: object) -> PromptStyle:
    values: Mapping[str, Any] = style if isinstance(style, Mapping) else {}  # Any: YAML
    texts, position = values.get("texts"), values.get("position", "tail")
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise DataError(f"{path}: style {name!r} has no list of `texts`; expected at least one")
    if position not in get_args(Position):
        raise DataError(
            f"{path}: style {name!r} has position {position!r}; "
            f"expected one of {', '.join(get_args(Position))}"
        )
    return PromptStyle(name=name, texts=tuple(texts), position=position)
