import re
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image as PIL

from onevision.errors import InputError
from onevision.eval.report.comparison import compare, published_models, published_rows, read_results
from onevision.eval.report.page import markdown, page, write_report
from onevision.eval.report.plots import plot_bars, plot_radar, rows_for, styles
from tests.eval.runs import write_result, write_run


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "mine")


def cells(table, title):
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {title} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_figures_stand_beside_the_papers(run):
    table = markdown(compare([run], beside=("0.5b", "gpt-4o")))
    assert table.startswith("|  | mine | LLaVA-OV 0.5B | GPT-4o |\n| --- | ---: | ---: | ---: |\n")
    assert cells(table, "AI2D") == ["**61.6 [58.5, 64.7]**", "57.1", "94.2"]
    assert cells(table, "MMMU") == ["**36.1**", "31.4", "69.1"]
    assert cells(table, "VideoChatGPT") == ["**3.62**", "3.12", "-"]
    assert "DocVQA" not in table


def test_one_task_may_have_several_figures_and_the_interval_is_the_headlines(run):
    table = markdown(compare([run], beside=("7b",)))
    assert cells(table, "MME perception") == ["**1475**", "1580"]
    assert cells(table, "MME cognition") == ["**225**", "418"]


def test_tasks_the_paper_lacks_come_last(run):
    comparison = compare([run])
    assert [group for group, _ in comparison.groups()] == [
        "single-image", "multi-image", "video", "other",
    ]  # fmt: skip
    assert comparison.rows[-1].title == "rooms"


def test_runs_of_one_model_are_told_apart_by_their_directories(tmp_path):
    for name, score in (("first", 50), ("second", 60)):
        write_result(tmp_path / name, "ai2d", score, model="tiny")
    table = markdown(compare([tmp_path / "first", tmp_path / "second"], beside=()))
    assert table.splitlines()[0] == "|  | tiny (first) | tiny (second) |"
    assert cells(table, "AI2D") == ["**50.0**", "**60.0**"]


def test_without_runs_the_papers_tables_are_shown():
    comparison = compare([], beside=tuple(published_models()))
    assert len(comparison.rows) == len(published_rows()) == 52
    table = markdown(comparison)
    assert cells(table, "MuirBench") == [
        "22.7",
        "25.5",
        "32.7",
        "41.8",
        "33.2",
        "54.8",
        "62.3",
        "-",
    ]
    assert cells(table, "LLaVA-W")[-1] == "106.1"


def test_published_figures_are_within_their_scale_and_of_known_models():
    for row in published_rows().values():
        assert row.scores.keys() <= published_models().keys()
        assert all(0 <= score <= row.most for score in row.scores.values()), row.title
        assert row.group in ("single-image", "multi-image", "video")
        assert row.table in (3, 4, 5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"headline": "other"}, "headline 'other' is none of score"),
        ({"metrics": {"score": "high"}}, "expected names with finite numbers"),
        ({"metrics": {"score": float("nan")}}, "expected names with finite numbers"),
        ({"interval": [3, 2]}, "interval is .*; expected .low, high. or null"),
        ({"interval": 5}, "interval is 5"),
    ],
)
def test_results_that_cannot_be_used_are_named(tmp_path, changes, message):
    path = write_result(tmp_path, "ai2d", 50, **changes)
    with pytest.raises(InputError, match=f"{re.escape(str(path))}: .*{message}"):
        read_results(tmp_path)


def test_mistakes_about_runs_are_named(tmp_path):
    with pytest.raises(InputError, match=r"no results\.json there"):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(InputError, match="lacks task, metrics"):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        read_results(tmp_path)
    write_result(tmp_path / "two", "ai2d", 1)
    write_result(tmp_path / "two" / "again", "ai2d", 1)
    with pytest.raises(InputError, match="task ai2d is in .* too"):
        read_results(tmp_path / "two")
    write_result(tmp_path / "mixed", "ai2d", 1, model="a")
    write_result(tmp_path / "mixed", "mmvet", 1, model="b")
    with pytest.raises(InputError, match="holds results of a, b; expected one model"):
        compare([tmp_path / "mixed"])
    with pytest.raises(InputError, match="'8b' is not published; expected some of 0.5b-si"):
        compare([], beside=("8b",))


def test_more_models_than_colours_are_refused(tmp_path):
    runs = [tmp_path / str(number) for number in range(4)]
    for run in runs:
        write_result(run, "ai2d", 50)
    with pytest.raises(InputError, match="9 models in one plot; expected 8 at most"):
        styles(compare(runs))


def test_bars_are_as_long_as_their_figures(run):
    comparison = compare([run], beside=("7b",))
    axes = Figure().subplots()
    plot_bars(axes, comparison.rows, comparison)
    lengths = [bar.get_width() for bar in axes.patches]
    shares = [61.62, 50.9, 36.1, 25.2, 71.3]
    assert {round(share / 100, 4) for share in shares} <= {round(one, 4) for one in lengths}
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [row.title for row in comparison.rows]
    assert [bar.get_y() for bar in axes.patches] == sorted(bar.get_y() for bar in axes.patches)


def test_a_radar_has_a_spoke_for_each_row_of_several_models(run):
    comparison = compare([run], beside=("7b", "gpt-4o"))
    rows = rows_for("radar", comparison.rows)
    axes = Figure().add_subplot(projection="polar")
    plot_radar(axes, rows, comparison)
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
    write_result(tmp_path / "a", "<script>", 50, model="<b>|", settings={"x": "<i>"})
    comparison = compare([tmp_path / "a"])
    made = page(comparison)
    assert not re.search("<script>|<b>|<i>", made)
    assert "&lt;script&gt;" in made
    assert "| <b>\\| |" in markdown(comparison)
