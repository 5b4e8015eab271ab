"""`onevision train --keys`: every key that `--set` takes, with its default and its meaning."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

HEADER = ("| key | default | meaning |", "|---|---|---|")


@dataclass(frozen=True, kw_only=True)
class SettingKey:
    """A key, its default, the values it may have if they are few, and the sentence above it."""

    name: str
    default: str
    values: tuple[str, ...]
    meaning: str


def print_keys() -> None:
    """Prints a Markdown table of the keys of a stage, of a run, of DPO and of GRPO."""
    for line in format_keys():
        print(line)


def format_keys() -> Iterator[str]:
    """Yields the lines of the tables."""
    from onevision.train.options import RunOptions
    from onevision.train.preference.loss import PreferenceConfig
    from onevision.train.reinforce.config import ReinforceConfig
    from onevision.train.stage import Stage

    titles = {
        Stage: "What is learned",
        RunOptions: "How it is run",
        PreferenceConfig: "DPO alone",
        ReinforceConfig: "Learning from rewards alone",
    }
    for number, (kind, title) in enumerate(titles.items()):
        if number:
            yield ""
        yield f"## {title}"
        yield ""
        yield from HEADER
        for key in list_keys(kind):
            meaning = key.meaning + (f" One of {', '.join(key.values)}." if key.values else "")
            yield f"| `{key.name}` | {key.default} | {meaning} |"


def list_keys(kind: Any) -> list[SettingKey]:  # Any: a dataclass
    """Returns the fields of a dataclass, each with the comment above it."""
    source = textwrap.dedent(inspect.getsource(kind))
    lines = source.splitlines()
    (body,) = ast.parse(source).body
    assert isinstance(body, ast.ClassDef), "a dataclass is a class"
    hints = get_type_hints(kind)
    meanings: dict[str, str] = {}
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            meanings[node.target.id] = _comment_above(lines, node.lineno - 1)
    return [
        SettingKey(
            name=field.name,
            default=_format_default(field),
            values=_list_values(hints[field.name]),
            meaning=meanings[field.name],
        )
        for field in fields(kind)
    ]


def _comment_above(lines: list[str], number: int) -> str:
    found: list[str] = []
    while number and (line := lines[number - 1].strip()).startswith("#"):
        found.insert(0, line.removeprefix("#").strip())
        number -= 1
    return " ".join(found)


def _list_values(hint: Any) -> tuple[str, ...]:  # Any: a type hint
    """Returns the values of a Literal, or of one in a union or a tuple; () for other types."""
    if get_origin(hint) is Literal:
        return tuple(map(str, get_args(hint)))
    return next(filter(None, map(_list_values, get_args(hint))), ())


def _format_default(field: Any) -> str:  # Any: a field of a dataclass
    if field.default is MISSING:
        return "none" if field.default_factory is not MISSING else "the stage's"
    value = field.default
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
