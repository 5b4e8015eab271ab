"""The rules of ARCHITECTURE.md that a machine can check: who may do what, and how large it gets."""

import ast
import re
from pathlib import Path

import pytest

import onevision

PACKAGE = Path(onevision.__file__).parent
ARCHITECTURE = PACKAGE.parent / "ARCHITECTURE.md"
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_ROOM_FILES = 300, 60, 28

# Modules that open connections or listen for them, and the files that may import each.
NETWORK = {
    "fsspec": {"data/remote/store.py", "train/saving/place.py"},
    "http.client": {"serve/fetch.py", "endpoint.py"},
    "http.server": {"cli/data/commands.py"},
    "huggingface_hub": {
        "checkpoint/hub.py",
        "checkpoint/hub_cache.py",
        "cli/doctor.py",
        "eval/rows.py",
    },
    "ray": {"curate/shards/ray_run.py"},
    "socket": {
        "cli/port.py", "curate/shards/ray_run.py", "serve/fetch.py",
        "generate/parallel/processes.py",
        "inputs/zygote.py", "inputs/zygote_main.py", "inputs/sandbox_probe.py",
    },
    "ssl": {"serve/fetch.py"},
    "urllib.request": {"endpoint.py"},
}  # fmt: skip
# Calls that decode media or unpickle, and the files that may make them.
CALLS = {
    "Image.open": {"inputs/media.py"},
    "torch.load": {"checkpoint/unpickle.py"},
}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def imported(tree):
    """Every module that a tree imports, parents included: "http.client", "http"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:n]) for n in range(1, len(parts) + 1))


def called(tree):
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


@pytest.mark.parametrize("module", NETWORK)
def test_only_these_files_use_the_network(module):
    assert {name for name, tree in modules() if module in imported(tree)} == NETWORK[module]


def test_the_files_that_use_the_network_are_listed_in_the_architecture():
    text = ARCHITECTURE.read_text(encoding="utf-8")
    missing = {name for names in NETWORK.values() for name in names if f"`{name}`" not in text}
    assert not missing


@pytest.mark.parametrize("call", CALLS)
def test_only_these_files_make_the_call(call):
    assert {name for name, tree in modules() if call in called(tree)} == CALLS[call]


def test_no_file_is_too_long():
    lengths = {
        path.relative_to(PACKAGE).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert {n: lines for n, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_no_room_is_crowded():
    rooms = [path for path in (PACKAGE, *PACKAGE.rglob("*")) if path.is_dir()]
    sizes = {str(room.relative_to(PACKAGE)): len(list(room.glob("*.py"))) for room in rooms}
    assert {room: size for room, size in sizes.items() if size > MAX_ROOM_FILES} == {}


def test_no_function_is_too_long():
    long = [
        f"{name}:{node.name} has {lines} lines"
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert not long


def test_the_architecture_draws_every_room():
    text = ARCHITECTURE.read_text(encoding="utf-8")
    rooms = [path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()]
    assert {room for room in rooms if f"  {room}/" not in text} == set()


def test_the_architecture_draws_every_file_of_the_main_rooms():
    text = ARCHITECTURE.read_text(encoding="utf-8")
    tree = set(
        re.findall(r"\w+", text[text.index("## Rooms") : text.index("## Imports point down")])
    )
    rooms = (
        "",
        "inputs",
        "model",
        "accelerate",
        "generate",
        "checkpoint",
        "data",
        "train",
        "serve",
    )
    files = [path for room in rooms for path in (PACKAGE / room).glob("*.py")]
    assert {path.stem for path in files if not path.stem.startswith("__")} - tree == set()
