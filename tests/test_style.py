"""The size rules: small core, small functions."""

import ast
from pathlib import Path

import onevision

PACKAGE = Path(onevision.__file__).parent
CORE = (
    "anyres.py",
    "config.py",
    *(f"model/{n}.py" for n in ("vision", "projector", "visual_tokens", "decoder", "llava")),
)


def test_the_core_can_be_read_in_one_sitting():
    assert sum(len((PACKAGE / name).read_text().splitlines()) for name in CORE) <= 1150


def test_no_function_is_longer_than_60_lines():
    long = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > 60:
                    long.append(f"{path.name}:{node.name} has {lines} lines")
    assert not long


def test_no_pickle_is_ever_opened():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert "torch.load" not in text, path
        assert "import pickle" not in text, path
