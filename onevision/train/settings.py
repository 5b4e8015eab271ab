"""Everything a run was told, as values that can be changed, written, read back and compared.

    --set learning_rate=2e-5 --set trainable=projector --set vision_learning_rate=none

Keys and kinds of values are those of the dataclasses; a key that none of them has is an error that
names the closest.
"""

import difflib
import json
import math
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import torch

from onevision.accelerate.packed import can_multiply
from onevision.config import ModelConfig
from onevision.errors import ConfigError
from onevision.nested import leaves
from onevision.train.options import RunOptions
from onevision.train.preference.loss import PreferenceConfig
from onevision.train.recipes import Stage

# Raised when settings written before would be read otherwise.
FORMAT_VERSION = 1
# What decides a run's outcome, of its options; the others may change when it goes on.
DECISIVE_OPTIONS = (
    *("seed", "precision", "loss_mean"),
    *("lora_rank", "lora_alpha", "lora_dropout", "lora_parts", "lora_base"),
)

Config = TypeVar("Config")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that a run was told, so that it can be told again."""

    stage: Stage
    # The architecture that the curriculum leads to.
    target: ModelConfig
    options: RunOptions
    # How to learn from pairs which answer is better; None learns answers.
    preference: PreferenceConfig | None = None
    # Directories that the run begins with, and its tokenizer.
    starts: tuple[str, ...] = ()
    tokenizer: str | None = None


def divided(settings: Sequence[str], *kinds: type) -> list[list[str]]:
    """Sort "key=value" texts by the dataclass, of `kinds`, that has the key.

    Raises ConfigError for a key of none of them.
    """
    hints = [get_type_hints(kind) for kind in kinds]
    every = [key for one in hints for key in one]
    for setting in settings:
        _check_key(_key(setting), every, where="--set")
    return [[setting for setting in settings if _key(setting) in one] for one in hints]


def changed(config: Config, settings: Sequence[str]) -> Config:
    """Return a frozen dataclass with "key=value" texts applied, all at once.

    A tuple is written "a,b", a mapping "a:1,b:2", nothing "none". Raises ConfigError for an unknown
    key, a value of another kind, and what the dataclass itself refuses.
    """
    hints = get_type_hints(type(config))
    values: dict[str, Any] = {}  # Any: fields of any kind
    for setting in settings:
        key, text = _key(setting), setting.partition("=")[2].strip()
        _check_key(key, list(hints), where="--set")
        if key in values:
            raise ConfigError(f"--set {key} is given twice; give it once")
        values[key] = _typed(hints[key], _from_text(hints[key], text), where=key)
    return replace(config, **values)  # type: ignore  # a dataclass, by contract


def run_options(settings: Sequence[str]) -> RunOptions:
    """Return the options of a run with "key=value" texts applied. Raises ConfigError.

    Where nothing is said of the precision and the processor only emulates bf16, it is fp32.
    """
    options = changed(RunOptions(), settings)
    is_said = any(_key(setting) == "precision" for setting in settings)
    if is_said or options.device != "cpu" or can_multiply(torch.bfloat16):
        return options
    return replace(options, precision="fp32")


def resolved(settings: Settings) -> dict[str, Any]:
    """Return every value of a run as JSON knows it."""
    plain = {"format_version": FORMAT_VERSION} | asdict(settings)
    plain["target"] = json.loads(settings.target.to_json())
    return json.loads(json.dumps(plain))


def write_settings(settings: Settings, path: Path) -> None:
    """Write a run's settings as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(resolved(settings), indent=2) + "\n", encoding="utf-8")


def read_settings(path: Path) -> Settings:
    """Read what `write_settings` wrote, strictly. Raises ConfigError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({error}); write it again with the run") from error
    if not isinstance(values, dict) or values.pop("format_version", None) != FORMAT_VERSION:
        raise ConfigError(
            f"{path}: not settings of format_version {FORMAT_VERSION}; start the run anew"
        )
    hints = get_type_hints(Settings)
    _check_keys(values, hints, where=str(path))
    target = ModelConfig.from_dict(values.pop("target"))
    typed = {k: _typed(hints[k], v, where=f"{path}: {k}") for k, v in values.items()}
    return Settings(target=target, **typed)


def decisive_options(settings: Settings) -> dict[str, Any]:
    """Return the options that decide a run's outcome, as JSON knows them."""
    options = resolved(settings)["options"]
    return {key: options[key] for key in DECISIVE_OPTIONS}


def difference(old: Settings, new: Settings) -> list[str]:
    """Say what differs of what decides the outcome: "learning_rate: 1e-05 -> 2e-05".

    Where its files lie, on how many devices it runs, how often it saves and the like is left out.
    """
    before, after = dict(_decisive(old)), dict(_decisive(new))
    keys = [*before, *(key for key in after if key not in before)]
    return [
        f"{key}: {_told(before.get(key, 'absent'))} -> {_told(after.get(key, 'absent'))}"
        for key in keys
        if before.get(key, "absent") != after.get(key, "absent")
    ]


def _key(setting: str) -> str:
    key, equals, _ = setting.partition("=")
    if not equals:
        raise ConfigError(f"--set {setting} has no value; write it as key=value")
    return key.strip()


def _check_keys(values: Mapping[str, object], hints: Mapping[str, Any], *, where: str) -> None:
    for key in values:
        _check_key(key, list(hints), where=where)
    missing = [key for key in hints if key not in values]
    if missing:
        raise ConfigError(f"{where}: no {', '.join(missing)}; start the run anew")


def _check_key(key: str, known: Sequence[str], *, where: str) -> None:
    if key in known:
        return
    close = difflib.get_close_matches(key, known, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else ";"
    raise ConfigError(f"{where}: no key {key!r}{meant} expected one of {', '.join(known)}")


def _from_text(kind: Any, text: str) -> Any:  # Any: a type hint, a JSON value
    """Return the JSON value that a text stands for; the text itself where it stands for none."""
    members = _members(kind)
    if type(None) in members and text.lower() == "none":
        return None
    kind = members[0]
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind in (int, float):
        return _number(kind, text)
    pieces = text.split(",") if text else []
    if get_origin(kind) is tuple:
        return [_from_text(get_args(kind)[0], piece.strip()) for piece in pieces]
    if get_origin(kind) is Mapping:
        pairs = [piece.partition(":") for piece in pieces]
        return {key.strip(): _from_text(get_args(kind)[1], value) for key, _, value in pairs}
    return text


def _number(kind: type[int] | type[float], text: str) -> int | float | str:
    try:
        return kind(text)
    except ValueError:
        return text


def _typed(kind: Any, value: Any, *, where: str) -> Any:  # Any: a type hint, a JSON value
    """Return a field's value from its JSON value. Raises ConfigError for another kind."""
    members = _members(kind)
    if value is None and type(None) in members:
        return None
    made = _made(members[0], value, where=where)
    if made is None:
        raise ConfigError(f"{where} is {value!r}; expected {_expected(kind)}")
    return made


def _made(kind: Any, value: Any, *, where: str) -> Any:  # Any: a type hint, a JSON value
    """Return the value as its kind; None where it is of another."""
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _built(kind, value, where=where) if isinstance(value, dict) else None
    if origin is Literal:
        return value if value in arguments else None
    if origin is tuple and isinstance(value, list):
        right = Ellipsis in arguments or len(value) == len(arguments)
        return None if not right else tuple(_typed(arguments[0], one, where=where) for one in value)
    if origin is Mapping and isinstance(value, dict):
        return {k: _typed(arguments[1], one, where=f"{where}.{k}") for k, one in value.items()}
    if kind is float and type(value) is int:
        value = float(value)
    right = type(value) is kind and not (kind is float and not math.isfinite(value))
    return value if right else None


def _built(cls: Any, values: Mapping[str, Any], *, where: str) -> Any:  # Any: a dataclass
    hints = get_type_hints(cls)
    _check_keys(values, hints, where=where)
    return cls(**{k: _typed(hints[k], v, where=f"{where}.{k}") for k, v in values.items()})


def _members(kind: Any) -> tuple[Any, ...]:  # Any: a type hint
    """Return the kinds of a union, what may be None behind the rest."""
    if get_origin(kind) in (types.UnionType, Union):
        return get_args(kind)
    return (kind,)


def _expected(kind: Any) -> str:  # Any: a type hint
    main, *rest = _members(kind)
    words = {int: "a whole number", float: "a number such as 1e-5", bool: "true or false"}
    if get_origin(main) is Literal:
        said = f"one of {', '.join(map(str, get_args(main)))}"
    elif get_origin(main) is tuple:
        count = "" if Ellipsis in get_args(main) else f"{len(get_args(main))} "
        said = f"{count}values with commas between"
    else:
        said = words.get(main, "name:weight pairs" if get_args(main) else "text")
    return f"{said}, or none" if rest else said


def _decisive(settings: Settings) -> Iterator[tuple[str, object]]:
    """Give what decides the outcome, by dotted name; the stage's fields go without prefix."""
    plain = resolved(settings)
    yield from leaves(plain["stage"])
    yield from leaves({"target": plain["target"]})
    yield from leaves({"preference": plain["preference"]})
    yield from leaves(decisive_options(settings))


def _told(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "nothing"
    return "none" if value is None else str(value)
