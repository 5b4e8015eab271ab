"""The size of the core, and the one place that opens pickles."""

import ast
from pathlib import Path

import onevision

PACKAGE = Path(onevision.__file__).parent
CORE = [
    *("anyres.py", "image_rules.py", "native.py"),
    *sorted(f"model/{path.name}" for path in (PACKAGE / "model").glob("*.py")),
]


def num_lines(name):
    return len((PACKAGE / name).read_text().splitlines())


def test_the_core_can_be_read_in_one_sitting():
    """Geometry and the model: the README gives their size."""
    assert sum(num_lines(name) for name in CORE) <= 1600
    assert sum(num_lines(name) for name in CORE if name.startswith("model/")) <= 1040


def test_pickles_are_opened_in_one_place_and_for_tensors_alone():
    """`onevision unpickle` is asked for by name; its module catches the unpickler's error."""
    place = PACKAGE / "checkpoint" / "unpickle.py"
    for path in set(PACKAGE.rglob("*.py")) - {place}:
        text = path.read_text()
        assert "torch.load" not in text, path
        assert "import pickle" not in text, path
    calls = [
        node
        for node in ast.walk(ast.parse(place.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).startswith(("torch.load", "pickle"))
    ]
    assert [ast.unparse(call.func) for call in calls] == ["torch.load"]
    assert {"weights_only": True} in [{k.arg: ast.literal_eval(k.value)} for k in calls[0].keywords]
