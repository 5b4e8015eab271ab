import pytest

from onevision.eval.heldout import HeldoutResult, heldout_questions
from onevision.eval.scoring.text import exact_match


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("red", "red", True),
        ("Red.", "red", True),
        ("  red   circle ", "red circle", True),
        ("dark red", "red", False),
        ("", "red", False),
        ("3", "three", False),
    ],
)
def test_exact_match(answer, expected, right):
    assert exact_match(answer, expected) is right


def test_a_result_counts_by_family():
    items = tuple(heldout_questions("single_image", count=20))
    answers = tuple(i.question.answer if n % 2 else "wrong" for n, i in enumerate(items))
    result = HeldoutResult(scenario="single_image", blind=False, items=items, answers=answers)
    assert result.accuracy == 0.5
    families = result.by_family()
    assert sum(asked for _, asked in families.values()) == 20
    assert sum(right for right, _ in families.values()) == 10
    assert sum(bool(record["right"]) for record in result.records()) == 10
