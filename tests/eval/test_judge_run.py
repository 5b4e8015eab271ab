"""Benchmarks judged by a rule-based judge over HTTP: figures that can be checked by hand."""

import itertools
import json

import pytest
from PIL import Image as PIL

from onevision.endpoint import EndpointConfig
from onevision.errors import DataError, InputError, JudgeError
from onevision.eval import own_data
from onevision.eval.judging.judge import Judge
from onevision.eval.judging.panel import Panel, judge_by_panel
from onevision.eval.judging.registry import JUDGED_BENCHMARKS
from onevision.eval.judging.run import aggregate_verdicts, judge_answers
from onevision.eval.task import bundled_tasks
from tests.eval.judge_server import between, said, serve

PICTURE = PIL.new("RGB", (8, 8), (200, 30, 30))


def make_judge(server, memory=None, **settings):
    settings = {"model": "rules", "first_wait_seconds": 0.001, "max_attempts": 3} | settings
    return Judge(EndpointConfig(base_url=server.url, **settings), memory=memory)


def judged(judge_id, items, answers, rule, **settings):
    with serve(rule) as server:
        verdicts = judge_answers(judge_id, items, answers, make_judge(server, **settings))
    return aggregate_verdicts(judge_id, verdicts), verdicts, server


def by_length(words):
    """Grade both answers by their number of words."""
    first, second = (
        len(between(words, f"<assistant-{n}>", f"</assistant-{n}>").split()) for n in (1, 2)
    )
    return f"{first} {second}\nby length"


WILD = [
    {"question": "q1", "caption": "a dog", "gpt_answer": "one two three four", "category": "conv"},
    {
        "question": "q2",
        "caption": "a cat",
        "gpt_answer": "one two three four",
        "category": "detail",
    },
]


def test_llava_bench_is_the_ratio_of_mean_grades():
    result, verdicts, server = judged("llava_bench", WILD, ["a b", "a b c d e f"], by_length)
    assert verdicts[0]["scores"] == {"reference": 4, "answer": 2}
    assert result.headline == "relative_score"
    assert result.metrics == {
        "relative_score": 100.0,  # (2 + 6) / (4 + 4)
        "answer_score": 4.0,
        "relative_score/category/conv": 50.0,
        "relative_score/category/detail": 150.0,
    }
    words = said(server.requests[0]) + said(server.requests[1])
    assert "a dog" in words
    assert "nothing is made up" in words.replace("\n", " ")
    assert server.requests[0]["temperature"] == 0.2


def test_llava_bench_coco_reads_its_reference_elsewhere():
    item = {**WILD[0], "answer": "one two"}
    del item["gpt_answer"]
    result, *_ = judged("llava_bench", [item], ["a"], by_length)
    assert result.metrics["relative_score"] == 50.0


def test_wilder_shows_the_picture():
    item = {"Question": "q", "Answer": "one two", "image": PICTURE}
    result, _, server = judged("llava_wilder", [item], ["a b c d"], by_length)
    assert result.metrics["relative_score"] == 200.0
    content = server.requests[0]["messages"][1]["content"]
    assert content[0]["image_url"]["url"].startswith("data:image/png;base64,")


def test_unreadable_replies_are_counted_and_left_out():
    replies = iter(["8 4", "I cannot say"])
    result, verdicts, _ = judged(
        "llava_wilder",
        [{"Question": "q", "Answer": "r", "image": PICTURE}] * 2,
        ["a", "b"],
        lambda words: next(replies),
        num_parallel=1,
    )
    assert (result.num_judged, result.num_unreadable) == (2, 1)
    assert verdicts[1]["scores"] == {}
    assert "I cannot say" in verdicts[1]["unreadable"]
    assert result.metrics["relative_score"] == 50.0
    # The reference averages (-1, -1) in: (4 - 1) / (8 - 1).
    assert result.metrics["relative_score_as_reference"] == pytest.approx(300 / 7)


def test_where_nothing_can_be_read_there_is_no_figure():
    result, *_ = judged("live_bench", [_LIVE], ["a"], lambda words: "?")
    assert result.metrics == {}
    assert result.num_unreadable == 1


def test_mmvet_asks_again_warmer_and_counts_capabilities():
    replies = iter(["about half", "0.5", "1.0"])
    items = [
        {"question": "q", "answer": "a <AND> b", "capability": "ocr,math"},
        {"question": "q", "answer": "c", "capability": "ocr"},
    ]
    result, _, server = judged(
        "mmvet", items, ["a | x", "c"], lambda words: next(replies), num_parallel=1
    )
    assert [sent["temperature"] for sent in server.requests] == [0.0, 0.5, 0.0]
    assert result.metrics == {
        "score": 75.0,
        "score/capability/math": 50.0,
        "score/capability/ocr": 75.0,
    }


def matches(words):
    truth = between(words, "Correct answer:", "\n")
    predicted = between(words, "Predicted answer:", "\n")
    right = truth in predicted
    return str({"pred": "yes" if right else "no", "score": 5 if right else 1})


def test_activitynet_is_accuracy_and_grade():
    items = [{"question": "q", "answer": truth} for truth in ("red", "blue", "two")]
    result, *_ = judged("activitynetqa", items, ["dark red", "blue", "three"], matches)
    assert result.metrics == {"accuracy": pytest.approx(200 / 3), "score": pytest.approx(11 / 3)}


def test_videochatgpt_grades_three_criteria():
    grades = {"factually correct": 3, "their detail": 4, "grasp of context": 2}

    def rule(words):
        return str({"score": next(grade for said, grade in grades.items() if said in words)})

    item = {"question": "q", "answer": "truth"}
    result, *_ = judged("videochatgpt_generic", [item], ["a"], rule)
    assert result.metrics == {"score": 3.0, "correctness": 3, "detail": 4, "context": 2}


def test_consistency_judges_two_items_of_a_video_together():
    rows = [
        {"video_name": "v", "question_1": "one?", "question_2": "None", "answer": "t"},
        {"video_name": "w", "question_1": "three?", "question_2": "None", "answer": "t"},
        {"video_name": "v", "question_1": "None", "question_2": "two?", "answer": "t"},
        {"video_name": "w", "question_1": "None", "question_2": "four?", "answer": "t"},
    ]

    def rule(words):
        one = between(words, "answer to question 1:", "\n")
        other = between(words, "answer to question 2:", "\n")
        return str({"score": 5 if one == other else 1})

    result, verdicts, server = judged(
        "videochatgpt_consistency", rows, ["same", "same", "same", "not"], rule
    )
    assert len(server.requests) == 2
    assert [one["judged_with"] for one in verdicts] == [None, None, 0, 1]
    assert result.metrics["score"] == 3.0
    with pytest.raises(DataError, match="video w has 1 item with"):
        judged("videochatgpt_consistency", rows[1:2], ["same"], rule)


_LIVE = {"question": "q", "answer": "t", "criteria": "c", "subtask": "s", "images": [PICTURE]}


@pytest.mark.parametrize(
    ("task", "item", "reply", "score"),
    [
        ("dc100", {"image": PICTURE}, "So so.\nFinal Score: 62", 62),
        ("vibe_eval", {"prompt": "q", "reference": "t"}, "Rating: 4", 75),
        ("live_bench", _LIVE, '{"Rating": 7, "Explanation": "…"}', 70),
        ("mathverse_now", {"question": "q", "answer": "t"}, "1", 100),
        ("video_dc499", {"question": "q", "answer": "t"}, "{'score': 4}", 4),
        ("videochatgpt_temporal", {"question": "q", "answer": "t"}, "{'score': 2}", 2),
    ],
)
def test_scales(task, item, reply, score):
    result, *_ = judged(task, [item], ["a"], lambda words: reply)
    assert result.metrics[result.headline] == score


def test_dream_compares_events_both_ways():
    def rule(words):
        if "List the events" in words:
            text = between(words, "<description>", "</description>")
            return json.dumps([event.strip() for event in text.split(".") if event.strip()])
        text = between(words, "<description>", "</description>")
        listed = [line.split(". ")[1] for line in words.splitlines() if line[:1].isdigit()]
        return json.dumps(["entailed" if event in text else "neutral" for event in listed])

    items = [{"description": "A man runs. He falls. He laughs. He leaves."}]
    result, *_ = judged("dream1k", items, ["A man runs. A dog barks."], rule)
    # One of two events told is true; one of four true ones is told.
    assert result.metrics == {"precision": 50.0, "recall": 25.0, "f1": pytest.approx(100 / 3)}


def test_mathverse_of_the_paper_extracts_from_the_last_30_words():
    def rule(words):
        if "Verdict" in words:
            other = words.rsplit("Other answer: ", 1)[1].split("\n")[0]
            return "1" if other == "12" else "0"
        assert "word-19" not in words
        return words.rsplit("Solution: ", 1)[1].split("\n")[0].split(" ")[-1]

    item = {"question": "How large?", "answer": "12", "problem_version": "Vision Only"}
    long = " ".join(f"word-{n}" for n in range(49))
    result, _, server = judged("mathverse", [item] * 2, [f"{long} 12", f"{long} 13"], rule)
    assert len(server.requests) == 4
    assert result.metrics == {"accuracy": 50.0, "accuracy/problem_version/Vision Only": 50.0}


def test_words_of_an_item_never_become_fields_of_a_prompt():
    item = {"question": "what is $truth and ${x}?", "answer": "$5"}
    _, _, server = judged("activitynetqa", [item], ["$prediction"], matches)
    assert "what is $truth and ${x}?" in said(server.requests[0])


def test_answers_are_remembered_and_spending_is_counted(tmp_path):
    items = [{"question": f"q{n}", "answer": "t"} for n in range(6)]
    with serve(matches) as server:
        first = make_judge(server, tmp_path, price_in=1e6, price_out=2e6)
        verdicts = judge_answers("activitynetqa", items, ["t"] * 6, first)
        usage = first.usage
        words = [len(said(sent).split()) for sent in server.requests]
        assert usage.num_asked == 6
        assert usage.prompt_tokens == sum(words)
        assert usage.completion_tokens == 24  # {'pred': 'yes', 'score': 5} is four words
        assert usage.cost == sum(words) + 48
        second = make_judge(server, tmp_path)
        assert judge_answers("activitynetqa", items, ["t"] * 6, second) == verdicts
        assert (second.usage.num_asked, second.usage.num_remembered) == (0, 6)
        other = make_judge(server, tmp_path, model="another")
        judge_answers("activitynetqa", items[:1], ["t"], other)
        assert other.usage.num_asked == 1


def test_costs_are_unknown_where_tokens_are_not_told():
    with serve(matches, tells_usage=False) as server:
        judge = make_judge(server, price_in=1, price_out=1)
        judge_answers("activitynetqa", [{"question": "q", "answer": "t"}], ["t"], judge)
    assert judge.usage.num_uncounted == 1
    assert judge.usage.cost is None


def test_a_run_that_broke_goes_on_where_it_was(tmp_path):
    items = [{"question": f"q{n}", "answer": "t"} for n in range(4)]
    with serve(matches) as server:
        judge = make_judge(server, tmp_path, num_parallel=1)
        judge_answers("activitynetqa", items[:2], ["t"] * 2, judge)
        server.failures = [(401, {})] * 2
        with pytest.raises(JudgeError, match="HTTP 401"):
            judge_answers("activitynetqa", items, ["t"] * 4, judge)
        server.failures = []
        again = make_judge(server, tmp_path)
        judge_answers("activitynetqa", items, ["t"] * 4, again)
    assert again.usage.num_remembered == 2


def test_questions_are_asked_side_by_side():
    items = [{"question": f"q{n}", "answer": "t"} for n in range(8)]
    with serve(matches, delay_seconds=0.05) as server:
        judge_answers("activitynetqa", items, ["t"] * 8, make_judge(server, num_parallel=4))
    assert 2 <= server.most_at_once <= 4


def test_stability_is_the_spread_of_rounds(tmp_path):
    grades = itertools.cycle([3, 3, 3, 5, 3, 1])  # two items, three rounds
    items = [{"question": q, "answer": "t"} for q in "ab"]
    with serve(lambda words: str({"score": next(grades)})) as server:
        judge = make_judge(server, tmp_path, num_parallel=1)
        panel = Panel(judges=(judge,), num_rounds=3)
        found = judge_by_panel("video_dc499", items, ["x", "y"], panel)
        again = judge_by_panel("video_dc499", items, ["x", "y"], panel)
    assert [one.headline for one in found.passes] == [3.0, 4.0, 2.0]
    assert [verdict["scores"] for verdict in found.verdicts] == [{"detail": 3.0}, {"detail": 3.0}]
    assert found.std == 1.0
    assert found.share_changed == 0.5
    assert again == found
    assert len(server.requests) == 6


def test_mistakes_are_named():
    with serve(matches) as server:
        judge = make_judge(server)
        with pytest.raises(
            InputError, match="no judge 'vqav2'; there are 17, such as activitynetqa"
        ):
            judge_answers("vqav2", [], [], judge)
        with pytest.raises(InputError, match="1 item and 0 answers"):
            judge_answers("mmvet", [{}], [], judge)
        with pytest.raises(DataError, match="no field question_for_eval or question"):
            judge_answers("activitynetqa", [{"answer": "t"}], ["t"], judge)
        with pytest.raises(DataError, match="which its judge must see"):
            judge_answers("dc100", [{"question": "q"}], ["t"], judge)


def test_every_benchmark_has_a_headline_among_its_metrics():
    scores = {
        "reference": 1.0, "answer": 1.0, "score": 1.0, "rating": 1.0, "right": 1.0,
        "precision": 1.0, "recall": 1.0,
    }  # fmt: skip
    for benchmark in JUDGED_BENCHMARKS.values():
        assert benchmark.headline in benchmark.aggregate([scores])


def test_task_files_name_the_judges_there_are_and_all_of_them():
    named = {
        task.judge
        for profile in ("p24", "now")
        for task in bundled_tasks(profile).values()
        if task.judge is not None
    }
    assert named | {own_data.JUDGE} == set(JUDGED_BENCHMARKS)


MATHS = [
    {"query": "How many?", "question_type": "free_form", "answer_type": "integer", "answer": "5",
     "precision": 0.0},
    {"query": "Which?", "question_type": "multi_choice", "answer_type": "text", "answer": "BCD",
     "choices": ["ABC", "BCD"]},
]  # fmt: skip


def test_mathvista_asks_only_what_rules_cannot_read():
    def rule(words):
        assert words.rstrip().endswith("Final answer:")
        return " B " if "the second" in words.rsplit("Response:", 1)[1] else "4"

    result, _, server = judged("mathvista", MATHS, ["5", "I take the second one."], rule)
    assert len(server.requests) == 1
    assert result.metrics["accuracy"] == 100
    result, _, server = judged("mathvista", MATHS, ["four of nine are", "BCD"], rule)
    assert len(server.requests) == 1
    assert result.metrics == {
        "accuracy": 50,
        "accuracy/answer_type/integer": 0,
        "accuracy/answer_type/text": 100,
        "accuracy/question_type/free_form": 0,
        "accuracy/question_type/multi_choice": 100,
    }


def options(index, right, **fields):
    names = {"A": "apples", "B": "eggs", "C": "bread"}
    if right == "A":  # the rotated copy
        names = {"A": "eggs", "B": "bread", "C": "apples"}
    question = {"question": "What is in it?", "answer": right, "category": "food"}
    return {"index": index, **question, **names, **fields}


CIRCLE = [options(7, "B"), options(1_000_007, "A"), options(8, "B")]


@pytest.mark.parametrize(
    ("answers", "asked", "accuracy"),
    [
        (["B", "A", "B"], 0, 100),
        (["B", "B", "B"], 0, 50),  # one order wrong
        (["a dozen", "A", "B"], 1, 100),
        (["a dozen", "B", "B"], 0, 50),  # a plain wrong letter spares the judge
        (["a cat", "A", "B"], 1, 50),
    ],
)
def test_mmbench_asks_for_letters_that_rules_cannot_read(answers, asked, accuracy):
    def rule(words):
        last = words.rsplit("Question:", 1)[1]
        assert "D." not in last
        return "B." if "a dozen" in last else "E"

    result, verdicts, server = judged("mmbench", CIRCLE, answers, rule)
    assert len(server.requests) == asked
    assert result.metrics["accuracy"] == accuracy
    assert [one["judged_with"] for one in verdicts] == [None, 0, None]


def test_mmbench_asks_thrice_then_counts_it_unreadable():
    result, _, server = judged("mmbench", CIRCLE, ["hm", "A", "B"], lambda words: "apples maybe")
    assert [sent["temperature"] for sent in server.requests] == [0.0, 0.5, 1.0]
    assert (result.num_unreadable, result.metrics["accuracy"]) == (1, 100)
