"""docs/, pages from elsewhere in the repository, and what is generated from the code -> the site.

mkdocs calls `on_files` and `on_page_markdown`. Pages keep links that work on GitHub; here they are
translated to the site's own. A link to a file that is no page becomes its text.
"""

import posixpath
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[2]
# Pages of the site that are not in docs/, by their path in the repository.
ELSEWHERE = {
    "README.md": "overview.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "onevision/mixtures/README.md": "mixtures.md",
    "onevision/assets/tiny/README.md": "tiny.md",
    "integrations/lmms_eval/README.md": "lmms-eval.md",
}
# A fenced block or a span of code, which are left alone; or a link, with its text and target.
CODE_OR_LINK = re.compile(
    r"(?P<code>^ *```.*?^ *```|`[^`\n]+`)|\[(?P<text>(?:`[^`]*`|[^\]`])*)\]\((?P<target>[^)\s]+)\)",
    re.MULTILINE | re.DOTALL,
)
# The public Python API, by headings.
API: Mapping[str, tuple[str, ...]] = {
    "Load and ask": (
        "onevision.generate.answer.load",
        "onevision.generate.answer.Model",
        "onevision.conversation",
    ),
    "From a conversation to logits": (
        "onevision.inputs.processor.Processor",
        "onevision.batch.ModelInputs",
        "onevision.model.llava.LlavaNetwork",
        "onevision.anyres",
        "onevision.config",
    ),
    "Checkpoints": ("onevision.checkpoint.load", "onevision.checkpoint.save"),
    "Training data": (
        "onevision.data.mixture.open_mixture",
        "onevision.data.samples.SampleReader",
        "onevision.data.planner.make_plan",
        "onevision.data.order.Order",
        "onevision.data.packs.pack",
        "onevision.data.loader.Loader",
    ),
    "Evaluation": ("onevision.eval.benchmark.run_task", "onevision.eval.judging.judge.Judge"),
    "Errors": ("onevision.errors",),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages, the notebooks, and pages from outside docs/."""
    pages = {
        "reference/commands.md": describe_commands(),
        "reference/python.md": describe_api(),
    }
    for source, page in ELSEWHERE.items():
        pages[page] = (ROOT / source).read_text(encoding="utf-8")
    for notebook in sorted((ROOT / "examples").glob("*.ipynb")):
        pages |= convert_notebook(notebook)
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(
    markdown: str,
    page: Page,
    config: MkDocsConfig,  # noqa: ARG001 - mkdocs gives it by name
    files: Files,
) -> str:
    """Translates links between files of the repository into links between pages."""
    name = page.file.src_uri
    sources = {target: path for path, target in ELSEWHERE.items()}
    source = sources.get(name, name if name.startswith("examples/") else f"docs/{name}")
    folder = posixpath.dirname(source)

    def translate(found: re.Match[str]) -> str:
        target, _, anchor = (found["target"] or "").partition("#")
        if found["code"] or not target or re.match(r"[a-z]+:", target):
            return found[0]
        path = posixpath.normpath(posixpath.join(folder, target))
        place = ELSEWHERE.get(path, path.removeprefix("docs/").replace(".ipynb", ".md"))
        if files.get_file_from_path(place) is None:
            return found["text"] if (ROOT / path).exists() else found[0]
        link = posixpath.relpath(place, posixpath.dirname(name) or ".")
        return f"[{found['text']}]({link}{'#' + anchor if anchor else ''})"

    return CODE_OR_LINK.sub(translate, markdown)


def describe_commands() -> str:
    """Returns every command with its arguments and options, as typer documents them."""
    command = [sys.executable, "-m", "typer", "onevision.cli", "utils", "docs"]
    done = subprocess.run(
        [*command, "--name", "onevision", "--title", "Commands"],
        check=True, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    return done.stdout


def describe_api() -> str:
    """Returns the page that mkdocstrings fills with docstrings."""
    lines = ["# Python", "", "`from onevision import load, Conversation, Message, Text, Image`."]
    for title, names in API.items():
        lines += ["", f"## {title}", *(f"\n::: {name}" for name in names)]
    return "\n".join((*lines, ""))


def convert_notebook(path: Path) -> dict[str, str | bytes]:
    """Returns a notebook as a page, and its pictures, by their paths in the site."""
    notebook = nbformat.read(path, as_version=4)
    text, resources = MarkdownExporter().from_notebook_node(notebook)
    pages: dict[str, str | bytes] = {f"examples/{path.stem}.md": text}
    for name, content in resources["outputs"].items():
        unique = f"{path.stem}-{name}"
        pages[f"examples/{unique}"] = content
        text = text.replace(f"({name})", f"({unique})")
    return pages | {f"examples/{path.stem}.md": text}
