"""Answers on the disk -> figures."""

import json

import pytest

from onevision.errors import DataError
from onevision.eval.answers import AnswerFiles
from onevision.eval.compare import compare_runs, find_runs
from onevision.eval.figures import score_answers
from onevision.eval.judging.panel import Panel
from onevision.eval.results import read_result
from onevision.eval.task import bundled_tasks
from tests.eval.judge_server import serve
from tests.eval.test_judge_run import make_judge

MODEL = {"name": "micro", "fingerprint": "f", "dtype": "torch.float32"}
DATA = {"place": "data", "files": ["colours.jsonl"], "bytes": [9]}


def write(place, task, answers, items):
    """A run as it is on the disk."""
    files = AnswerFiles(place)
    settings = {"task": task.plain(), "profile": "p24", "seed": 0, "model": MODEL, "data": DATA}
    files.begin(settings)
    rows = zip(range(len(answers)), answers, items, strict=True)
    base = {"prompt": "?", "finish_reason": "stop", "seconds": 0.5}
    files.add([base | {"row": r, "answer": a, "item": item} for r, a, item in rows])
    return files


def expected(*answers, **more):
    return [{"answer": answer} | {k: v[n] for k, v in more.items()}
            for n, answer in enumerate(answers)]  # fmt: skip


def test_results_hold_the_figure_its_interval_and_what_was_asked(make_task, tmp_path):
    files = write(tmp_path, make_task(), ["a", "b", "x", "d"], expected("a", "b", "c", "d"))
    result = score_answers(files, complete=True)
    assert result == read_result(tmp_path / "results.json")
    assert (result.metrics, result.unit) == ({"exact_match": 0.75}, "fraction")
    headline = result.headline
    assert (headline.metric, headline.value, headline.level) == ("exact_match", 0.75, 0.95)
    assert headline.low < 0.75 < headline.high == 1
    assert (result.num_answers, result.complete, result.seconds) == (4, True, 2.0)
    assert {"torch", "onevision"} <= set(result.versions)
    assert result.settings["prompt"] == "{question}"
    scores = [line["score"] for line in files.scores().values()]
    assert scores == [1, 1, 0, 1]


def test_scoring_again_keeps_whether_all_rows_were_asked(make_task, tmp_path):
    files = write(tmp_path, make_task(), ["a"], expected("a"))
    assert score_answers(files).complete is False
    assert score_answers(files, complete=True).complete is True
    assert score_answers(files).complete is True


def test_questions_of_a_unit_are_drawn_together(make_task, tmp_path):
    items = expected(*"aaaaaaaa", image=[n // 4 for n in range(8)])
    answers = list("aaaaxxxx")
    apart = score_answers(write(tmp_path / "apart", make_task(), answers, items)).headline
    together = score_answers(
        write(tmp_path / "unit", make_task(unit="image"), answers, items)
    ).headline
    assert (apart.num_units, together.num_units) == (8, 2)
    assert (together.low, together.high) == (0, 1)
    assert apart.low > 0


def test_a_unit_may_be_a_remainder(make_task, tmp_path):
    items = expected(*"abcd", index=[5, 1000005, 7, 2000007])
    files = write(tmp_path, make_task(unit="index % 1000000"), list("abcd"), items)
    assert score_answers(files).headline.num_units == 2


def test_a_judged_task_waits_for_its_judge(make_task, tmp_path):
    files = write(tmp_path, make_task(scorer=None, judge="mmvet"), ["a"], expected("a"))
    result = score_answers(files)
    assert (result.headline, result.metrics, result.needs_judge) == (None, {}, "mmvet")


def test_judged_answers_have_metrics_and_an_interval(make_task, tmp_path):
    items = expected("a", "b", question="??", capability=["ocr", "math"])
    files = write(tmp_path, make_task(scorer=None, judge="mmvet"), ["a", "b"], items)
    grades = iter(["1.0", "0.5"])
    with serve(lambda words: next(grades)) as server:
        result = score_answers(files, panel=Panel(judges=(make_judge(server, num_parallel=1),)))
    assert result.metrics["score"] == result.headline.value == 75
    assert (result.headline.low, result.headline.high) == (50, 100)
    assert (result.unit, result.needs_judge, result.judge.num_judged) == ("percent", None, 2)
    assert result == read_result(tmp_path / "results.json")


def test_without_a_readable_verdict_there_is_no_metric(make_task, tmp_path):
    task = make_task(scorer=None, judge="mmvet")
    files = write(tmp_path, task, ["a"], expected("a", question="?"))
    with serve(lambda words: "good") as server:
        result = score_answers(files, panel=Panel(judges=(make_judge(server),)))
        seeing = write(tmp_path / "b", make_task(scorer=None, judge="dc100"), ["a"], expected("a"))
        with pytest.raises(DataError, match="its judge sees the images; give their --data"):
            score_answers(seeing, panel=Panel(judges=(make_judge(server),)))
    assert (result.metrics, result.headline, result.needs_judge) == ({}, None, "mmvet")
    assert result.judge.num_unreadable == 1


def test_a_task_for_a_server_writes_its_submission(make_task, tmp_path):
    task = make_task(scorer=None, submission={"questionId": "id", "answer": "answer"})
    score_answers(write(tmp_path, task, ["yes", "no"], [{"id": 7}, {"id": 8}]))
    assert json.loads((tmp_path / "submission.json").read_text()) == [
        {"questionId": 7, "answer": "yes"},
        {"questionId": 8, "answer": "no"},
    ]


@pytest.mark.parametrize(
    ("changes", "item", "problem"),
    [
        ({"metric": "f1"}, {"answer": "a"}, "its scorer has no metric 'f1'; it has exact_match"),
        ({}, {"gold": "a"}, "row 0: .*answer"),
    ],
)
def test_what_cannot_be_scored_is_one_error(make_task, tmp_path, changes, item, problem):
    files = write(tmp_path, make_task(**changes), ["a"], [item])
    with pytest.raises(DataError, match=problem):
        score_answers(files)


def test_nothing_to_score_is_an_error(make_task, tmp_path):
    with pytest.raises(DataError, match=r"run.json: cannot be read .*; run the task first"):
        score_answers(AnswerFiles(tmp_path))
    with pytest.raises(DataError, match="no answers yet"):
        score_answers(write(tmp_path, make_task(), [], []))


def test_two_runs_are_compared_row_by_row(make_task, tmp_path):
    items = expected(*"abcdefghij")
    first = write(tmp_path / "a", make_task(), list("abcxxxxxxx"), items)
    second = write(tmp_path / "b", make_task(), list("xbcdefghij"), items)
    found = compare_runs(first, second)
    assert (found.task, found.metric, found.num_items) == ("colours", "exact_match", 10)
    assert (found.first, found.second) == (0.3, 0.9)
    assert found.difference.value == pytest.approx(0.6)
    assert 0 < found.difference.low < found.difference.high <= 1
    assert (found.mcnemar.only_first, found.mcnemar.only_second) == (1, 7)
    assert found.mcnemar.p == pytest.approx(2 * (1 + 8) / 256)


def test_only_rows_of_both_runs_count(make_task, tmp_path):
    first = write(tmp_path / "a", make_task(), list("abc"), expected(*"abc"))
    second = write(tmp_path / "b", make_task(), list("a"), expected(*"a"))
    found = compare_runs(first, second)
    assert (found.num_items, found.first, found.second) == (1, 1, 1)
    assert not (tmp_path / "a" / "scores.jsonl").exists(), "comparing writes nothing"


def test_runs_of_other_questions_are_not_compared(make_task, tmp_path):
    first = write(tmp_path / "a", make_task(), ["a"], expected("a"))
    second = write(tmp_path / "b", make_task(), ["a"], expected("b"))
    with pytest.raises(DataError, match="row 0 is another question"):
        compare_runs(first, second)
    other = write(tmp_path / "c", make_task(scorer="heldout"), ["a"], expected("a"))
    with pytest.raises(DataError, match="its scorer is not that of"):
        compare_runs(first, other)


def test_runs_are_found_in_their_folder_or_above_it(make_task, tmp_path):
    write(tmp_path / "all" / "one", make_task(name="one"), ["a"], expected("a"))
    write(tmp_path / "all" / "two", make_task(name="two"), ["a"], expected("a"))
    assert list(find_runs(tmp_path / "all")) == ["one", "two"]
    assert list(find_runs(tmp_path / "all" / "two")) == ["two"]
    with pytest.raises(DataError, match="no answers in it"):
        find_runs(tmp_path)


def test_mmes_images_are_drawn_whole(tmp_path):
    items = [
        {"question_id": f"{image}.png", "category": "count", "answer": answer}
        for image in range(6)
        for answer in ("Yes", "No")
    ]
    results = score_answers(
        write(tmp_path, bundled_tasks()["mme"], ["Yes", "No", "Yes", "Yes"] * 3, items)
    )
    headline = results.headline
    # Three images have both right (200), three one of two (50).
    assert (headline.metric, headline.value) == ("mme_perception_score", 125)
    assert headline.num_units == 6
    assert 50 <= headline.low < 125 < headline.high <= 200


def test_mmbenchs_rotations_are_drawn_with_their_question(tmp_path):
    items = [
        {"index": index + turn * 1_000_000, "answer": letter, "A": "cat", "B": "dog"}
        for index in range(8)
        for turn, letter in enumerate("AB")
    ]
    answers = ["A", "B"] * 4 + ["A", "A"] * 4
    headline = score_answers(
        write(tmp_path, bundled_tasks()["mmbench_en_dev"], answers, items)
    ).headline
    assert (headline.metric, headline.value, headline.num_units) == ("accuracy", 50, 8)
    assert 0 < headline.low < 50 < headline.high < 100


def test_a_mean_over_categories_is_no_mean_of_items(tmp_path):
    kinds = ["a"] * 9 + ["b"]
    items = expected(*("A" * 10), l2_category=kinds)
    headline = score_answers(
        write(tmp_path, bundled_tasks()["mmstar"], list("A" * 9 + "B"), items)
    ).headline
    assert (headline.metric, headline.value) == ("average", 0.5)
    assert headline.num_resamples == 1000
