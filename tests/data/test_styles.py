import json
from pathlib import Path

import pytest

from onevision.conversation import Conversation, Image, Message, Text
from onevision.data.entries import read_datasets
from onevision.data.mixture import open_mixture, published_mixtures
from onevision.data.samples import SampleReader
from onevision.data.styles import (
    STYLES_FILE,
    PromptStyle,
    apply_style,
    is_in_front,
    place_media_in_front,
    read_styles,
)
from onevision.errors import DataError
from onevision.inputs.processor import Processor

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


def test_media_come_first_and_their_order_stays():
    parts = (Text("Is "), Image(b"a"), Text(" like "), Image(b"b"), Text("?\n"))
    message, _ = place_media_in_front(question(*parts)).messages
    assert [p.text if isinstance(p, Text) else p.source for p in message.parts] == [
        *(b"a", "\n", b"b", "\n"),
        "Is  like ?",
    ]
    alone = question(Image(b"a"))
    assert place_media_in_front(alone) == alone


def test_a_share_of_the_rows_shows_its_media_first():
    rows = range(1000)
    assert sum(is_in_front(row, share=0.5) for row in rows) == pytest.approx(500, abs=5)
    assert not any(is_in_front(row, share=0.0) for row in rows)
    assert all(is_in_front(row, share=1.0) for row in rows)


def test_half_of_a_mixture_shows_its_media_first(tmp_path: Path, picture, micro_config, tokenizer):
    picture(40, 30).save(tmp_path / "a.png")
    talk = [
        {"from": "human", "value": "Is <image> like <image>?"},
        {"from": "gpt", "value": "yes"},
    ]
    record = {"image": ["a.png", "a.png"], "conversations": talk}
    (tmp_path / "rows.json").write_text(json.dumps([record] * 40))
    entry = "datasets: [{json_path: rows.json, sampling_strategy: all, media_in_front: %s}]"
    (tmp_path / "m.yaml").write_text(entry % 0.5)
    mixture = open_mixture(tmp_path / "m.yaml")
    reader = SampleReader(
        mixture=mixture, processor=Processor(micro_config.inputs, tokenizer), max_tokens=500
    )
    talks = [reader.conversation(0, row) for row in range(40)]
    first = [isinstance(one.messages[0].parts[0], Image) for one in talks]
    assert sum(first) == pytest.approx(20, abs=2)
    (tmp_path / "m.yaml").write_text(entry % 2)
    with pytest.raises(DataError, match="media_in_front is .*; expected 0 to 1"):
        open_mixture(tmp_path / "m.yaml")


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
