"""Benchmarks with rules of their own, by hand."""

import pytest

from onevision.errors import DataError
from onevision.eval.scoring.interleave import CATEGORIES, choice_match
from onevision.eval.scoring.mmbench import infer_letter
from onevision.eval.scoring.mmmu import DOMAINS, find_candidates, open_match
from onevision.eval.scoring.registry import SCORERS
from onevision.eval.scoring.yes_no import COGNITION, PERCEPTION, parse_yes_or_no


def score(name, answer, /, **item):
    return SCORERS[name].score(answer, item)["score"]


# MMMU


@pytest.mark.parametrize(
    ("answer", "candidates"),
    [
        ("The area is 1,200.", {1200.0, 200.0}),  # the rest of a number is one too
        ("x = 3.456", {3.46}),
        ("So the result is -2e3 m", {"-2e3 m", -2000.0, 3.0}),
        ("is\nit = 5", {5.0}),
        ("a=1\nb", {"a=1\nb", 1.0}),  # "=" counts in the last line alone
        ("c", {" c", "c "}),
        ("the answer is :", {"the answer is :"}),
        ("Hormone", {"hormone"}),
        ("", {""}),
    ],
)
def test_mmmu_open_candidates(answer, candidates):
    assert find_candidates(answer) == candidates


@pytest.mark.parametrize(
    ("answer", "accepted", "right"),
    [
        ("The answer is trans-form", ["form"], True),
        ("It is 3.14159", ["3.14"], True),
        ("It is 3.2", ["3.14"], False),
        ("It is vitamin c", ["C"], True),  # " c" ends the candidate
        ("It is acid", ["C"], False),
        ("24", ["x", "24"], True),
    ],
)
def test_mmmu_open_answers(answer, accepted, right):
    assert open_match(find_candidates(answer), accepted) is right


def test_mmmu_counts_questions_not_subjects():
    mmmu = SCORERS["mmmu"]
    row = {"question_type": "multiple-choice", "options": "['x', 'y']", "answer": "A"}
    scores = [
        mmmu.score("A", {**row, "id": "validation_Art_Theory_1"}),
        mmmu.score("(B)", {**row, "id": "validation_Art_Theory_2"}),
        mmmu.score("A.", {**row, "id": "validation_Art_Theory_3"}),
        mmmu.score("5", {"id": "validation_Math_1", "question_type": "open", "answer": "4"}),
    ]
    assert mmmu.aggregate(scores) == {
        "mmmu_acc": 0.5,
        "domain/Art and Design": pytest.approx(2 / 3),
        "domain/Science": 0,
        "subject/Art_Theory": pytest.approx(2 / 3),
        "subject/Math": 0,
    }
    assert sum(map(len, DOMAINS.values())) == 30


# MME and POPE


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ("Yes.", "yes"),
        ("y", "yes"),
        ("N.", "no"),
        ("x", "other"),
        ("Not sure", "no"),
        ("Nothing but yes", "no"),
        ("It is yes", "other"),
        ("ayes", "yes"),
        ("", "other"),
    ],
)
def test_yes_or_no(answer, read):
    assert parse_yes_or_no(answer) == read


def mme(*rows):
    scores = [
        SCORERS["mme"].score(said, {"question_id": image, "category": category, "answer": gold})
        for image, category, said, gold in rows
    ]
    return SCORERS["mme"].aggregate(scores)


def test_mme_adds_accuracy_and_accuracy_plus_per_image():
    numbers = mme(
        ("1", "count", "Yes", "Yes"),
        ("1", "count", "no", "No"),  # 100 + 100
        ("2", "count", "yes", "No"),
        ("2", "count", "yes", "Yes"),  # 50 + 0
        ("1", "code_reasoning", "perhaps", "Yes"),
        ("1", "code_reasoning", "perhaps", "No"),  # 0 + 0
    )
    assert numbers == {
        "mme_perception_score": 125,
        "mme_cognition_score": 0,
        "acc": 50,
        "acc_plus": pytest.approx(100 / 3),
        "category/code_reasoning": 0,
        "category/count": 125,
    }


def test_mme_reaches_2000_and_800():
    pairs = [
        ("1", category, gold, gold) for category in PERCEPTION + COGNITION for gold in ("yes", "no")
    ]
    assert list(mme(*pairs).values())[:2] == [2000, 800]


def test_mme_wants_both_questions_of_an_image():
    with pytest.raises(DataError, match=r"'7' has 1 answer, expected 2"):
        mme(("7", "count", "yes", "Yes"))
    with pytest.raises(DataError, match="no category 'colour'"):
        mme(("7", "colour", "yes", "Yes"))


def test_pope_counts_yes_as_positive():
    rows = ["yes yes", "yes yes", "no yes", "yes no", "no no", "Yes. yes"]  # said, expected
    scores = [SCORERS["pope"].score(said, {"answer": gold}) for said, gold in map(str.split, rows)]
    assert SCORERS["pope"].aggregate(scores) == {
        "accuracy": 0.5,
        "precision": pytest.approx(2 / 3),
        "recall": pytest.approx(2 / 3),  # "Yes." is no miss
        "f1": pytest.approx(2 / 3),
        "yes_ratio": pytest.approx(4 / 6),  # of what is expected
    }


# MMBench

OPTIONS = {"A": "a cat", "B": "a dog", "C": "two cats"}


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("The answer is B", "B"),
        ("B. a dog", "B"),
        ("(C).", "C"),
        ("A cat", "A"),
        ("A big cat here", ""),  # an article, perhaps, and no option's text
        ("A or B", ""),
        ("It shows a dog", "B"),
        ("a cat and a dog", ""),
        ("E", "E"),
        ("", ""),
    ],
)
def test_mmbench_infers_letters(answer, letter):
    assert infer_letter(answer, OPTIONS) == letter


def test_mmbench_wants_every_rotation_right():
    bench = SCORERS["mmbench"]

    def rows(index, answers, category):
        return [
            bench.score(
                said,
                {
                    "index": index + step * 1_000_000,
                    "answer": gold,
                    "category": category,
                    "L2-category": "l2",
                    **{"A": "x", "B": "y", "C": "nan", "D": None},
                },
            )
            for step, (said, gold) in enumerate(answers)
        ]

    scores = rows(1, [("A", "A"), ("B", "B")], "one") + rows(2, [("A", "A"), ("A", "B")], "two")
    assert bench.aggregate(scores) == {
        "accuracy": 50,
        "category/one": 100,
        "category/two": 0,
        "L2-category/l2": 50,
    }
    with pytest.raises(DataError, match="original questions"):
        bench.aggregate(scores[1:2])


# MathVista


@pytest.mark.parametrize(
    ("answer", "kind", "gold", "right", "direct"),
    [
        ("7", "integer", "7", True, True),
        ("7.0", "integer", "7", True, False),
        ("seven", "integer", "7", False, False),
        ("1.25", "float", "1.2", True, True),  # round half to even, as the original
        ("1.2 cm", "float", "1.2", False, False),
        ("[1, 2]", "list", "[1, 2]", True, False),
        ("inf", "integer", "7", False, False),
    ],
)
def test_mathvista_numbers(answer, kind, gold, right, direct):
    row = {"question_type": "free_form", "answer_type": kind, "answer": gold, "precision": 1.0}
    scored = SCORERS["mathvista"].score(answer, row)
    assert (scored["score"], scored["direct"]) == (float(right), direct)


@pytest.mark.parametrize(
    ("answer", "predicted", "direct"),
    [
        ("107", "107", True),
        ("B", "102", False),
        ("(c) 1", "107", False),
        ("The angle is 97", "97", False),
        ("", "97", True),  # the nearest to nothing is the shortest
    ],
)
def test_mathvista_choices(answer, predicted, direct):
    row = {
        "question_type": "multi_choice",
        "answer_type": "text",
        "choices": ["97", "102", "107"],
        "answer": "97",
    }
    scored = SCORERS["mathvista"].score(answer, row)
    assert (scored["predicted"], scored["direct"]) == (predicted, direct)
    assert SCORERS["mathvista"].aggregate([scored])["accuracy"] == 100 * (predicted == "97")


# The interleave benchmark


@pytest.mark.parametrize(
    ("answer", "expected", "lmms_eval", "original"),
    [
        ("B", "B", True, True),
        ("B. two dogs", "B", True, False),
        ("b: two dogs", "B", True, True),
        ("It is a dog", "A", True, False),  # an article
        ("Image 2", "image 2.", True, True),
        ("(image) 2", "image 2", True, True),
        ("g: x", "G", False, True),  # lmms-eval knows letters up to E
    ],
)
def test_interleave_choices(answer, expected, lmms_eval, original):
    row = {"sub_task": "BLINK", "question_type": "multi-choice", "answer": expected}
    assert choice_match(answer, expected) is lmms_eval
    assert score("interleave_bench_original", answer, **row) == original


def test_interleave_pools_samples_the_original_data_sets():
    def rows(scorer):
        told = [("IEdit", "cat"), ("IEdit", "cat"), ("HQ-Edit", "dog"), ("RAVEN", "cat")]
        return [
            scorer.score(said, {"sub_task": task, "question_type": "open-ended", "answer": "cat"})
            for task, said in told
        ]

    pooled, original = SCORERS["interleave_bench"], SCORERS["interleave_bench_original"]
    assert pooled.aggregate(rows(pooled))["overall_score"] == pytest.approx((2 / 3 + 1) / 2)
    assert original.aggregate(rows(original))["overall_score"] == pytest.approx((1 / 2 + 1) / 2)


def test_interleave_texts_are_compared_raw_or_processed():
    row = {"sub_task": "IEdit", "question_type": "open-ended", "answer": "red-cat"}
    assert score("interleave_bench", "Red cat", **row) == 0
    assert score("interleave_bench_original", "Red cat", **row) == pytest.approx(1)


def test_every_task_of_the_interleave_bench_is_in_one_category():
    tasks = [task for tasks in CATEGORIES.values() for task in tasks]
    assert len(tasks) == len(set(tasks)) == 32


def test_other_tasks_of_the_interleave_bench_count_in_no_category():
    bench = SCORERS["interleave_bench"]
    row = {"question_type": "open-ended", "answer": "cat"}
    other = bench.score("cat", {**row, "sub_task": "other"})
    known = bench.score("dog", {**row, "sub_task": "RAVEN"})
    numbers = bench.aggregate([other, known])
    assert (numbers["overall_score"], numbers["sub_task/other"]) == (0, pytest.approx(1))
    with pytest.raises(DataError, match="no sub_task"):
        bench.aggregate([other])


# Videos


def test_mlvu_reads_the_character_before_the_first_bracket():
    row = {"answer": "B", "task_type": "count"}
    assert score("mlvu", "B) two", **row) == 1
    assert score("mlvu", "B", **row) == 1
    assert score("mlvu", "B.", **row) == 0
    assert score("mlvu", "(B", **row) == 0
    assert score("mlvu", ") B", **row) == 0
    assert score("mlvu_now", "B.", **row) == 1


def test_mlvu_averages_over_tasks():
    mlvu = SCORERS["mlvu"]
    rows = [("A", "count"), ("A", "count"), ("B", "count"), ("B", "ego")]
    scores = [mlvu.score(said, {"answer": "A", "task_type": kind}) for said, kind in rows]
    numbers = mlvu.aggregate(scores)
    assert numbers["m_avg"] == pytest.approx(100 / 3)
    assert numbers["accuracy"] == 50


def test_mvbench_leaves_out_empty_answers():
    bench = SCORERS["mvbench"]
    row = {"candidates": ["left", "right"], "answer": "right"}
    said = {"x": ["B", "", "A"], "y": ["(B) right"]}
    scores = [
        bench.score(answer, {**row, "sub_task": task})
        for task, answers in said.items()
        for answer in answers
    ]
    assert bench.aggregate(scores) == {
        "mvbench_accuracy": 75,
        "sub_task/x": 50,
        "sub_task/y": 100,
    }
    with pytest.raises(DataError, match="none of its candidates"):
        bench.score("A", {**row, "answer": "up"})


@pytest.mark.parametrize(
    ("answer", "then", "now"),
    [
        ("A", "A", "A"),
        ("The best answer is: A", "A", "A"),
        ("Best option: A", "B", "A"),  # the phrase stays, and begins with B
        ("Clearly A", "C", "A"),
        ("none", "", ""),
    ],
)
def test_videomme_then_and_now(answer, then, now):
    row = {"answer": "A", "duration": "short"}
    assert SCORERS["videomme"].score(answer, row)["predicted"] == then
    assert SCORERS["videomme_now"].score(answer, row)["predicted"] == now


def lvb(**fields):
    options = {f"option{i}": option for i, option in enumerate(["x", "y", "N/A", "N/A", "N/A"])}
    return {"id": "0", "correct_choice": 1, "duration_group": 15, **options, **fields}


def test_longvideobench_then_and_now():
    assert score("longvideobench", "B. A book", **lvb()) == 0  # "A " beats "B."
    assert score("longvideobench_now", "B. A book", **lvb()) == 1
    assert score("longvideobench_now", "Best option: B", **lvb()) == 1
    assert SCORERS["longvideobench"].score("", lvb())["predicted"] in ("A", "B")


def test_egoschema_is_scored_by_index():
    row = {"video_idx": "v", "option": [f"{x}. c{x} did it" for x in "ABCDE"]}
    assert score("egoschema", "(D)", answer="3", **row) == 1
    assert score("egoschema", "(D)", answer=3, **row) == 1
    unlabelled = SCORERS["egoschema"].score("(D)", row)
    assert (unlabelled["predicted"], unlabelled["score"]) == (3, 0)


def test_perceptiontest_and_nextqa():
    assert score("perceptiontest", "It is B, not C", answer_id=1) == 1
    assert score("perceptiontest", "b", answer_id=1) == 0
    options = {f"a{i}": f"option {i}" for i in range(5)}
    assert score("nextqa", "E", question="why", answer=4, **options) == 1
