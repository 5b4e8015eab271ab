"""RefCOCO's accuracy and pointing, by hand, and from rows to metrics through the door."""

import json

import pytest
from PIL import Image

from onevision.errors import DataError
from onevision.eval.assemble import TaskQuestions
from onevision.eval.rows import open_rows
from onevision.eval.scoring.registry import SCORERS
from onevision.eval.task import bundled_tasks
from tests.cli.conftest import run

SIZE = {"image_width": 200, "image_height": 100}
ROW = {"bbox": [50, 20, 100, 50]} | SIZE  # as shares: [0.25, 0.2, 0.75, 0.7]
REFCOCO, POINTING = SCORERS["refcoco"], SCORERS["pointing"]


@pytest.mark.parametrize(
    ("answer", "iou", "right", "centre"),
    [
        ("[0.25, 0.20, 0.75, 0.70]", 1.0, 1.0, 1.0),
        ("It is [0.25, 0.20, 0.50, 0.70], not [0.25, 0.20, 0.75, 0.70]", 0.5, 1.0, 1.0),
        ("[0.26, 0.20, 0.50, 0.70]", 0.48, 0.0, 1.0),
        ("[0.00, 0.80, 0.20, 0.90]", 0.0, 0.0, 0.0),
        ("[50, 20, 150, 70]", 0.0, 0.0, 0.0),
        ("on the left", 0.0, 0.0, 0.0),
    ],
)
def test_refcoco(answer, iou, right, centre):
    score = REFCOCO.score(answer, ROW)
    assert score["iou"] == pytest.approx(iou)
    assert (score["score"], score["centre"]) == (right, centre)


def test_refcoco_has_the_accuracy_at_every_threshold():
    answers = ("[0.25, 0.20, 0.75, 0.70]", "[0.25, 0.20, 0.50, 0.70]", "nowhere")
    metrics = REFCOCO.aggregate([REFCOCO.score(answer, ROW) for answer in answers])
    assert next(iter(metrics)) == "accuracy_0.5"
    assert metrics["accuracy_0.5"] == pytest.approx(2 / 3)
    assert metrics["accuracy_0.7"] == pytest.approx(1 / 3)
    assert metrics["iou"] == pytest.approx(0.5)
    assert metrics["answers_with_a_box"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("answer", "right"),
    [("[0.50, 0.50]", 1.0), ("[0.1, 0.1, 0.3, 0.3]", 1.0), ("[0.90, 0.50]", 0.0), ("here", 0.0)],
)
def test_pointing(answer, right):
    row = {"bbox": [0.1, 0.1, 0.6, 0.6], "data_type": "icon"}
    assert POINTING.score(answer, row) == {"score": right, "data_type": "icon"}


def test_pointing_by_kind():
    scores = [{"score": 1.0, "data_type": "icon"}, {"score": 0.0, "data_type": "text"}]
    assert POINTING.aggregate(scores) == {
        "pointing_accuracy": 0.5, "data_type/icon": 1.0, "data_type/text": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("bbox", [[1, 2, 3], "box", [50, 20, 0, 50], [50, 20, "a", 50]])
def test_a_box_that_is_none_is_named(bbox):
    with pytest.raises(DataError, match="field 'bbox' is "):
        REFCOCO.score("[0.1, 0.2, 0.3, 0.4]", ROW | {"bbox": bbox})


@pytest.fixture
def data(tmp_path):
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    row = {"question_id": "1", "image": "a.png", "bbox": [50, 20, 100, 50]}
    rows = [row | {"answer": ["left one", "a cat"]}, row | {"answer": ["dog"]}]
    path = tmp_path / "refcoco_val.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return tmp_path


def test_every_expression_of_a_row_is_a_question(data):
    questions = TaskQuestions(open_rows(bundled_tasks()["refcoco_val"], str(data)))
    posed = [questions.pose(number) for number in range(len(questions))]
    assert [question.item["answer"] for question in posed] == ["left one", "a cat", "dog"]
    assert posed[1].prompt.endswith("the region this sentence describes: a cat")
    assert posed[0].item["image_width"] == 200
    assert REFCOCO.score("[0.25, 0.20, 0.75, 0.70]", posed[0].item)["score"] == 1


def test_a_field_that_is_no_list_is_named(data):
    (data / "refcoco_val.jsonl").write_text(json.dumps({"image": "a.png", "answer": "cat"}) + "\n")
    questions = TaskQuestions(open_rows(bundled_tasks()["refcoco_val"], str(data)))
    with pytest.raises(DataError, match="field 'answer': it is 'cat'; expected a list"):
        len(questions)


def test_refcoco_from_the_command_to_the_metrics(data, tmp_path):
    output = tmp_path / "out"
    arguments = ("--tasks", "refcoco_val", "--data", str(data), "--output", str(output))
    assert run("eval", "--model", "tiny", *arguments).returncode == 0
    (results,) = output.rglob("results.json")
    found = json.loads(results.read_text())
    assert found["headline"]["metric"] == "accuracy_0.5"
    assert found["num_answers"] == 3
