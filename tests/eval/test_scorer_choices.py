"""Which option an answer chooses, rule by rule, by hand."""

import pytest

from onevision.eval.scoring.choices import (
    extract_mcq_letter,
    find_first_option,
    find_last_option,
    find_letter_before_period,
    find_stated_letter,
    guess,
)
from onevision.eval.scoring.registry import SCORERS

OPTIONS = ["a red car", "a blue car", "two cars", "no car"]


def score(name, answer, /, **item):
    return SCORERS[name].score(answer, item)["score"]


def test_a_guess_depends_on_its_key_alone():
    drawn = {key: guess("ABCD", key=key) for key in map(str, range(200))}
    assert drawn == {key: guess("ABCD", key=key) for key in drawn}
    assert set(drawn.values()) == set("ABCD")


@pytest.mark.parametrize(
    ("answer", "chosen"),
    [
        ("B", "B"),
        ("B.", "B"),
        ("(B) a blue car", "B"),
        ("(A) or rather (C)", "C"),
        ("(C) or (A), not B", "A"),  # brackets beat bare letters
        ("A or C then", "C"),
        ("B.a", "B"),
        ("I think that it shows Two Cars", "C"),
        ("a red car, oh no, a blue car", "B"),
        ("DNA C", "C"),
    ],
)
def test_the_last_option_named(answer, chosen):
    assert find_last_option(answer, OPTIONS, key="0") == chosen


def test_bare_letters_inside_words_count_where_none_stands_alone():
    # "A " is found in "DNA ", "C " in "ABC "; neither stands alone, so the first letter wins.
    assert find_last_option("DNA ABC here", OPTIONS, key="0") == "A"


def test_option_texts_need_more_than_five_words():
    assert find_last_option("it is two cars", OPTIONS, key="1") == guess("ABCD", key="1")
    assert find_last_option("", OPTIONS, key="2") == guess("ABCD", key="2")


@pytest.mark.parametrize(
    ("answer", "chosen"),
    [
        ("B", "B"),
        ("(C) not (B)", "C"),
        ("A. or (B)", "A"),
        ("C then B then C", "B"),  # each letter at its last place
        ("I think that it shows two cars, not a red car", "C"),
    ],
)
def test_the_first_option_named(answer, chosen):
    assert find_first_option(answer, OPTIONS, key="0") == chosen


@pytest.mark.parametrize(
    ("answer", "chosen"),
    [
        ("B", "B"),
        ("B because of C", "B"),  # the start beats all
        ("It must be C", "C"),  # the end beats phrases and brackets
        ("The answer is (B), I am sure", "B"),
        ("the answer is B and not D, sure", "D"),  # the latest after the phrase
        ("maybe (A) maybe (C) well", "C"),
        ("I choose option C: it fits", "C"),
        ("not A) but B) here", "B"),
        ("答案是B吧", "B"),
        ("xBx", "B"),  # anywhere
        ("Dogs", "D"),  # anywhere, in a word too
        ("E", ""),
        ("none", ""),
        ("  ", ""),
        ("...", ""),
    ],
)
def test_the_most_trusted_letter(answer, chosen):
    assert extract_mcq_letter(answer, "ABCD") == chosen


@pytest.mark.parametrize(
    ("answer", "chosen"),
    [
        ("(b)", "B"),
        ("B\nbecause (A)", "B"),
        ("The correct answer is (B).", "B"),
        ("Answer: A. No, the answer is B.", "B"),
        ("So I pick (C), not the first", "C"),
        ("A red car", "A"),
        ("The car", ""),
        ("", ""),
    ],
)
def test_the_stated_letter(answer, chosen):
    assert find_stated_letter(answer, "ABC") == chosen


def test_a_letter_before_a_period():
    assert find_letter_before_period(" B. text") == "B"
    assert find_letter_before_period("b. text") == "b. text"
    assert score("ai2d", "B. text", answer="1") == 1
    assert score("ai2d", "b", answer="1") == 1
    assert score("ai2d", "B text", answer="1") == 0
    assert score("muirbench", "(B)", answer="B", task="t") == 0  # punctuation counts there


def test_seedbench_reads_one_character():
    seed = SCORERS["seedbench"]
    rows = [("b) car", "B", "image"), ("The B", "B", "image"), ("", "A", "video")]
    scores = [seed.score(said, {"answer": gold, "data_type": kind}) for said, gold, kind in rows]
    assert seed.aggregate(scores) == {
        "seed_all": pytest.approx(1 / 3),
        "seed_image": 0.5,
        "seed_video": 0,
    }


@pytest.mark.parametrize(
    ("answer", "then", "now"),
    [
        ("B", 1, 1),
        ("(b) x", 1, 0),
        ("Option B", 1, 1),
        ("The answer is B", 1, 1),
        ("the answer is (B)", 0, 1),
        ("Blue", 1, 1),  # its first letter; the only letter anywhere
        ("Bad", 1, 1),
        ("It is a Bed", 0, 1),
        ("", 0, 0),
    ],
)
def test_mmstar_then_and_now(answer, then, now):
    row = {"answer": "B", "category": "math", "l2_category": "geometry"}
    assert score("mmstar", answer, **row) == then
    assert score("mmstar_now", answer, **row) == now


def test_mmstar_averages_over_the_finer_categories():
    mmstar = SCORERS["mmstar"]
    rows = [("A", "x"), ("A", "x"), ("B", "x"), ("B", "y")]  # x: 2 of 3, y: 0 of 1
    scores = [
        mmstar.score(said, {"answer": "A", "category": "c", "l2_category": finer})
        for said, finer in rows
    ]
    numbers = mmstar.aggregate(scores)
    assert numbers["average"] == pytest.approx((2 / 3 + 0) / 2)
    assert numbers["category/c"] == 0.5


QUESTION = "What is it?\n\nA. A car\nB. A red bus.\nC. Two\nPlease answer with the letter."


@pytest.mark.parametrize(
    ("answer", "gold", "then", "now"),
    [
        ("B", "B", 1, 1),
        ("(b).", "B", 1, 0),
        ("It is A car", "A", 1, 1),  # then by its text, now as the first letter of nearly anything
        ("A red bus.", "B", 0, 0),  # the option keeps its period, the answer has lost it
        ("Three", "3", 1, 0),
        ("Downhill.", "downhill", 1, 1),
    ],
)
def test_realworldqa_then_and_now(answer, gold, then, now):
    assert score("realworldqa", answer, answer=gold, question=QUESTION) == then
    assert score("realworldqa_now", answer, answer=gold, question=QUESTION) == now


def test_scienceqa_by_subject_context_and_grade():
    science = SCORERS["science_qa"]
    row = {"answer": 1, "subject": "natural science", "grade": "grade6", "hint": ""}
    scores = [
        science.score("B", {**row, "has_image": True}),
        science.score("b", {**row, "has_image": False}),
        science.score("A", {**row, "has_image": True, "hint": "x", "grade": "grade7"}),
        science.score("B. text", {**row, "has_image": False, "subject": "social science"}),
    ]
    assert science.aggregate(scores) == {
        "exact_match": 0.5,
        "subject/natural science": pytest.approx(2 / 3),
        "subject/social science": 0,
        "grade/1-6": pytest.approx(2 / 3),
        "grade/7-12": 0,
        "context/text": 0,
        "context/image": 0.5,
        "context/none": 0.5,
    }


@pytest.mark.parametrize(("answer", "then", "now"), [("B. text", 0, 1), ("b. text", 0, 0)])
def test_scienceqa_then_and_now(answer, then, now):
    assert score("science_qa", answer, answer=1) == then
    assert score("science_qa_now", answer, answer=1) == now


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("B", 1),
        ("Final Answer: (B) two", 1),
        ("It is A, so the answer is B", 1),
        ("Answer: b", 1),
        ("I choose B", 0),  # its first letter is I
        ("two", 1),  # T is no option, so that texts are compared
        ("Two", 0),
    ],
)
def test_mantis_choices(answer, right):
    row = {"question_type": "multi-choice", "answer": "(B)", "options": ["(A) one", "(B) two"]}
    assert score("mantis", answer, **row) == right


def test_mantis_short_answers():
    row = {"question_type": "short-answer", "answer": "Two", "options": []}
    assert score("mantis", "I count. Final Answer: two", **row) == 1
    assert score("mantis", "two.", **row) == 0


def test_blink_averages_over_its_tasks():
    blink = SCORERS["blink"]
    rows = [("(A)", "x"), ("The answer is (B)", "x"), ("A", "y")]
    scores = [
        blink.score(said, {"answer": "(A)", "choices": ["1", "2"], "sub_task": task})
        for said, task in rows
    ]
    assert blink.aggregate(scores)["blink_acc"] == 0.75
