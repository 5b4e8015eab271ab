"""The forms of records that docs/data.md shows, word for word, and what each is read as."""

import base64
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from onevision.cli import app
from onevision.conversation import Image, Text, Video
from onevision.data.forms.pairs import CAPTION_QUESTION
from onevision.data.forms.raw import RawRecord
from onevision.data.records import read_record
from onevision.errors import DataError
from onevision.inputs.video import choose_frames
from tests.data.conftest import write_clip

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
FORMS = dict(re.findall(r"^\| ([^|]+?) \| `(\{.*\})` \|", PAGE, re.MULTILINE))
TURNS = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A cat."}]


@pytest.fixture
def folder(tmp_path, picture):
    picture(50, 40).save(tmp_path / "1.png")
    write_clip(tmp_path / "clip.mp4")
    return tmp_path


def read(fields, root=Path("/data")):
    return read_record(RawRecord(where="set.json, row 3", fields=fields, root=root))


def words(message):
    return "".join(part.text for part in message.parts if isinstance(part, Text))


def test_the_page_has_all_forms():
    assert len(FORMS) == 12


@pytest.mark.parametrize("form", FORMS)
def test_a_form_of_the_page_is_read_as_it_says(form):
    conversation = read(json.loads(FORMS[form])).conversation
    question, answer = conversation.messages[-2:]
    assert words(answer) == "A cat."
    asked = CAPTION_QUESTION if form == "caption" else "What is it?"
    assert words(question).strip().startswith(asked)
    (medium,) = conversation.media
    assert medium.source in ("/data/1.png", "/data/clip.mp4")
    assert question.parts[0] is medium  # marked or not, it comes first here
    if form == "ShareGPT":
        assert (conversation.messages[0].role, words(conversation.messages[0])) == (
            "system",
            "Be brief.",
        )
    if form == "ms-swift":
        assert [words(m) for m in conversation.messages[:2]] == ["Hello", "Hi."]


def test_every_form_of_the_page_passes_the_check(folder):
    """As one file of JSON lines, whatever its name."""
    (folder / "records.txt").write_text("\n".join(FORMS.values()))
    done = CliRunner().invoke(app, ["data", "check", str(folder / "records.txt")])
    assert "12 samples, nothing to fix" in done.stdout, done.stdout
    assert "not read" not in done.stdout
    assert done.exit_code == 0


# Details of forms


def test_several_pictures_stand_where_their_parts_do():
    parts = [
        {"type": "text", "text": "Is"},
        {"type": "image", "image": "a.png", "text": None},
        {"type": "text", "text": "like"},
        {"type": "image_url", "image_url": {"url": "b.png", "detail": "low"}},
        {"type": "video", "video": "c.mp4"},
    ]
    told = read({"messages": [{"role": "user", "content": parts}, TURNS[1]]}).conversation
    kinds = [type(part) for part in told.messages[0].parts]
    assert kinds == [Text, Image, Text, Image, Video]
    assert [medium.source for medium in told.media] == ["/data/a.png", "/data/b.png", "/data/c.mp4"]
    assert told.media[1].detail == "low"


def test_base64_is_a_picture(folder):
    content = (folder / "1.png").read_bytes()
    text = base64.b64encode(content).decode()
    url = f"data:image/png;base64,{text}"
    asked = {"question": "What?", "answer": "A cat."}
    for media in ({"image": text}, {"image": url}, {"images": [{"bytes": None, "path": url}]}):
        assert read(asked | media).conversation.media == (Image(content),)
    for part in (
        {"type": "image_url", "image_url": url},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": text}},
        {"type": "image", "base64": text},
    ):
        turns = [{"role": "user", "content": [part]}, TURNS[1]]
        assert read({"messages": turns}).conversation.media == (Image(content),)


def test_a_long_path_of_letters_is_not_base64(tmp_path):
    name = "frames/" + "a" * 97  # 104 characters, all of base64
    (tmp_path / name).mkdir(parents=True)
    asked = {"question": "What?", "answer": "A cat.", "video": name}
    record = RawRecord(where="set.json, row 3", fields=asked, root=tmp_path)
    assert read_record(record).conversation.media == (Video(str(tmp_path / name)),)


def test_a_prompt_of_messages_is_not_learned():
    told = read({"prompt": [*TURNS, {"role": "user", "content": "Sure?"}], "completion": TURNS[1:]})
    assert [m.learned for m in told.conversation.messages] == [True, False, True, True]


@pytest.mark.parametrize("switch", [{"loss": False}, {"weight": 0}, {"train": False}, {"loss": 0}])
def test_a_switch_says_that_an_answer_is_not_learned(switch):
    told = read({"messages": [TURNS[0], TURNS[1] | switch, *TURNS]})
    assert [m.learned for m in told.conversation.messages] == [True, False, True, True]


def test_a_folder_of_frames_is_a_video(folder, picture):
    (folder / "frames").mkdir()
    for number in range(10):
        picture(30, 20, seed=number).save(folder / "frames" / f"{number:02}.png")
    fields = {"video": "frames", "question": "What?", "answer": "A cat."}
    told = read_record(RawRecord(where="x", fields=fields, root=folder), num_frames=4)
    choice = choose_frames(told.conversation.media[0])
    assert [file.name for file in choice.files] == ["00.png", "03.png", "06.png", "09.png"]
    assert [frame.size for frame in choice.frames()] == [(30, 20)] * 4
    (folder / "a.jsonl").write_text(json.dumps(fields) + "\n" + json.dumps(fields | {"video": "."}))
    done = CliRunner().invoke(app, ["data", "check", str(folder / "a.jsonl"), "--deep"])
    assert "2 samples, nothing to fix" in done.stdout, done.stdout


def test_what_nobody_reads_is_counted(folder):
    record = {"file_name": "1.png", "text": "A cat.", "model": "x", "empty": None, "notes": []}
    turns = [{"from": "human", "value": "Hi", "lang": "en"}, {"from": "gpt", "value": "Hello"}]
    records = [record, record, {"id": 3, "conversations": turns}]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    done = CliRunner().invoke(app, ["data", "check", str(folder / "a.jsonl")])
    assert "a.jsonl: not read: conversations[].lang (1), model (2)\n" in done.stdout


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "learn it with `onevision dpo`"),
        ({"messages": TURNS, "rejected_response": "c"}, "learn it with `onevision dpo`"),
        ({"messages": TURNS, "tools": [{"name": "f"}]}, "tools are not learned"),
        ({"messages": TURNS, "audios": ["a.wav"]}, "the model has no sound"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "tools are not learned"),
        ({"messages": [TURNS[0] | {"images": ["a.png"]}, TURNS[1]]}, "content parts"),
        ({"messages": [TURNS[0], TURNS[1] | {"tool_calls": [1]}]}, "tools are not learned"),
        ({"messages": [TURNS[0], TURNS[1] | {"weight": 0.5}]}, "expected true or false"),
        ({"messages": [TURNS[0], TURNS[1] | {"loss": False}]}, "no answer of it is to be learned"),
        ({"messages": [TURNS[0] | {"loss": True}, TURNS[1]]}, "only answers are learned"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "its type is str"),
        ({"messages": [TURNS[0], {"role": "assistant", "content": []}]}, "the answer is empty"),
        ({"query": "<img>a.png</img> What?", "response": "b"}, "media inside the text"),
        ({"query": "<ref-object>?", "response": "b", "objects": {}}, "media inside the text"),
        ({"query": "What?", "response": " "}, "the answer is empty"),
        ({"query": "What?", "response": "a", "history": [["b"]]}, "expected [question, answer]"),
        ({"instruction": "a", "input": 3, "output": "b"}, "it is int '3'; expected a string"),
        ({"prompt": [{"role": "user", "content": "a"}], "completion": []}, "it is empty"),
        ({"texts": [{"user": "a"}]}, "its text is missing"),
        ({"text": "A cat."}, "none of the known forms"),
        ({"url": "x", "caption_en": "y"}, "and url, caption_en is none of the known forms"),
        ({"data": [{"conversations": []}]}, "if the records are in 'data', give that list alone"),
        ({"mine": {"file_name": "a.json"}}, "it is LLaMA-Factory's dataset_info.json"),
        ({"image": "https://example.org/a.png", "text": "a"}, "addresses are not fetched"),
    ],
)
def test_what_would_be_lost_is_refused_by_name(fields, message):
    with pytest.raises(DataError, match=r"^set\.json, row 3, field '") as caught:
        read(fields)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 500
