"""From a benchmark's rows to a page: two commands, with nothing hand-made in between."""

import json

import pytest

from tests.cli.conftest import run
from tests.eval.conftest import encoded, write_parquet
from tests.eval.judge_server import serve

DIAGRAM = {"question": "What colour is the background?", "options": ["red", "white", "blue"]}
WORDS = {"question": "Is the background white? Please answer yes or no.", "category": "color"}


def write_data(directory):
    """Write rows of AI2D, MME and ImageDC, each as the data set has them."""
    colours = {"white": "1", "red": "0", "blue": "2"}
    write_parquet(
        directory / "ai2d" / "test-00000-of-00001.parquet",
        [DIAGRAM | {"answer": a, "image": {"bytes": encoded(c)}} for c, a in colours.items()],
    )
    questions = [WORDS, WORDS | {"question": "Is the background red? Please answer yes or no."}]
    write_parquet(
        directory / "MME" / "data" / "test-00000-of-00001.parquet",
        [
            question | {"question_id": f"{c}.png", "answer": answer, "image": {"bytes": encoded(c)}}
            for c in ("white", "red")
            for question, answer in zip(
                questions, ("Yes", "No") if c == "white" else ("No", "Yes"), strict=True
            )
        ],
    )
    write_parquet(
        directory / "dc100_en.parquet",
        [{"question": "What colour is it?", "image": {"bytes": encoded(c)}} for c in colours],
    )


def cells(path, title):
    """The cells of a row of report.md."""
    (line,) = [row for row in path.read_text().splitlines() if row.startswith(f"| {title} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """A run of three tasks, scored twice, and its report."""
    root = tmp_path_factory.mktemp("walk")
    write_data(root / "data")
    out, tasks = root / "out", ("--tasks", "ai2d,mme,dc100_en")
    command = ["eval", "--data", root / "data", "--output", out, *tasks, "--judge"]
    with serve(lambda words: "Final Score: 41") as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONEVISION_CACHE", str(root / "cache"))
        patch.setenv("ONEVISION_JUDGE_MODEL", "rules")
        command.append(server.url)
        done = run(*command)
        assert (done.returncode, done.stderr) == (0, "")
        again = run(*command, "--score-only")
        requests = list(server.requests)
    made = run("report", out, "-o", root / "report", "--beside", "7b")
    assert (made.returncode, made.stderr) == (0, "")
    return {"out": out, "report": root / "report", "done": done, "again": again,
            "requests": requests}  # fmt: skip


def test_the_report_shows_the_numbers_of_the_run(walked):
    results = {
        name: json.loads((walked["out"] / name / "results.json").read_text())
        for name in ("ai2d", "mme", "dc100_en")
    }
    table, page = walked["report"] / "report.md", (walked["report"] / "report.html").read_text()
    shown = {
        "AI2D": ("ai2d", "exact_match", 100, 1, "81.4"),
        "MME perception": ("mme", "mme_perception_score", 1, 0, "1580"),
        "ImageDC": ("dc100_en", "score", 1, 1, "88.9"),
    }
    for title, (task, metric, scale, digits, published) in shown.items():
        result = results[task]
        headline = result["headline"]
        assert headline["metric"] == metric
        assert headline["value"] == result["metrics"][metric]
        value, low, high = (f"{scale * headline[k]:.{digits}f}" for k in ("value", "low", "high"))
        assert cells(table, title) == [f"**{value} [{low}, {high}]**", published]
        assert f"{value}<small>[{low}, {high}]</small>" in page
    assert cells(table, "MME cognition") == ["**0**", "418"]
    assert results["ai2d"]["model"]["fingerprint"] in page


def test_the_judge_sees_each_image_once_and_is_remembered(walked):
    assert len(walked["requests"]) == 3
    for request in walked["requests"]:
        image, _ = request["messages"][1]["content"]
        assert image["image_url"]["url"].startswith("data:image/png;base64,")
    assert "dc100_en: 3 answers, score 4" in walked["done"].stdout
    assert "judge rules: 3 queries, 0 remembered" in walked["done"].stdout
    assert "judge rules: 0 queries, 3 remembered" in walked["again"].stdout
