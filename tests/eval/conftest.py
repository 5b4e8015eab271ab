"""Small data sets of the benchmarks' shapes, and the embedded model."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as PIL

from onevision import load
from onevision.checkpoint.save import save
from onevision.eval.task import Task
from onevision.generate.answer import Model
from onevision.model.llava import LlavaNetwork
from tests.conftest import randomise

COLOURS = ("white", "black", "red", "green")
QUESTION = "What colour is the background?"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def tiny() -> Model:
    return load("tiny")


@pytest.fixture(scope="session")
def micro(tmp_path_factory, micro_config, tokenizer) -> Model:
    """A random model that answers in milliseconds, each picture otherwise."""
    path = tmp_path_factory.mktemp("models") / "micro"
    save(randomise(LlavaNetwork(micro_config)), micro_config, tokenizer, path)
    return load(path)


def encoded(colour: str, *, size: tuple[int, int] = (98, 98)) -> bytes:
    """A picture of one colour as PNG."""
    buffer = io.BytesIO()
    PIL.new("RGB", size, colour).save(buffer, format="PNG")
    return buffer.getvalue()


def write_json(path: Path, rows: list[dict]) -> None:
    """Rows as a JSON array or as JSON lines, by the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_parquet(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)


@pytest.fixture
def make_task() -> Callable[..., Task]:
    """A task about one image a row, with some fields replaced."""

    def make(**changes) -> Task:
        values = {
            "name": "colours",
            "title": "Colours",
            "groups": (),
            "dataset": "somebody/colours",
            "split": "test",
            "images": ("image",),
            "prompt": "{question}",
            "max_new_tokens": 4,
            "scorer": "exact_match",
        } | changes
        return Task(**values)

    return make


@pytest.fixture
def colours(tmp_path) -> Path:
    """A folder with four questions about the colour of a background, as JSON lines."""
    rows = []
    for number, colour in enumerate(COLOURS):
        (tmp_path / "data" / "colours").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "colours" / f"{number}.png").write_bytes(
            encoded(colour, size=(60 + 10 * number, 98))
        )
        rows.append(
            {"question": QUESTION + " " * number, "answer": colour, "image": f"{number}.png"}
        )
    write_json(tmp_path / "data" / "colours" / "test.jsonl", rows)
    return tmp_path / "data"
