"""The words of every benchmark, spelled out."""

import pytest

from onevision.errors import DataError
from onevision.eval.prompts import format_prompt
from onevision.eval.task import bundled_tasks

LETTER = "\nAnswer with the option's letter from the given choices directly."
SHORT = "\nAnswer the question using a single word or phrase."
TWO = {"question": "Which?", "options": ["cat", "dog"]}
VISTA = {"question": "How long?", "unit": "cm", "choices": None, "question_type": "free_form"}
LVB = {f"option{n}": text for n, text in enumerate(["a", "b", "c", "N/A", "N/A"])}
MME_QUESTION = "Is this a cat? Please answer yes or no."
BOX = (
    "Bounding box coordinates are specified in the format (top-left x, top-left y, bottom-right x, "
    "bottom-right y). All values are floating point numbers bounded between 0 and 1 with two "
    "decimal places of precision (e.g., 0.15). Please provide the bounding box {} of the region {}"
)
SELECT = (
    "Select the best answer to the following multiple-choice question based on the video and the "
    "subtitles. Respond with only the letter (A, B, C, or D) of the correct option."
)

P24 = [
    ("ai2d", TWO, "Which?\nA. cat\nB. dog" + LETTER),
    ("chartqa", TWO, "Which?\nAnswer the question with a single word."),
    ("docvqa_val", TWO, "Which?" + SHORT),
    ("infovqa_test", TWO, "Which?" + SHORT),
    ("mathverse_vision_only", {"query_wo": "As in the figure."}, "As in the figure."),
    (
        "mathvista_testmini_format",
        VISTA | {"answer_type": "integer"},
        "How long? (Unit: cm)\nAnswer the question using a single integer number.",
    ),
    (
        "mathvista_testmini_format",
        VISTA | {"unit": "", "choices": ["1", "2"], "question_type": "multi_choice"},
        "How long?\nA. 1\nB. 2" + LETTER,
    ),
    (
        "mathvista_testmini_cot",
        VISTA | {"choices": ["1", "2"], "question_type": "multi_choice"},
        "Question: How long? (Unit: cm)\nChoices:\n(A) 1\n(B) 2\nHint: Please answer the question "
        "and provide the correct option letter, e.g., A, B, C, D, at the end.",
    ),
    (
        "mathvista_testmini_solution",
        VISTA | {"answer_type": "float", "precision": 1.0, "unit": None},
        "Question: How long?\nHint: Please answer the question requiring a floating-point number "
        "with one decimal place and provide the final value, e.g., 1.2, 1.3, 1.4, at the end.\n"
        "Solution:",
    ),
    (
        "mmbench_en_dev",
        {"question": "Which?", "hint": "Look.", "A": "cat", "B": "dog", "C": None, "D": "nan"},
        "Look. Which? There are several options:\nA. cat\nB. dog\n" + LETTER,
    ),
    (
        "mmbench_en_dev",
        {"question": "Which?", "hint": "nan", "A": "cat", "B": "dog", "C": float("nan")},
        "Which? There are several options:\nA. cat\nB. dog\n" + LETTER,
    ),
    ("mme", {"question": MME_QUESTION}, "Is this a cat?" + SHORT),
    (
        "mmstar",
        {"question": "Which?\nOptions: A: cat, B: dog "},
        "Which?\nOptions: A: cat, B: dog"
        "\nAnswer with the option's letter from the given choices directly",
    ),
    (
        "mmmu_val",
        {"question": "<image 1> Which?", "options": "['cat', 'dog']"}
        | {"question_type": "multiple-choice"},
        "<image 1> Which?\nA. cat\nB. dog\n" + LETTER,
    ),
    (
        "mmmu_val",
        {"question": "<image 1> Why?", "options": "[]", "question_type": "open"},
        "<image 1> Why?\n" + SHORT,
    ),
    (
        "mmvet",
        {"question": "Why?"},
        "First please perform reasoning, and think step by step to provide best answer to the "
        "following question: \n\nWhy?",
    ),
    (
        "seedbench_image",
        {"question": "Q"} | {f"choice_{c}": c for c in "abcd"},
        "Q\nA. a\nB. b\nC. c\nD. d" + LETTER,
    ),
    (
        "scienceqa_img",
        {"hint": "Cats.", "question": "Which?", "choices": ["cat", "dog"]},
        "Context: Cats.\nWhich?\nA. cat\nB. dog" + LETTER,
    ),
    (
        "scienceqa_full",
        {"hint": "", "question": "Which?", "choices": ["cat"]},
        "Which?\nA. cat" + LETTER,
    ),
    (
        "scienceqa_lea",
        {"hint": "Cats.", "question": "Which?", "choices": ["cat", "dog"]},
        "Question: Which?\nContext: Cats.\nOptions:\n(A) cat\n(B) dog",
    ),
    ("dc100_en", {"question": "Describe."}, "Describe."),
    ("realworldqa", {"question": " Which?\nA. cat "}, "Which?\nA. cat"),
    ("vibe_eval", {"prompt": "Why?"}, "Why?"),
    ("live_bench_2406", {"question": "Why?"}, "Why?"),
    ("llava_wilder_small", {"Question": "Why?"}, "Why?"),
    ("llava_in_the_wild", {"question": "Why?"}, "Why?"),
    ("llava_bench_coco", {"question": "Why?"}, "Why?"),
    ("gqa", TWO, "Which?" + SHORT),
    ("vqav2_val", TWO, "Which?" + SHORT),
    ("textvqa_val", {"question": "what does the SIGN say?"}, "What does the sign say?" + SHORT),
    (
        "refcoco_testA",
        {"answer": "the cat"},
        BOX.format("coordinate", "this sentence describes: the cat"),
    ),
    (
        "screenspot",
        {"instruction": "go back"},
        BOX.format("coordinates", "that corresponds to the command: go back"),
    ),
    ("pope", {"question": "Is there a cat? "}, "Is there a cat?" + SHORT),
    (
        "ok_vqa_val2014",
        TWO,
        "Which?\nWhen the provided information is insufficient, respond with 'Unanswerable'."
        + SHORT,
    ),
    (
        "a_okvqa_choice",
        {"question": "Which?", "choices": ["cat", "dog"]},
        "Which?\nA. cat\nB. dog" + LETTER,
    ),
    ("a_okvqa_direct", TWO, "Which?" + SHORT),
    ("llava_interleave_bench_in_domain", {"question": "<image> <image> a?"}, "<image> <image> a?"),
    ("text_rich_vqa", {"question": "<image> a?"}, "<image> a?"),
    ("muirbench", TWO, "Which?\nA. cat\nB. dog" + LETTER),
    ("mantis", TWO | {"question_type": "multi-choice"}, "Which?" + LETTER + "['cat', 'dog']"),
    (
        "mantis",
        TWO | {"question_type": "short-answer"},
        "Given the images, answer the following short answer vqa question:\nQ: Which?\nYou can "
        'first give your analysis, and then give your final answer as "Final Answer:"',
    ),
    (
        "blink_jigsaw",
        {"prompt": "Which fits?"},
        "Note: You only need to respond with A, B, ... without providing any additional "
        "information.\nWhich fits?",
    ),
    (
        "activitynetqa",
        {"question": "is the man in Red"},
        "Is the man in red? Answer the question using a single word or phrase.",
    ),
    (
        "egoschema_subset",
        {"question": "Why?", "option": ["A. a", "B. b"]},
        "Why?\nA. a\nB. b" + LETTER,
    ),
    ("perceptiontest_val_mc", TWO, "Which?\nA. cat\nB. dog" + LETTER),
    (
        "longvideobench_val_v",
        {"question": "When?"} | LVB,
        "When?\nA. a\nB. b\nC. c" + LETTER + "\n",
    ),
    (
        "mlvu_dev",
        {"question": "Which?\n(A) cat"},
        "\nWhich?\n(A) cat\nOnly give the best option.\n\nBest option: (",
    ),
    (
        "mvbench_action_count",
        {"question": "How many?", "candidates": ["1", "2"]},
        "How many?\nA. 1\nB. 2" + LETTER,
    ),
    (
        "nextqa_mc_test",
        {"question": "why? "} | {f"a{n}": str(n) for n in range(5)},
        "why?\nA. 0\nB. 1\nC. 2\nD. 3\nE. 4",
    ),
    ("videochatgpt_generic", {"question": "What?"}, "What?"),
    ("videochatgpt_consistency", {"question_1": "None", "question_2": "What?"}, "What?"),
    ("video_dc499", {"question": "Describe."}, "Describe."),
    ("dream1k", {"description": "A man runs."}, "Describe the video in detail."),
    (
        "videomme",
        {"question": "Which?", "options": ["A. cat", "B. dog"]},
        SELECT + "\nWhich?\n['A. cat', 'B. dog']\n" + LETTER,
    ),
]
NOW = [
    ("ai2d", TWO, "Which?\nA. cat\nB. dog" + LETTER),
    (
        "mlvu_dev",
        {"question": "Which?\n(A) cat"},
        "Which?\n(A) cat\nOnly give the best option.\nBest option: (",
    ),
    ("mlvu_test", {"question": "Which?\n(A) cat"}, "Which?\n(A) cat"),
    (
        "mvbench_action_count",
        {"question": "How many?", "candidates": ["1", "2"]},
        "Question:How many?\nOption:\n(A) 1\n(B) 2\nOnly give the best option.\n",
    ),
    (
        "videomme",
        {"question": "Which?", "options": ["A. cat", "B. dog"]},
        SELECT + "\nWhich?\nA. cat\nB. dog\n" + LETTER,
    ),
]


@pytest.mark.parametrize(
    ("profile", "name", "fields", "words"),
    [*(("p24", *one) for one in P24), *(("now", *one) for one in NOW)],
)
def test_the_words_are_the_evaluators(profile, name, fields, words):
    missing = dict.fromkeys(["A", "B", "C", "D", "E"]) if name == "mmbench_en_dev" else {}
    assert format_prompt(bundled_tasks(profile)[name], missing | fields, where="row 0") == words


def test_the_words_of_every_benchmark_are_checked():
    titles = {bundled_tasks()[name].title for name, _, _ in P24}
    assert titles == {task.title for task in bundled_tasks().values()}


@pytest.mark.parametrize(
    ("name", "p24", "now"),
    [
        *(("ai2d", 16, 16), ("mmmu_val", 16, 128), ("egoschema_subset", 1024, 16)),
        *(("mathvista_testmini_format", 1024, 16384), ("mathverse_testmini", 1024, 16384)),
        *(("longvideobench_val_v", 32, 32), ("docvqa_val", 32, 32), ("mmstar", 1024, 1024)),
    ],
)
def test_answers_are_as_long_as_the_evaluators(name, p24, now):
    assert bundled_tasks("p24")[name].max_new_tokens == p24
    assert bundled_tasks("now")[name].max_new_tokens == now


def test_answers_are_drawn_for_mantis_alone():
    assert {t.name: t.temperature for t in bundled_tasks().values() if t.temperature} == {
        "mantis": 0.2
    }


@pytest.mark.parametrize(
    ("name", "fields", "lines"),
    [
        (
            "mmbench_en_dev",
            {"A": "", "B": "Two", "C": "N/A", "D": "Four"},
            ["A. ", "B. Two", "C. N/A", "D. Four"],
        ),
        (
            "mmbench_en_dev",
            {"A": "None", "B": None, "C": "nan", "D": "Four"},
            ["A. None", "D. Four"],
        ),
        (
            "seedbench_image",
            {"choice_a": "None", "choice_b": "N/A", "choice_c": "", "choice_d": "d"},
            ["A. None", "B. N/A", "C. ", "D. d"],
        ),
        (
            "nextqa_mc_test",
            {"a0": "none", "a1": "None", "a2": "N/A", "a3": "", "a4": "e"},
            ["A. none", "B. None", "C. N/A", "D. ", "E. e"],
        ),
        (
            "longvideobench_val_v",
            {"option0": "None", "option1": "", "option2": "c", "option3": "N/A", "option4": "N/A"},
            ["A. None", "B. ", "C. c"],
        ),
        ("ai2d", {"options": ["None", "", "N/A", "nan"]}, ["A. None", "B. ", "C. N/A", "D. nan"]),
    ],
)
def test_options_keep_their_letters(name, fields, lines):
    absent = dict.fromkeys(["A", "B", "C", "D", "E"]) if name == "mmbench_en_dev" else {}
    words = format_prompt(
        bundled_tasks()[name], absent | {"question": "Q", "hint": None} | fields, where="row 0"
    )
    assert [line for line in words.split("\n") if line[1:3] == ". "] == lines


@pytest.mark.parametrize("hint", ["None", "N/A"])
def test_an_optional_field_is_left_out_only_as_its_data_set_spells_it(hint):
    fields = {"question": "Which?", "choices": ["cat"], "hint": hint}
    words = format_prompt(bundled_tasks()["scienceqa_full"], fields, where="row 0")
    assert words.startswith(f"Context: {hint}\nWhich?")


def test_words_of_a_row_are_not_read_as_places(make_task):
    task = make_task(choices=("options",), prompt="{question}\n{choices}")
    fields = {"question": "{choices} {letter}", "options": ["{choice}", "{question}"]}
    assert (
        format_prompt(task, fields, where="row 0")
        == "{choices} {letter}\nA. {choice}\nB. {question}"
    )


@pytest.mark.parametrize(
    ("changes", "fields", "problem"),
    [
        ({}, {"query": "a"}, "field 'question': it is missing; the row has query"),
        (
            {"choices": ("options",), "prompt": "{choices}"},
            {"options": "cat"},
            "field 'options': it is 'cat'; expected a list of options",
        ),
        (
            {"cases": (bundled_tasks()["mantis"].cases[0],), "prompt": "{case}"},
            {"question_type": "essay"},
            "question_type 'essay' is none of the cases of task 'colours'",
        ),
        ({"prompt": "{question|shout}"}, {"question": "a"}, "no filter 'shout'"),
    ],
)
def test_a_wrong_row_is_one_error_that_names_it(make_task, changes, fields, problem):
    with pytest.raises(DataError, match=problem):
        format_prompt(make_task(**changes), fields, where="test.jsonl, row 3")
