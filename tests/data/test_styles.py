from pathlib import Path

import pytest

from onevision.conversation import Conversation, Image, Message, Text
from onevision.data.mixture import published_mixtures, read_datasets
from onevision.data.styles import STYLES_FILE, PromptStyle, apply_style, read_styles
from onevision.errors import DataError

MIXTURES = sorted(p for p in published_mixtures().glob("*.yaml") if p.name != STYLES_FILE)


def question(*parts):
    return Conversation([Message("user", list(parts)), Message("assistant", "a ring")])


def words(conversation):
    return "".join(p.text for p in conversation.messages[0].parts if isinstance(p, Text))


@pytest.mark.parametrize(
    ("position", "expected"),
    [("tail", "\nWhat?\nBe brief."), ("head", "\nBe brief.\nWhat?"), ("whole", "\nWhat?")],
)
def test_words_go_where_the_style_says(position, expected):
    style = PromptStyle(name="s", texts=("Be brief.",), position=position)
    conversation = apply_style(question(Image(b"x"), Text("\nWhat?")), style, row=0)
    assert words(conversation) == expected
    assert apply_style(conversation, style, row=0) == conversation


def test_a_whole_style_is_the_question_where_there_is_none():
    style = PromptStyle(name="s", texts=("Describe.",), position="whole")
    assert words(apply_style(question(Image(b"x")), style, row=0)) == "\nDescribe."


def test_rows_take_turns_at_the_texts_and_keep_what_they_carry():
    style = PromptStyle(name="s", texts=("One.", "Two."))
    assert [words(apply_style(question(Text("?")), style, row=r))[-4:] for r in (0, 1)] == [
        "One.",
        "Two.",
    ]
    carried = question(Text("?\nTwo."))
    assert apply_style(carried, style, row=0) == carried


@pytest.mark.parametrize("path", MIXTURES, ids=lambda p: p.name)
def test_published_mixtures_are_read_by_our_own_reader(path):
    styles = {style.name for style in read_styles(path)}
    for dataset in read_datasets(path):
        assert dataset.prompt_style is None or dataset.prompt_style in styles


def test_wrong_styles_are_refused(tmp_path: Path):
    path = tmp_path / "prompt_styles.yaml"
    for text, message in (
        ("styles: {a: {texts: []}}", "style 'a' has no `texts`; expected at least one"),
        (
            "styles: {a: {texts: [x], position: middle}}",
            "style 'a': position is 'middle'; expected one of tail, head, whole",
        ),
        ("a: 1", "no mapping `styles:`"),
        ("{", "not YAML"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_styles(tmp_path / "mixture.yaml")
