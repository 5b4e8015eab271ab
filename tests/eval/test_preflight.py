"""Mistakes of a task file are found before a question is asked."""

import pytest
import yaml

from onevision.errors import DataError
from onevision.eval.assemble import TaskQuestions
from onevision.eval.preflight import check_questions
from onevision.eval.rows import open_rows
from onevision.eval.task import bundled_tasks
from tests.cli.invoke import fail


@pytest.mark.parametrize(
    ("changes", "judged", "said"),
    [
        ({"metric": "exact_math"}, False, "`metric` is 'exact_math', which scorer 'exact_match'"),
        ({"unit": "questin"}, False, "`unit` is 'questin'.*; did you mean 'question'"),
        ({"submission": {"id": "key"}}, False, "`submission.id` is 'key', a field that the row"),
        ({"scorer": "anls"}, False, "no field 'answers'; it has answer"),
        ({"scorer": "mme"}, False, "no field 'category'"),
        ({"where": {"answer": ("blue",)}}, False, "`where` selects none of 4 rows"),
        ({"judge": "live_bench"}, True, "no field criteria"),
        ({"judge": "llava_bench"}, True, "no field category"),
    ],
)
def test_a_mistake_is_found_with_the_first_row(make_task, colours, changes, judged, said):
    questions = TaskQuestions(open_rows(make_task(**changes), str(colours)))
    with pytest.raises(DataError, match=f"task 'colours'.*{said}"):
        check_questions(questions, judged=judged)


def test_a_right_task_passes_whatever_its_first_picture(make_task, colours):
    (colours / "colours" / "0.png").write_bytes(b"no picture")
    for changes in ({}, {"judge": "dc100"}, {"unit": "answer"}):
        task = make_task(**changes)
        check_questions(TaskQuestions(open_rows(task, str(colours))), judged=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scorer": "exact_mtch"}, "no scorer 'exact_mtch'; did you mean 'exact_match'"),
        ({"judge": "mmvt"}, "no judge 'mmvt'; did you mean 'mmvet'"),
        ({"metric": "accuracy"}, "`metric` is 'accuracy'"),
        ({"prompt": "{questn}"}, "field 'questn': it is missing"),
        ({"images": ["picture"]}, "field 'picture': it is missing"),
    ],
)
def test_the_command_stops_before_it_asks(colours, tmp_path, changes, said):
    task = {"title": "Colours", "groups": [], "dataset": "somebody/colours", "split": "test",
            "images": ["image"], "prompt": "{question}", "scorer": "exact_match"}  # fmt: skip
    (tmp_path / "colours.yaml").write_text(yaml.safe_dump(task | changes))
    message = fail("eval", "--tasks", tmp_path / "colours.yaml", "--data", colours, "-o",
                   tmp_path / "out")  # fmt: skip
    assert said in message
    assert not list(tmp_path.rglob("answers.jsonl"))


@pytest.mark.parametrize(
    "command",
    [
        ("eval", "--tasks", "mmbensh_en_dev", "-o", "x"),
        ("eval", "--tasks", "zzzzzz", "-o", "x"),
        ("eval", "--scenario", "single"),
        ("synth", "preview", "-f", "marx"),
        ("report", "--beside", "9b"),
    ],
)
def test_no_error_lists_a_hundred_names(command):
    message = fail(*command)
    assert message.count(",") <= 12
    assert len(message) < 250


def test_the_closest_names_are_offered():
    assert "did you mean 'mmbench_en_dev'" in fail("eval", "--tasks", "mmbensh_en_dev", "-o", "x")
    assert len(bundled_tasks()) > 90
