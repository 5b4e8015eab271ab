import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest

from onevision.errors import ConfigError, DataError
from onevision.values import (
    apply_settings,
    check_key,
    flatten,
    from_plain,
    split_settings,
    to_plain,
)


@dataclass(frozen=True, kw_only=True)
class Round:
    radius: float = 1.0

    def __post_init__(self):
        if self.radius < 0:
            raise ConfigError(f"radius is {self.radius}; expected 0 or more")


@dataclass(frozen=True, kw_only=True)
class Square:
    side: int = 2


@dataclass(frozen=True, kw_only=True)
class Picture:
    name: str
    shape: Round | Square = field(default_factory=Square)
    extra: Round | None = None
    layers: tuple[Square, ...] = ()
    grids: tuple[tuple[int, int], ...] | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    colour: Literal["red", "blue"] = "red"
    visible: bool = True
    range: tuple[float, float] = (0.0, 1.0)


PICTURES = [
    Picture(name="a"),
    Picture(name="b", shape=Round(radius=0.5), extra=Round(), layers=(Square(), Square(side=3))),
    Picture(name="c", grids=((1, 2), (2, 1)), weights={"x": 0.5}, colour="blue", visible=False),
]


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_dataclass_survives_json(picture):
    values = json.loads(json.dumps(to_plain(picture)))
    assert values == to_plain(picture)  # already in the types of JSON
    assert from_plain(Picture, values, where="p.json") == picture


def test_a_member_of_a_union_carries_its_class():
    assert to_plain(PICTURES[0])["shape"] == {"rule": "Square", "side": 2}
    assert to_plain(PICTURES[1])["extra"] == {"radius": 1.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shap": 1}, "p.json: no key 'shap'; did you mean 'shape'?"),
        ({"zzz": 1}, "p.json: no key 'zzz'; expected one of name, shape"),
        ({"name": None}, "p.json: name is None; expected text"),
        ({"name": 3}, "p.json: name is 3; expected text"),
        ({"visible": 1}, "visible is 1; expected true or false"),
        ({"visible": "true"}, "visible is 'true'; expected true or false"),
        ({"colour": "green"}, "colour is 'green'; expected one of red, blue"),
        ({"range": [0.5]}, "range is [0.5]; expected a list of 2 values, each a number"),
        ({"range": [0.5, float("nan")]}, "range is [0.5, nan]; expected a list of 2 values"),
        ({"grids": [[1, 2], [1]]}, "expected a list of values, each a list of 2 values, each a "
         "whole number, or none"),
        ({"weights": {"x": True}}, "weights is {'x': True}; expected keys and values, each"),
        ({"weights": {"x": float("inf")}}, "weights is {'x': inf}; expected"),
        ({"shape": {"side": 2}}, "p.json: shape.rule is None; expected one of Round, Square"),
        ({"shape": 4}, "shape is 4; expected keys and values"),
        ({"shape": {"rule": "Square", "sid": 2}}, "shape: no key 'sid'; did you mean 'side'"),
        ({"shape": {"rule": "Square"}}, "p.json: shape: missing side"),
        ({"extra": {"radius": "1"}}, "extra.radius is '1'; expected a number such as 1e-5"),
        ({"extra": {"radius": -1.0}}, "radius is -1.0; expected 0 or more"),
        ({"layers": [{"side": 2}, {"side": 2.5}]}, "layers.1.side is 2.5; expected a whole number"),
        ({"layers": {"side": 2}}, "layers is {'side': 2}; expected a list"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(ConfigError) as caught:
        from_plain(Picture, to_plain(PICTURES[0]) | changes, where="p.json")
    assert message in str(caught.value)


def test_all_keys_are_demanded_or_only_those_without_a_default():
    with pytest.raises(ConfigError, match=r"p\.json: missing shape, extra, layers"):
        from_plain(Picture, {"name": "a"}, where="p.json")
    assert from_plain(Picture, {"name": "a"}, where="p.json", complete=False) == Picture(name="a")
    with pytest.raises(DataError, match=r"p\.json: missing name$"):
        from_plain(Picture, {}, where="p.json", complete=False, error=DataError)
    with pytest.raises(ConfigError, match=r"p\.json is \[\]; expected keys and values"):
        from_plain(Picture, [], where="p.json")


def test_whole_numbers_become_floats_where_these_are_asked_for():
    radius = from_plain(Round, {"radius": 2}, where="p.json").radius
    assert (radius, type(radius)) == (2.0, float)


def test_settings_are_read_by_the_type_of_their_field():
    changed = apply_settings(
        PICTURES[0],
        ["range=1e-5, 2", "weights=x:1,y : 0.5", "colour=blue", "visible=False", "grids=none"],
    )
    assert changed == Picture(
        name="a", range=(1e-5, 2.0), weights={"x": 1.0, "y": 0.5}, colour="blue", visible=False
    )
    assert apply_settings(PICTURES[0], ["name=none"]).name == "none"
    assert apply_settings(Square(), ["side=1_000"]) == Square(side=1000)
    with pytest.raises(DataError, match="--limit: no key 'sid'; did you mean 'side'"):
        apply_settings(Square(), ["sid=1"], where="--limit", error=DataError)


def test_settings_are_sorted_by_the_dataclass_that_has_them():
    assert split_settings(["side=1", "radius=2"], Round, Square) == [["radius=2"], ["side=1"]]
    with pytest.raises(ConfigError, match="--set side has no value; write it as key=value"):
        split_settings(["side"], Square)


def test_values_go_by_dotted_names():
    nested = {"a": {"b": 1, "c": {"d": [2]}}, "e": {}}
    assert list(flatten(nested)) == [("a.b", 1), ("a.c.d", [2])]


def test_a_known_key_passes():
    check_key("a", ["a", "b"], where="here")


def test_torch_and_pillow_are_not_loaded():
    code = "import sys, onevision.config, onevision.values, onevision.files as f; " \
           "assert not {'torch', 'PIL', 'numpy'} & set(sys.modules)"  # fmt: skip
    subprocess.run([sys.executable, "-c", code], check=True)
