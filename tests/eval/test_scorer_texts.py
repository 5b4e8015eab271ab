"""Equality and likeness of texts, by hand."""

import pytest

from onevision.errors import DataError
from onevision.eval.scoring.numbers import relaxed_match
from onevision.eval.scoring.registry import SCORERS
from onevision.eval.scoring.rouge import rouge_l
from onevision.eval.scoring.text import anls, bare, edit_distance
from onevision.eval.scoring.vqa import compute_soft_accuracy, process_answer


def score(name, answer, /, **item):
    return SCORERS[name].score(answer, item)["score"]


def test_exact_match_deletes_all_punctuation_but_no_spaces():
    assert bare(" It's 1.5! ") == "its 15"
    assert score("exact_match", "Yes.", answer="yes") == 1
    assert score("exact_match", "new  york", answer="new york") == 0


def test_a_list_of_answers_accepts_each():
    assert score("gqa", "sofa", answer=["couch", "sofa"]) == 1
    assert score("gqa", "chair", answer=["couch", "sofa"]) == 0


@pytest.mark.parametrize(
    ("left", "right", "distance"),
    [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("ab", "ba", 2)],
)
def test_edit_distance(left, right, distance):
    assert edit_distance(left, right) == edit_distance(right, left) == distance


@pytest.mark.parametrize(
    ("answer", "references", "expected"),
    [
        ("10", ["10%"], 2 / 3),
        ("abcd", ["abxx"], 0.5),  # one half counts
        ("abc", ["xyc"], 0),  # one third does not
        ("a", [""], 0),
        ("", [""], 1),
        ("  New   York ", ["new york"], 1),
        ("x", ["no", "X"], 1),
        # The distance is 1 after normalising, the length 6 before it.
        ("ab    ", ["ac"], 1 - 1 / 6),
    ],
)
def test_anls(answer, references, expected):
    assert anls(answer, references) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("105", "100", True),
        ("105.1", "100", False),
        ("-105", "-100", True),
        ("52%", "0.5", True),
        ("52%", "50", False),
        ("1,000", "1000", False),  # commas are not understood
        ("1,000", "1,000", True),
        ("0.0", "0", False),  # a zero is compared as text
        ("0", "0", True),
        ("Red", "red", True),
        ("red.", "red", False),
        ("%", "5", False),
        ("", "", True),
    ],
)
def test_relaxed_match(answer, expected, right):
    assert relaxed_match(answer, expected) is right


def test_charts_by_split():
    chartqa = SCORERS["chartqa"]
    rows = [("1", "human_test"), ("2", "human_test"), ("1", "augmented")]
    scores = [chartqa.score(answer, {"answer": "1", "type": kind}) for answer, kind in rows]
    assert chartqa.aggregate(scores) == {
        "relaxed_overall": pytest.approx(2 / 3),
        "relaxed_augmented_split": 1,
        "relaxed_human_split": 0.5,
    }


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The two dogs!", "2 dogs"),
        ("none", "0"),
        ("dont", "don't"),
        ("couldntve", "couldntve"),  # two apostrophes are missing, one is mended
        ("couldnt've", "couldn't've"),
        ("somebody'd", "somebodyd"),  # the server's own slip
        ("im", "im"),  # not in the server's list
        ("the dog's", "dog 's"),
        ("red-blue", "red blue"),
        ("red - blue-green", "red bluegreen"),  # a dash touches a space: both go
        ("3.5", "3.5"),
        ("a.b.", "ab"),
        ("x\ny\tz", "x y z"),
        ("1,000", "1000"),
        ("", ""),
        ("." * 40, "." * 8),  # 32 periods at most
    ],
)
def test_answers_are_processed_as_on_the_server(answer, expected):
    assert process_answer(answer) == expected


@pytest.mark.parametrize(
    ("matches", "expected"),
    # Leaving out one of n who agree leaves n - 1: n (n - 1) / 3 + (10 - n) n / 3, capped, over 10.
    [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)],
)
def test_soft_accuracy_of_ten_people(matches, expected):
    people = ["cat"] * matches + ["dog"] * (10 - matches)
    assert compute_soft_accuracy("cat", people) == pytest.approx(expected)
    assert score("textvqa", "The cat.", answers=people) == pytest.approx(expected)


def with_ids(*answers):
    return [{"answer": answer, "answer_id": i} for i, answer in enumerate(answers)]


def test_vqav2_processes_references_where_people_disagree_alone():
    # Unanimous: the reference keeps its dash, the answer loses its own.
    assert score("vqav2", "t-shirt", answers=with_ids(*["t-shirt"] * 10)) == 0
    assert score("vqav2_now", "t-shirt", answers=with_ids(*["t-shirt"] * 10)) == 1
    people = with_ids(*["t-shirt"] * 9, "top")
    assert score("vqav2", "t-shirt", answers=people) == score(
        "vqav2_now", "t-shirt", answers=people
    )


def test_vqav2_without_ids_leaves_out_all_who_agree():
    people = [{"answer": "cat"}] * 9 + [{"answer": "dog"}]
    assert score("vqav2", "cat", answers=people) == pytest.approx(0.1)
    assert score("vqav2", "cat", answers=with_ids(*["cat"] * 9, "dog")) == 1


def test_vqav2_wants_people():
    with pytest.raises(DataError, match="answers"):
        score("vqav2", "cat", answers=["cat"] * 10)


def test_a_okvqa_direct_answers_skip_the_difficult():
    direct = SCORERS["a_okvqa_direct"]
    row = {"direct_answers": ["cat", "cat", "cat"] + ["dog"] * 7, "difficult_direct_answer": False}
    scores = [
        direct.score("cat", row),
        direct.score("Cat", row),  # nothing is normalised
        direct.score("cat", {"direct_answers": "['cat', 'x']", "difficult_direct_answer": False}),
        direct.score("cat", {**row, "difficult_direct_answer": True}),
    ]
    assert [s["score"] for s in scores] == [1, 0, pytest.approx(1 / 3), 1]
    assert direct.aggregate(scores) == {"direct_answer": pytest.approx(100 * 4 / 9)}


def test_a_okvqa_choices_by_text_or_letter():
    row = {"choices": ["cat", "dog", "cow", "B"], "correct_choice_idx": 1}
    assert score("a_okvqa_choice", "dog", **row) == 1
    assert score("a_okvqa_choice", "B", **row) == 0  # a choice of its own
    assert score("a_okvqa_choice", "B.", **row) == 1
    assert score("a_okvqa_choice", "", **row) == 0


@pytest.mark.parametrize(
    ("answer", "reference", "precision", "recall"),
    [
        ("the cat sat", "the cat sat", 1, 1),
        ("the cat", "the cat sat down", 1, 1 / 2),
        ("cat the", "the cat", 1 / 2, 1 / 2),
        ("The cat", "the cat", 1 / 2, 1 / 2),  # case counts
        ("cat cat cat dog", "cat dog", 1, 1),  # repeated words do not
        ("w1 w2 w6 w7 w8. w1 w3 w8 w9 w5", "w1 w2 w3 w4 w5", 4 / 8, 4 / 5),  # Lin's example
        ("3.5", "3 5", 1, 1),  # two sentences of a word each
        ("", "cat", 0, 0),
        ("...", "cat", 0, 0),
        ("cat", "", 0, 0),
    ],
)
def test_rouge_l(answer, reference, precision, recall):
    both = precision + recall
    assert rouge_l(answer, reference) == pytest.approx(
        2 * precision * recall / both if both else 0, abs=1e-7
    )


def test_rouge_l_reads_512_characters():
    assert rouge_l("a " * 256 + "b", "b") == 0
    assert score("rouge_l", "a " * 255 + "b", answer="b") == pytest.approx(2 / 3, abs=1e-7)
