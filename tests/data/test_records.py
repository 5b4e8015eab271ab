from pathlib import Path

import pytest

from onevision.conversation import Image, Text, Video
from onevision.data.forms.raw import RawRecord
from onevision.data.records import to_conversation
from onevision.errors import DataError
from tests.data.conftest import record


def told(fields, root):
    return to_conversation(RawRecord(where="set.json, row 3", fields=fields, root=root))


def test_marks_become_media_where_they_stand(tmp_path):
    fields = record(1, question="<image>\nand <image>?", image=["a.png", "sub/b.png"])
    first, answer = told(fields, tmp_path).messages
    kinds = [type(part) for part in first.parts]
    assert kinds == [Image, Text, Image, Text]
    assert first.parts[0].source == str(tmp_path / "a.png")
    assert [p.text for p in first.parts if isinstance(p, Text)] == ["\nand ", "?"]
    assert first.media_separator == ""
    assert answer.parts == (Text("thing 1"),)


def test_both_spellings_of_turns_and_system_lines():
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
    ]
    roles = [m.role for m in told({"messages": turns}, None).messages]
    assert roles == ["system", "user", "assistant"]


@pytest.mark.parametrize("mark", ("<image>", "<video>"))
def test_a_lone_video_may_be_marked_either_way(mark, tmp_path):
    (video,) = told(record(1, question=f"{mark}\nWhat?", video="a.mp4"), tmp_path).media
    assert video == Video(str(tmp_path / "a.mp4"))


def test_images_and_videos_together_keep_their_order(tmp_path):
    fields = record(1, question="<video> <image>?", image="a.png", video="b.mp4")
    assert [type(m) for m in told(fields, tmp_path).media] == [Video, Image]


def test_bytes_of_parquet_are_used_as_they_are():
    fields = record(1, image={"bytes": b"png", "path": None})
    assert told(fields, None).media == (Image(b"png"),)


def test_a_leading_answer_is_dropped_and_answers_may_spell_marks(tmp_path):
    fields = record(1, image="a.png")
    fields["conversations"][-1]["value"] = "I say <image>"
    fields["conversations"].insert(0, {"from": "gpt", "value": "Welcome"})
    assert [m.role for m in told(fields, tmp_path).messages] == ["user", "assistant"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conversations": None}, "field 'conversations': it is missing"),
        ({"conversations": []}, "expected a list of"),
        ({"conversations": [7]}, r"conversations\[0\]': it is int '7'"),
        ({"image": None}, "1 <image> marks in the questions but 0 in the field 'image'"),
        ({"image": ["a.png", "b.png"]}, "1 <image> marks in the questions but 2"),
        ({"image": "../../etc/passwd"}, "lies outside the media root"),
        ({"image": "/etc/passwd"}, "lies outside the media root"),
        ({"image": 7}, "field 'image': it is int '7'"),
        ({"video": "a.mp4"}, "0 <video> marks in the questions but 1 in the field 'video'"),
        ({"videos": ["a.mp4"]}, "0 <video> marks in the questions but 1 in the field 'video'"),
        ({"images": ["b.png"]}, "field 'images': the record also has 'image'"),
        ({"messages": [{"role": "user", "content": "Hi"}]}, "the record also has 'conversations'"),
        ({"image": "a\0b.png"}, "is not a path (embedded null byte"),
        ({"image": "https://example.org/a.png"}, "download the image (img2dataset fetches many)"),
        ({"image": "data:image/png;base64,iVBORw0KGgo"}, "its base64 is damaged"),
        ({"image": "iVBORw0KGgo" * 30_001}, "it is base64"),
    ],
)
def test_a_wrong_record_is_refused_by_field(change, message, tmp_path):
    with pytest.raises(DataError, match=r"set\.json, row 3, field") as caught:
        told(record(1, image="a.png") | change, tmp_path)
    assert message.replace("\\", "") in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "media",
    [
        {"image_path": "a.png"},
        {"img": "a.png"},
        {"image_url": "https://example.org/a.png"},
        {"video_path": "a.mp4"},
    ],
)
def test_media_in_a_field_of_another_name_are_not_learned_as_text(media, tmp_path):
    with pytest.raises(DataError, match=f"field '{next(iter(media))}': media are not read from"):
        told(record(1, question="What is this?", **media), tmp_path)


def test_the_plural_of_a_field_is_read_and_a_repeated_one_need_not_differ(tmp_path):
    video = record(1, question="<video>\nWhat?", videos=["a.mp4"])
    assert told(video, tmp_path).media == (Video(str(tmp_path / "a.mp4")),)
    both = record(1, image="a.png", images=["a.png"])
    assert told(both, tmp_path).media == (Image(str(tmp_path / "a.png")),)


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([("human", "Hi"), ("gpt", " ")], "the answer is empty"),
        ([("human", "Hi"), ("bot", "Hello")], "its speaker is 'bot'"),
        ([("human", "Hi"), ("gpt", None)], "its text is missing"),
        ([("human", "Hi")], "the last turn is not an answer"),
        ([("human", "Hi"), ("human", "Hi"), ("gpt", "Hello")], "turn 2 is by 'user'"),
    ],
)
def test_a_wrong_turn_is_refused(turns, message):
    fields = {"conversations": [{"from": who, "value": text} for who, text in turns]}
    with pytest.raises(DataError, match=message):
        told(fields, None)


def test_a_link_may_not_lead_out_of_the_root(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    with pytest.raises(DataError, match="outside the media root"):
        told(record(1, image="out/secret.png"), root)


def test_a_relative_root_is_where_the_process_stands_now(tmp_path, monkeypatch):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"")
        monkeypatch.chdir(tmp_path / name)
        told(record(1, image="a.png"), Path())
