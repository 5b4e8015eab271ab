"""Results -> the table beside the paper's, and its pages."""

import json
import re
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image as PIL

from onevision.errors import DataError, InputError
from onevision.eval.judging.registry import find_judged_benchmark
from onevision.eval.report.family import figure_source, published_tables
from onevision.eval.report.page import markdown, page, write_report
from onevision.eval.report.plots import plot_bars, plot_radar, rows_for, styles
from onevision.eval.report.table import (
    build_table,
    published_models,
    published_rows,
    read_results,
)
from onevision.eval.results import JudgeSummary, read_result
from onevision.eval.scoring.interleave import CATEGORIES
from onevision.eval.scoring.registry import SCORERS
from onevision.eval.scoring.yes_no import MME
from onevision.eval.task import bundled_tasks
from tests.eval.runs import task_result, write_run, write_task


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "mine")


def cells(table, title):
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {title} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_figures_stand_beside_the_papers_as_per_cent(run):
    table = markdown(build_table([run], beside=("0.5b", "gpt-4o")))
    assert table.startswith("|  | mine | LLaVA-OV 0.5B | GPT-4o |\n| --- | ---: | ---: | ---: |\n")
    assert cells(table, "AI2D") == ["**61.6 [58.5, 64.7]**", "57.1", "94.2"]
    assert cells(table, "MMMU") == ["**36.1 [33.0, 39.2]**", "31.4", "69.1"]
    assert "DocVQA" not in table


def test_one_task_may_have_several_figures_and_the_interval_is_the_headlines(run):
    table = markdown(build_table([run], beside=("7b",)))
    assert cells(table, "MME perception") == ["**1475 [1400, 1500]**", "1580"]
    assert cells(table, "MME cognition") == ["**225**", "418"]


def test_one_figure_may_be_the_mean_of_several_tasks(run, tmp_path):
    table = markdown(build_table([run], beside=("0.5b", "gpt-4o")))
    assert cells(table, "VideoChatGPT") == ["**3.50**", "3.12", "-"]  # (3 + 3.5 + 4 + 3 + 4) / 5
    judge = {"unit": "points"}
    write_task(tmp_path / "part", "videochatgpt_temporal", 3.0, **judge)
    table = markdown(build_table([tmp_path / "part"], beside=("0.5b",)))
    assert "| VideoChatGPT |" not in table
    assert cells(table, "videochatgpt_temporal") == ["**3.00 [3.00, 3.00]**", "-"]


def test_tasks_the_paper_lacks_come_last(run):
    table = build_table([run])
    assert [group for group, _ in table.groups()] == [
        "single-image", "multi-image", "video", "other",
    ]  # fmt: skip
    assert table.rows[-1].title == "rooms"
    assert not {"ai2d", "mme", "videochatgpt_generic"} & {row.title for row in table.rows}


def test_tasks_without_a_score_are_named(tmp_path):
    write_task(tmp_path / "a", "ai2d", 0.5, unit="fraction")
    waiting = {"metrics": {}, "headline": None, "unit": None, "needs_judge": "mmvet"}
    write_task(tmp_path / "a", "mmvet", 0, **waiting)
    table = markdown(build_table([tmp_path / "a"], beside=()))
    assert "* a: not scored yet: mmvet." in table
    assert "MM-Vet" not in table


def test_runs_of_one_model_are_told_apart_by_their_directories(tmp_path):
    for name, score in (("first", 0.5), ("second", 0.6)):
        write_task(tmp_path / name, "ai2d", score, model="tiny", unit="fraction")
    table = markdown(build_table([tmp_path / "first", tmp_path / "second"], beside=()))
    assert table.splitlines()[0] == "|  | tiny (first) | tiny (second) |"
    assert cells(table, "AI2D") == ["**50.0 [50.0, 50.0]**", "**60.0 [60.0, 60.0]**"]


def test_without_runs_the_papers_tables_are_shown():
    table = build_table([], beside=tuple(published_models()))
    assert len(table.rows) == len(published_rows()) == 53
    text = markdown(table)
    assert cells(text, "MuirBench") == [
        "22.7", "25.5", "32.7", "41.8", "33.2", "54.8", "62.3", "-",
    ]  # fmt: skip
    assert cells(text, "LLaVA-W")[-1] == "106.1"


def test_published_figures_are_within_their_scale_and_of_known_models():
    for row in published_rows().values():
        assert row.scores.keys() <= published_models().keys()
        assert all(0 <= score <= row.most for score in row.scores.values()), row.title
        assert row.group in ("single-image", "multi-image", "video")
        assert row.table in (1, 3, 4, 5)


def metrics_of(task):
    """The metrics of a task that a published row may name beside its headline, and their unit."""
    if task.scorer == "mme":
        score = MME.score("yes", {"category": "count", "answer": "Yes", "question_id": "1"})
        return set(MME.aggregate([score, score])), "points"
    if task.scorer is not None:
        own = {f"category/{name}" for name in CATEGORIES} if "interleave" in task.scorer else set()
        return own, SCORERS[task.scorer].unit
    judged = find_judged_benchmark(task.judge)
    grades = ("correctness", "detail", "context")
    metrics = judged.aggregate([dict.fromkeys(grades, 1.0)]) if "videochat" in task.judge else ()
    return set(metrics), judged.unit


def test_published_rows_name_figures_that_runs_have_or_say_why_not():
    for name, row in published_rows().items():
        assert bool(row.sources) != bool(row.absent), name
        for source in row.sources:
            metrics, unit = metrics_of(bundled_tasks()[source.task])
            assert source.metric is None or source.metric in metrics, name
            assert (unit == "points") == (row.most in (5, 800, 2000)), name


def test_results_are_read_as_they_are_written(tmp_path):
    path = write_task(tmp_path / "tiny", "ai2d", 0.5, interval=(0.4, 0.6), unit="fraction")
    result = read_result(path)
    assert result == task_result("ai2d", 0.5, interval=(0.4, 0.6), unit="fraction",
                                 model=result.model)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 1}, "format version 1, expected 2; score the answers again"),
        ({"metrics": {"other": 1}}, "the headline 'score' is not among the metrics other"),
        ({"metrics": {"score": "high"}}, "score.*'high'"),
        ({"metrics": {"score": float("nan")}}, "expected .* number"),
        ({"headline": 5}, "headline"),
        ({"surprise": 5}, "no key 'surprise'"),
    ],
)
def test_results_that_cannot_be_used_are_named(tmp_path, changes, message):
    path = write_task(tmp_path, "ai2d", 50)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(DataError, match=f"{re.escape(str(path))}: .*{message}"):
        read_results(tmp_path)


def test_mistakes_about_runs_are_named(tmp_path):
    with pytest.raises(InputError, match=r"no results\.json in it"):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(DataError, match="it is list; expected an object"):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        read_results(tmp_path)
    write_task(tmp_path / "two", "ai2d", 1)
    write_task(tmp_path / "two" / "again", "ai2d", 1)
    with pytest.raises(InputError, match="task ai2d is in .* too"):
        read_results(tmp_path / "two")
    write_task(tmp_path / "mixed", "ai2d", 1, model="a")
    write_task(tmp_path / "mixed", "mmvet", 1, model="b")
    with pytest.raises(InputError, match="holds results of a, b; expected one model"):
        build_table([tmp_path / "mixed"])
    with pytest.raises(InputError, match="'8b' is not published; expected one of 0.5b-si, 0.5b"):
        build_table([], beside=("8b",))


def test_more_models_than_colours_are_refused(tmp_path):
    runs = [tmp_path / str(number) for number in range(4)]
    for run in runs:
        write_task(run, "ai2d", 50)
    with pytest.raises(InputError, match="9 models in one plot; expected 8 at most"):
        styles(build_table(runs))


def test_bars_are_as_long_as_their_figures(run):
    table = build_table([run], beside=("7b",))
    axes = Figure().subplots()
    plot_bars(axes, table.rows, table)
    lengths = [bar.get_width() for bar in axes.patches]
    shares = [61.62, 50.9, 36.1, 25.2, 71.3]
    assert {round(share / 100, 4) for share in shares} <= {round(one, 4) for one in lengths}
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [row.title for row in table.rows]
    assert [bar.get_y() for bar in axes.patches] == sorted(bar.get_y() for bar in axes.patches)


def test_a_radar_has_a_spoke_for_each_row_of_several_models(run):
    table = build_table([run], beside=("7b", "gpt-4o"))
    rows = rows_for("radar", table.rows)
    axes = Figure().add_subplot(projection="polar")
    plot_radar(axes, rows, table)
    assert [label.get_text() for label in axes.get_xticklabels()] == [row.title for row in rows]
    gpt, _, mine, *_ = [line.get_ydata() for line in axes.get_lines()]
    ai2d = next(number for number, row in enumerate(rows) if row.title == "AI2D")
    assert mine[ai2d] == pytest.approx(0.6162)
    assert gpt[ai2d] == pytest.approx(0.942)
    assert np.isnan(gpt[[row.title for row in rows].index("MuirBench")])  # not published


def test_a_report_without_matplotlib_has_its_tables_and_says_so_once(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    heard = []
    made = write_report([run], tmp_path / "report", warn=heard.append)
    assert heard == [
        f"{made.parent} has no pictures: plots need matplotlib: pip install 'onevision[plots]'"
    ]
    assert sorted(path.name for path in made.parent.iterdir()) == ["report.html", "report.md"]
    assert "<th>AI2D" in made.read_text()


def test_four_files_are_written(run, tmp_path):
    made = write_report([run], tmp_path / "report")
    assert sorted(path.name for path in made.parent.iterdir()) == [
        "bars.png", "radar.png", "report.html", "report.md",
    ]  # fmt: skip
    for name in ("bars.png", "radar.png"):
        with PIL.open(made.parent / name) as picture:
            assert min(picture.size) > 300


def test_words_of_results_are_not_html(tmp_path):
    write_task(tmp_path / "a", "ai2d", 50, model="<b>|", versions={"x": "<i>"})
    write_task(tmp_path / "a", "other", 50, title="<script>", model="<b>|")
    table = build_table([tmp_path / "a"])
    made = page(table)
    assert not re.search("<script>|<b>|<i>", made)
    assert "&lt;script&gt;" in made
    assert "| <b>\\| |" in markdown(table)


# The family's tables


def test_a_run_stands_above_the_familys_recipes(tmp_path):
    """A run of MME alone has a row in the ladder to LLaVA-1.5; judging again has a deviation."""
    sums = {"mme_perception_score": 1475.2, "mme_cognition_score": 224.8}
    write_task(
        tmp_path / "mine", "mme", 1475.2, metric="mme_perception_score", metrics=sums, unit="points"
    )
    judge = JudgeSummary(model="gpt", num_judged=9, num_unreadable=0, std=0.3)
    grades = {"relative_score": 60.0, "relative_score/category/conv": 58.0}
    write_task(
        tmp_path / "mine", "llava_in_the_wild", 60.0, metric="relative_score", metrics=grades,
        judge=judge,
    )  # fmt: skip
    shown = markdown(build_table([tmp_path / "mine"]))
    _, _, ladder = shown.partition("## What each step from LLaVA to LLaVA-1.5 brings")
    assert cells(ladder, "mine") == ["**-**", "**1475.2**", "**-**"]
    assert cells(shown, "+ VQAv2") == ["47.0", "1197.0", "27.7"]
    assert "| mine | **58.0** | **-** | **-** | **60.0 ± 0.3** |" in shown
    assert cells(shown, "BLIP-2") == ["54.6 ± 1.4", "29.1 ± 1.2", "32.9 ± 0.7", "38.1 ± 1.0"]
    assert "ScienceQA by subject" not in shown


def test_without_runs_all_of_the_familys_tables_are_shown():
    shown = markdown(build_table([]))
    assert cells(shown, "LLaVA + GPT-4 (arbitrate)")[-1] == "92.53"
    assert cells(shown, "LLaVA 7B") == ["-"] * 8 + ["89.84"]
    assert shown.count("\n## ") == len(published_tables()) == 4


def test_columns_of_the_familys_tables_name_metrics_that_runs_have():
    """Of ScienceQA the test of its journey; of judges the registry; of MME its scorer."""
    heads = {
        "exact_match", "relative_score", "mme_perception_score", None,
        *(f"subject/{name} science" for name in ("natural", "social", "language")),
        "context/text", "context/image", "context/none", "grade/1-6", "grade/7-12",
        *(f"relative_score/category/{name}" for name in ("conv", "detail", "complex")),
    }  # fmt: skip
    for table in published_tables():
        for column in table.columns:
            source = figure_source(column)
            task = bundled_tasks()[source.task]
            assert source.metric in heads
            assert (source.metric or "").startswith("relative") <= (task.judge is not None)
