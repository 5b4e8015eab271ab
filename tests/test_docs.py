"""What the documentation names exists: files, tests, modules, commands, options, links."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from onevision.cli import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        ROOT / "onevision" / "mixtures" / "README.md",
        ROOT / "integrations" / "lmms_eval" / "README.md",
    )
)
# Past versions name what existed then.
HISTORY = ("CHANGELOG.md", "docs/log.md")
CURRENT = [document for document in DOCUMENTS if document not in HISTORY]
# Names that CONTRIBUTING.md forbids.
FORBIDDEN = ("utils.py", "common.py", "helpers.py")
FOLDERS = ("onevision", "tests", "docs", "benchmarks", "deploy", "integrations")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:^|[$;&|] |/|-m )onevision (?=[a-z-])(.*)")


def _read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def _inline_code(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


def _blocks(text: str, *, python: bool) -> list[str]:
    return [block for language, block in FENCE.findall(text) if (language == "python") == python]


def _lines_of_code(text: str) -> list[str]:
    """Return shell lines and inline code, with continuation lines joined and comments removed."""
    joined = "\n".join(_blocks(text, python=False)).replace("\\\n", " ")
    return [re.sub(r"\s#.*", "", line) for line in (*joined.splitlines(), *_inline_code(text))]


def _existing() -> tuple[set[str], set[str]]:
    """Return all files, and the name of every test function."""
    files, tests = set[str](), set[str]()
    for folder in (*FOLDERS, "runs"):
        files.add(folder)
        for path in (ROOT / folder).rglob("*"):
            files.add(path.relative_to(ROOT).as_posix())
    for path in (ROOT / "tests").rglob("test_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = (n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))
        tests |= {name for name in names if name.startswith("test_")}
    return files, tests


FILES, TESTS = _existing()


def _is_file(name: str) -> bool:
    """Whether `name` is the path of a file or directory, or the end of one.

    It may hold `*`, and NAME or GROUP for what a reader chooses.
    """
    pattern = re.escape(re.sub(r"\b(NAME|GROUP)\b", "*", name.rstrip("/"))).replace(r"\*", "[^/]*")
    pattern = re.compile("(?:.*/)?" + pattern)
    return any(pattern.fullmatch(path) for path in FILES)


def _missing_paths(text: str) -> Iterator[str]:
    for code in _inline_code(text):
        name = code.split()[-1] if code.startswith("python ") else code
        if name in FORBIDDEN or not re.fullmatch(r"[\w./*-]+", name):
            continue
        is_path = name.split("/")[0] in FOLDERS and "/" in name
        if (is_path or re.search(r"\w\.(py|sh)$", name)) and not _is_file(name):
            yield name


def _missing_tests(text: str) -> Iterator[str]:
    for name in re.findall(r"`(test_\w+\*?)`", text):
        wanted = re.compile(name.replace("*", r"\w*"))
        if not any(wanted.fullmatch(known) for known in TESTS):
            yield name


@pytest.mark.parametrize("document", CURRENT)
def test_files_and_tests_exist(document):
    text = _read(document)
    assert not [*_missing_paths(text), *_missing_tests(text)]


@pytest.mark.parametrize("document", CURRENT)
def test_modules_and_what_is_imported_from_them_exist(document):
    text = _read(document)
    for name in re.findall(r"python -m (benchmarks\.\w+)", text):
        assert _is_file(f"{name.replace('.', '/')}.py"), name
    for name in re.findall(r"`(onevision(?:\.[a-z]\w*)+)`", text):
        if name.endswith(".yaml"):
            continue
        importlib.import_module(name)
    for block in _blocks(text, python=True):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("onevision"):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    assert getattr(module, alias.name, None) is not None, alias.name


def _problem(arguments: list[str]) -> str | None:
    """Return what is wrong with the arguments of a documented `onevision` command."""
    command = typer.main.get_command(app)
    path = "onevision"
    while isinstance(command, TyperGroup):
        if not arguments or arguments[0].startswith("-"):
            break
        name = arguments.pop(0)
        if name not in command.commands:
            return f"{path} has no command {name}"
        command, path = command.commands[name], f"{path} {name}"
    known = {"-h", "--help"}
    for parameter in command.params:
        known |= {*parameter.opts, *parameter.secondary_opts}
    for argument in arguments:
        option = re.match(r"--?[a-z][a-z-]*", argument)
        if option and option[0] not in known:
            return f"{path} has no option {option[0]}"
    return None


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_and_their_options_exist(document):
    problems = []
    for line in _lines_of_code(_read(document)):
        for found in COMMAND.finditer(line.strip()):
            problem = _problem(found[1].split())
            problems += [f"{problem}: {line.strip()}"] if problem else []
    assert not problems


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_targets_exist(document):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in _lines_of_code(_read(document)):
        found = re.match(r"(?:\$ )?make ([a-z-]+)$", line.strip())
        assert found is None or found[1] in targets, line


def _anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_resolve(document):
    text = FENCE.sub("", _read(document))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def test_what_does_not_exist_is_found():
    assert list(_missing_paths("`onevision/none.py`, `none.py`, `model/` and `onevision/`")) == [
        "onevision/none.py",
        "none.py",
    ]
    assert list(_missing_tests("`test_no_such_thing`, `test_links_*`")) == ["test_no_such_thing"]
    assert _problem(["asks"]) == "onevision has no command asks"
    assert (
        _problem(["data", "check", "--shallow"]) == "onevision data check has no option --shallow"
    )
    assert _problem(["eval", "--tasks", "list"]) is None
