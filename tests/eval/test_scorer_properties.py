"""What holds of every scorer, whatever a model says."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onevision.errors import DataError
from onevision.eval.scoring.choices import (
    LETTERS,
    extract_mcq_letter,
    find_first_option,
    find_last_option,
)
from onevision.eval.scoring.mmmu import find_candidates, open_match
from onevision.eval.scoring.registry import SCORERS
from onevision.eval.scoring.rouge import rouge_l
from onevision.eval.scoring.text import anls, edit_distance, exact_match
from onevision.eval.scoring.vqa import compute_soft_accuracy, process_answer

TEN = [{"answer": "cat", "answer_id": i} for i in range(10)]
FOUR = ["cat", "dog", "cow", "owl"]
LVB = {f"option{i}": option for i, option in enumerate([*FOUR, "N/A"])}

# scorer: (a right answer, its row)
RIGHT = {
    "a_okvqa_choice": ("B", {"choices": FOUR, "correct_choice_idx": 1}),
    "a_okvqa_direct": ("cat", {"direct_answers": ["cat"] * 10}),
    "ai2d": ("B", {"answer": "1"}),
    "anls": ("cat", {"answers": ["cat"]}),
    "blink": ("(B)", {"answer": "(B)", "choices": FOUR}),
    "chartqa": ("5", {"answer": "5", "type": "human_test"}),
    "egoschema": ("(B)", {"answer": "1", "option": [*FOUR, "ant"], "video_idx": "0"}),
    "exact_match": ("cat", {"answer": "cat"}),
    "gqa": ("cat", {"answer": "cat"}),
    "heldout": ("cat", {"answer": "cat"}),
    "interleave_bench": (
        "cat",
        {"answer": "cat", "sub_task": "IEdit", "question_type": "open-ended"},
    ),
    "interleave_bench_original": (
        "b",
        {"answer": "B", "sub_task": "BLINK", "question_type": "multi-choice"},
    ),
    "json": ('{"a": 1}', {"answer": {"a": 1}}),
    "longvideobench": ("B", {"id": "0", "correct_choice": 1, **LVB}),
    "longvideobench_now": ("B", {"id": "0", "correct_choice": 1, **LVB}),
    "mantis": ("B", {"answer": "B", "question_type": "multi-choice", "options": FOUR}),
    "mathvista": (
        "B",
        {"answer": "dog", "question_type": "multi_choice", "answer_type": "text", "choices": FOUR},
    ),
    "mcq": ("B", {"answer": "B"}),
    "mlvu": ("B", {"answer": "B", "task_type": "count"}),
    "mlvu_now": ("B", {"answer": "B", "task_type": "count"}),
    "mmbench": ("B", {"answer": "B", "index": 7, **dict(zip("ABCD", FOUR, strict=True))}),
    "mme": ("yes", {"answer": "Yes", "question_id": "0", "category": "count"}),
    "mmmu": (
        "B",
        {"id": "v_Math_1", "question_type": "multiple-choice", "options": FOUR, "answer": "B"},
    ),
    "mmstar": ("B", {"answer": "B", "l2_category": "x"}),
    "mmstar_now": ("B", {"answer": "B", "l2_category": "x"}),
    "muirbench": ("B", {"answer": "B", "task": "x"}),
    "mvbench": ("B", {"answer": "dog", "candidates": FOUR}),
    "nextqa": (
        "B",
        {"answer": 1, "question": "?", **{f"a{i}": a for i, a in enumerate([*FOUR, "ant"])}},
    ),
    "ok_vqa": ("cat", {"answers": ["cat"] * 10}),
    "own": ("A cat.", {"answer": "a cat"}),
    "perceptiontest": ("B", {"answer_id": 1}),
    "pointing": ("[0.2, 0.3]", {"bbox": [0.1, 0.1, 0.5, 0.5]}),
    "pope": ("yes", {"answer": "yes"}),
    "realworldqa": ("B", {"answer": "B", "question": "?\nA. cat\nB. dog"}),
    "realworldqa_now": ("B", {"answer": "B"}),
    "refcoco": (
        "[0.10, 0.20, 0.50, 0.60]",
        {"bbox": [10, 40, 40, 80], "image_width": 100, "image_height": 200},
    ),
    "relaxed_accuracy": ("5.1", {"answer": "5"}),
    "rouge_l": ("cat", {"answer": "cat"}),
    "science_qa": ("B", {"answer": 1}),
    "science_qa_lea": ("It is so. The answer is B.", {"answer": 1, "choices": ["a", "b"]}),
    "science_qa_now": ("B", {"answer": 1}),
    "seedbench": ("B", {"answer": "B", "data_type": "image"}),
    "textvqa": ("cat", {"answers": ["cat"] * 10}),
    "videomme": ("B", {"answer": "B"}),
    "videomme_now": ("B", {"answer": "B"}),
    "vqa": ("cat", {"answers": ["cat"] * 10}),
    "vqav2": ("cat", {"answers": TEN}),
    "vqav2_now": ("cat", {"answers": TEN}),
}

PIECES = st.sampled_from(
    [
        "A",
        "B.",
        "(C)",
        "D)",
        "yes",
        "no",
        "the answer is",
        "=",
        "1,000",
        "2.5%",
        ".",
        "'",
        "\n",
        " ",
    ]
)
ANSWERS = st.text(max_size=40) | st.lists(PIECES, max_size=8).map(" ".join)


def test_every_scorer_has_a_row_here():
    assert RIGHT.keys() == SCORERS.keys()


@pytest.mark.parametrize("name", sorted(SCORERS))
def test_a_right_answer_counts_in_full(name):
    answer, row = RIGHT[name]
    assert SCORERS[name].score(answer, row)["score"] == pytest.approx(1)


@pytest.mark.parametrize("name", sorted(SCORERS))
@given(answer=ANSWERS)
def test_any_answer_is_scored_from_0_to_1_and_always_the_same(name, answer):
    scorer, row = SCORERS[name], RIGHT[name][1]
    given_row = json.dumps(row)
    scored = scorer.score(answer, row)
    assert 0 <= scored["score"] <= 1
    assert json.loads(json.dumps(scored)) == scorer.score(answer, row)
    assert json.dumps(row) == given_row
    numbers = scorer.aggregate([scored, scored])
    assert numbers
    assert all(math.isfinite(number) for number in numbers.values())


@pytest.mark.parametrize("name", sorted(SCORERS))
def test_a_row_without_its_fields_is_refused_by_name(name):
    with pytest.raises(DataError, match=r"field|answer"):
        SCORERS[name].score("A", {"unrelated": 1})


@pytest.mark.parametrize("name", sorted(SCORERS))
def test_no_scores_have_no_average(name):
    with pytest.raises(DataError):
        SCORERS[name].aggregate([])


@pytest.mark.parametrize(
    ("name", "field", "value", "expected"),
    [
        ("chartqa", "answer", 5, "a text"),
        ("anls", "answers", "cat", "a list of texts"),
        ("ai2d", "answer", "-1", "an integer from 0"),
        ("ai2d", "answer", "26", "an index below 26"),
        ("a_okvqa_choice", "correct_choice_idx", 4, "an index below 4"),
        ("textvqa", "answers", [], "at least one text"),
        ("vqav2", "answers", [], "VQAv2"),
        ("mmmu", "options", "[", "a list of texts"),
        ("science_qa", "answer", 1.5, "an integer from 0"),
        ("mmmu", "options", 7, "a list of texts"),
        ("pope", "answer", "maybe", "yes"),
    ],
)
def test_a_field_of_the_wrong_kind_is_named(name, field, value, expected):
    with pytest.raises(DataError, match=rf"{field}.*{expected}"):
        SCORERS[name].score("A", {**RIGHT[name][1], field: value})


@given(left=ANSWERS, right=ANSWERS, third=ANSWERS)
def test_edit_distance_is_a_distance(left, right, third):
    assert (edit_distance(left, right) == 0) == (left == right)
    assert edit_distance(left, right) == edit_distance(right, left)
    assert edit_distance(left, right) <= max(len(left), len(right))
    assert edit_distance(left, third) <= edit_distance(left, right) + edit_distance(right, third)


@given(answer=ANSWERS, references=st.lists(ANSWERS, min_size=1, max_size=3), other=ANSWERS)
def test_more_references_never_lower_anls(answer, references, other):
    value = anls(answer, references)
    assert value == 0 or 0.5 <= value <= 1
    assert anls(answer, [*references, other]) >= value


@given(answer=ANSWERS, reference=ANSWERS)
def test_rouge_l_is_symmetric_and_1_for_itself_alone(answer, reference):
    value = rouge_l(answer, reference)
    assert 0 <= value <= 1
    if "." not in answer + reference:
        assert (rouge_l(answer, answer) > 0.99) == bool(answer)


@given(people=st.lists(st.sampled_from(["cat", "dog", "owl"]), min_size=10, max_size=10))
def test_soft_accuracy_ignores_the_order_of_people(people):
    in_order = compute_soft_accuracy("cat", sorted(people))
    assert compute_soft_accuracy("cat", people) == pytest.approx(in_order)


@given(answer=st.text(alphabet="abc the.,-1", max_size=20))
def test_processing_leaves_no_articles_and_single_spaces(answer):
    words = process_answer(answer).split(" ")
    assert words == [""] or not {"", "a", "an", "the"} & set(words)


@given(answer=ANSWERS, options=st.lists(st.text(max_size=5), min_size=2, max_size=5))
def test_rules_choose_an_option(answer, options):
    letters = LETTERS[: len(options)]
    assert find_last_option(answer, options, key="0") in tuple(letters)
    assert find_first_option(answer, options, key="0") in tuple(letters)
    assert extract_mcq_letter(answer, letters) in ("", *letters)


@given(letter=st.sampled_from("ABCD"))
def test_rules_agree_on_a_plain_letter(letter):
    for said in (letter, f"{letter}.", f"({letter})"):
        assert find_last_option(said, FOUR, key="0") == letter
        assert find_first_option(said, FOUR, key="0") == letter
        assert extract_mcq_letter(said, "ABCD") == letter


@given(number=st.floats(-1e6, 1e6).map(lambda x: round(x, 2)))
def test_mmmu_finds_a_number_after_is(number):
    assert open_match(find_candidates(f"The result is {number:.2f} m"), [f"{number:.2f}"])


@given(answer=st.text(alphabet=st.characters(codec="ascii")))
def test_exact_match_ignores_case_and_spaces_around(answer):
    assert exact_match(f" {answer.swapcase()}\n", answer)
