import pytest

from onevision.eval.judging.parse import (
    UnreadableReplyError,
    parse_choice,
    parse_dict,
    parse_dict_number,
    parse_labelled_number,
    parse_number,
    parse_strings,
    parse_two_grades,
)


@pytest.mark.parametrize("text", ["7 8", "7, 8\nThe first is …", "\n7.0 8.0\n", "7,8"])
def test_two_scores_on_the_first_line(text):
    assert parse_two_grades(text) == (7, 8)


@pytest.mark.parametrize(
    "text", ["", "7", "7 8 9", "Scores: 7 8", "7 11", "0 5", "seven 8", "nan 5", "because\n7 8"]
)
def test_other_first_lines_are_unreadable(text):
    with pytest.raises(UnreadableReplyError):
        parse_two_grades(text)


def test_an_unreadable_reply_says_why_and_how_it_begins():
    with pytest.raises(UnreadableReplyError, match=r"first line is not two numbers: 'I would say"):
        parse_two_grades("I would say\nseven")


@pytest.mark.parametrize(("text", "value"), [("0.7", 0.7), (" 1.0\n", 1), ("```\n0\n```", 0)])
def test_a_number_alone(text, value):
    assert parse_number(text, low=0, high=1) == value


@pytest.mark.parametrize("text", ["0.7.", "about 0.7", "1.1", "-0.1", "inf", ""])
def test_more_or_other_than_a_number_is_unreadable(text):
    with pytest.raises(UnreadableReplyError):
        parse_number(text, low=0, high=1)


def test_a_labelled_number_may_stand_anywhere_but_only_once():
    assert (
        parse_labelled_number("Good.\nFinal Score: 85", label="Final Score", low=0, high=100) == 85
    )
    assert parse_labelled_number("**Rating: 4**", label="Rating", low=1, high=5) == 4
    for text in ("85", "Final Score: 850", "Final Score: 1 … Final Score: 2"):
        with pytest.raises(UnreadableReplyError):
            parse_labelled_number(text, label="Final Score", low=0, high=100)


@pytest.mark.parametrize(
    "text", ["{'pred': 'yes', 'score': 4}", '```json\n{"pred": "yes", "score": 4}\n```']
)
def test_a_record_in_either_spelling(text):
    assert parse_dict(text) == {"pred": "yes", "score": 4}
    assert parse_dict_number(text, "score", high=5) == 4


@pytest.mark.parametrize(
    "text",
    ["{'pred': 'yes'}", "{'score': True}", "{'score': 6}", "[4]", "Score: 4", "__import__('os')"],
)
def test_a_record_without_its_score_is_unreadable(text):
    with pytest.raises(UnreadableReplyError):
        parse_dict_number(text, "score", high=5)


def test_choices_and_lists():
    assert parse_choice(" b. ", "ABC") == "B"
    assert parse_strings('["a", "b"]') == ["a", "b"]
    with pytest.raises(UnreadableReplyError):
        parse_choice("B or C", "ABC")
    with pytest.raises(UnreadableReplyError):
        parse_strings('["a", 1]')
