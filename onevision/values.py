"""JSON, YAML or "key=value" texts -> a frozen dataclass, checked; and back to JSON values.

    from_plain(LanguageConfig, {"num_layers": 24, ...}, where="config.json")
    apply_settings(stage, ["learning_rate=2e-5", "trainable=projector", "template=none"])

An unknown key, a missing key and a value of another type are errors that name the place. msgspec
converts the values. It ignores unknown keys of a dataclass and has no unions of dataclasses, so the
keys are checked here, and a member of such a union carries its class under the key "rule".
"""

import difflib
import math
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from onevision.commas import split_items
from onevision.errors import ConfigError, OneVisionError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# Any, in this file: a type hint, or a value of JSON or YAML.
Config = TypeVar("Config", bound="DataclassInstance")
RULE = "rule"
MAX_NAMES = 12  # in an error
WORDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number such as 1e-5",
    bool: "true or false",
    str: "text",
}


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a value stands: a file or an option, and a dotted path inside."""

    source: str
    error: type[OneVisionError]
    path: str = ""

    def __str__(self) -> str:
        return f"{self.source}: {self.path}" if self.path else self.source

    def inside(self, key: str) -> "_Place":
        return replace(self, path=f"{self.path}.{key}" if self.path else key)


def from_plain(
    cls: type[Config],
    values: object,
    *,
    where: str,
    complete: bool = True,
    error: type[OneVisionError] = ConfigError,
) -> Config:
    """Builds a dataclass from JSON or YAML values; instances among them are kept as they are.

    `complete` demands every key, even those with a default. Raises `error`, which begins with
    `where`, and whatever the dataclass itself refuses.
    """
    return _build(cls, values, _Place(source=where, error=error), complete=complete)


def to_plain(config: "DataclassInstance") -> dict[str, Any]:
    """Returns the fields of a dataclass as JSON values, in their order."""
    hints = get_type_hints(type(config))
    plain: dict[str, Any] = {}
    for field in fields(config):
        value = vars(config)[field.name]
        plain[field.name] = _plain(value)
        if is_dataclass(value) and len(_dataclasses(hints[field.name])) > 1:
            plain[field.name] = {RULE: type(value).__name__} | plain[field.name]
    return plain


def apply_settings(
    config: Config,
    settings: Sequence[str],
    *,
    where: str = "--set",
    error: type[OneVisionError] = ConfigError,
) -> Config:
    """Returns a frozen dataclass with "key=value" texts applied, all at once.

    A tuple is written "a,b" (see commas.py), a mapping "a:1,b:2", None "none". Raises `error`
    for an unknown key and a value of another type, and whatever the dataclass itself refuses.
    """
    hints = get_type_hints(type(config))
    values: dict[str, Any] = {}
    for setting in settings:
        key, text = _split(setting, where=where, error=error)
        check_key(key, hints, where=where, error=error)
        if key in values:
            raise error(f"{where} {key} is given twice; give it once")
        place = _Place(source=where, error=error, path=key)
        values[key] = _convert(hints[key], _shape(hints[key], text), place, text=text)
    return replace(config, **values)


def split_settings(settings: Sequence[str], *kinds: type) -> list[list[str]]:
    """Sorts "key=value" texts by the dataclass, of `kinds`, that has the key.

    Raises ConfigError for a key that none of them has.
    """
    names = [[field.name for field in fields(kind)] for kind in kinds]
    keys = [_split(setting, where="--set", error=ConfigError)[0] for setting in settings]
    for key in keys:
        check_key(key, [name for own in names for name in own], where="--set")
    keyed = list(zip(keys, settings, strict=True))
    return [[setting for key, setting in keyed if key in own] for own in names]


def check_key(
    key: str, known: Iterable[str], *, where: str, error: type[OneVisionError] = ConfigError
) -> None:
    """Raises `error` if a key is not among the known ones; it names the closest, or a few."""
    known = list(known)
    if key not in known:
        raise error(f"{where}: no key {key!r}{name_closest(str(key), known)}")


def name_closest(name: str, known: Iterable[str], *, few: bool = True) -> str:
    """Returns the end of a message on an unknown name: "; did you mean 'ai2d'?", or a few names.

    With `few` off, nothing if none is close.
    """
    known = sorted(known) if isinstance(known, Set) else [*known]
    if close := difflib.get_close_matches(name, known, n=3, cutoff=0.6):
        return f"; did you mean {' or '.join(map(repr, close))}?"
    if not few:
        return ""
    if len(known) <= MAX_NAMES:
        return f"; expected one of {', '.join(known) or 'none'}"
    return f"; there are {len(known)}, such as {', '.join(known[:3])}"


def read_yaml(path: Path, *, error: type[OneVisionError] = ConfigError) -> object:
    """Returns what a YAML file holds. Raises `error` if it cannot be read or is not YAML."""
    import yaml  # here, since configs are JSON and are imported by every command

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror}); check the path") from problem
    except (yaml.YAMLError, ValueError) as problem:  # also text that is not UTF-8, huge numbers
        raise error(f"{path}: not YAML ({str(problem).splitlines()[0]}); fix it") from problem
    except RecursionError as problem:
        raise error(f"{path}: it is nested too deeply; expected a flat file") from problem


def shorten_value(value: object) -> str:
    """Returns the beginning of a value for messages, however large it is or its YAML aliases."""
    return (reprlib.repr(value) if isinstance(value, (list, dict)) else repr(value))[:60]


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yields nested JSON values by dotted name: {"a": {"b": 1}} -> ("a.b", 1)."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _build(cls: Any, values: Any, place: _Place, *, complete: bool) -> Any:
    if isinstance(values, cls):
        return values
    if not isinstance(values, dict):
        raise place.error(f"{place} is {shorten_value(values)}; expected keys and values")
    known = {field.name: field for field in fields(cls)}
    for key in values:
        check_key(key, known, where=str(place), error=place.error)
    missing = [k for k, f in known.items() if k not in values and (complete or _is_required(f))]
    if missing:
        raise place.error(f"{place}: missing {', '.join(missing)}")
    hints = get_type_hints(cls)
    made = {
        key: _convert(hints[key], value, place.inside(key), complete=complete)
        for key, value in values.items()
    }
    return cls(**made)


def _convert(
    kind: Any, value: Any, place: _Place, *, complete: bool = True, text: str | None = None
) -> Any:
    """Returns a value as its type hint asks; `text` is what was typed, if it was, as in "1e-5"."""
    inner = _dataclasses(kind)
    if inner and not (value is None and NoneType in _members(kind)):
        cls, value = _choose(inner, value, place)
        return _build(cls, value, place, complete=complete)
    if isinstance(value, list) and (item := _dataclass_item(kind)) is not None:
        return tuple(
            _build(item, one, place.inside(str(number)), complete=complete)
            for number, one in enumerate(value)
        )
    try:
        made = msgspec.convert(value, kind, strict=text is None)
    except msgspec.ValidationError:
        pass
    else:
        if _is_finite(made):
            return made
    found, expected = value if text is None else text, _describe(kind, text=text is not None)
    raise place.error(f"{place} is {shorten_value(found)}; expected {expected}")


def _choose(classes: Sequence[Any], value: Any, place: _Place) -> tuple[Any, Any]:
    """Returns the class that a union's value names, and the value without the name."""
    if len(classes) == 1 or not isinstance(value, dict):
        return classes[0], value
    by_name = {cls.__name__: cls for cls in classes}
    rest = dict(value)
    rule = rest.pop(RULE, None)
    if rule not in by_name:
        raise place.error(f"{place.inside(RULE)} is {rule!r}{name_closest(str(rule), by_name)}")
    return by_name[rule], rest


def _shape(kind: Any, text: str) -> Any:
    """Returns a text in the shape of its type: None, a list or a mapping of texts, or as it is."""
    main, *rest = _members(kind)
    if rest and text.lower() == "none":
        return None
    pieces = split_items(text)
    if get_origin(main) is tuple:
        return [_shape(get_args(main)[0], piece.strip()) for piece in pieces]
    if get_origin(main) is Mapping:
        pairs = [piece.partition(":") for piece in pieces]
        return {key.strip(): _shape(get_args(main)[1], one.strip()) for key, _, one in pairs}
    return text.replace("_", "") if main in (int, float) else text


def _split(setting: str, *, where: str, error: type[OneVisionError]) -> tuple[str, str]:
    key, equals, value = setting.partition("=")
    if not equals:
        raise error(f"{where} {setting} has no value; write it as key=value")
    return key.strip(), value.strip()


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return to_plain(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return value


def _describe(kind: Any, *, text: bool) -> str:
    main, *rest = _members(kind)
    arguments = get_args(main)
    if get_origin(main) is Literal:
        words = f"one of {', '.join(map(str, arguments))}"
    elif get_origin(main) is tuple:
        count = "" if Ellipsis in arguments else f"{len(arguments)} "
        form = f"{count}values with commas between" if text else f"a list of {count}values"
        words = f"{form}, each {_describe(arguments[0], text=text)}"
    elif get_origin(main) is Mapping:
        form = "name:value pairs with commas between" if text else "keys and values"
        words = f"{form}, each value {_describe(arguments[1], text=text)}"
    else:
        words = WORDS.get(main, "keys and values")
    return f"{words}, or none" if rest else words


def _members(kind: Any) -> tuple[Any, ...]:
    """Returns the types of a union, with None last."""
    return get_args(kind) if get_origin(kind) in (UnionType, Union) else (kind,)


def _dataclasses(kind: Any) -> list[Any]:
    return [member for member in _members(kind) if is_dataclass(member)]


def _dataclass_item(kind: Any) -> Any:
    """Returns the dataclass of a tuple[Dataclass, ...]; None for other types."""
    item = get_args(kind)[0] if get_origin(kind) is tuple else None
    return item if is_dataclass(item) else None


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _is_finite(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_finite, value))
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, float) or math.isfinite(value)
