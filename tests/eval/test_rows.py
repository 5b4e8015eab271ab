"""Data of every shape -> conversations."""

import base64
import io

import pytest
from PIL import Image as PIL

from onevision.conversation import Image, Text, Video
from onevision.errors import DataError
from onevision.eval.assemble import assemble_row
from onevision.eval.rows import open_rows
from onevision.inputs.media import open_image
from tests.eval.conftest import encoded, write_json, write_parquet

ASK = {"question": "Which?", "answer": "red"}
RED, BLUE = encoded("red"), encoded("blue")


def asked(task, place, row=0):
    rows = open_rows(task, str(place))
    question = assemble_row(rows, row, rows.read(row))
    if question.problem is not None:
        raise DataError(question.problem)
    return question


def shown(task, place, row=0):
    """The colours of the images of a row, in order."""
    media = asked(task, place, row).conversation.media
    return [open_image(one.source).getpixel((0, 0)) for one in media]


def spelled(question):
    """The user's message with marks for media."""
    (message,) = question.conversation.messages
    assert message.media_separator == ""
    return "".join(part.text if isinstance(part, Text) else "[]" for part in message.parts)


@pytest.mark.parametrize(
    "image",
    [
        {"bytes": RED, "path": None},
        {"bytes": None, "path": "pictures/red.png"},
        RED,
        "pictures/red.png",
        base64.b64encode(RED).decode(),
        base64.encodebytes(RED).decode(),
        {"bytes": None, "path": base64.b64encode(RED).decode()},
    ],
    ids=["struct", "struct of a path", "bytes", "path", "base64", "lines", "struct of base64"],
)
def test_images_of_parquet(make_task, tmp_path, image):
    (tmp_path / "colours" / "pictures").mkdir(parents=True)
    (tmp_path / "colours" / "pictures" / "red.png").write_bytes(RED)
    write_parquet(tmp_path / "colours" / "test-00000-of-00001.parquet", [ASK | {"image": image}])
    assert shown(make_task(), tmp_path) == [(255, 0, 0)]


def test_a_data_address_of_json(make_task, tmp_path):
    image = "data:image/png;base64," + base64.b64encode(RED).decode()
    write_json(tmp_path / "colours" / "test.json", [ASK | {"image": image}])
    assert shown(make_task(), tmp_path) == [(255, 0, 0)]


def test_rows_go_on_over_files_and_row_groups(make_task, tmp_path):
    for shard, colours in enumerate((["red", "green", "blue"], ["white", "black"])):
        rows = [{"question": c, "image": {"bytes": encoded(c)}} for c in colours]
        write_parquet(tmp_path / "colours" / f"test-0000{shard}-of-00002.parquet", rows)
    rows = open_rows(make_task(), str(tmp_path))
    assert len(rows) == 5
    found = [rows.read(row) for row in range(5)]
    assert [r.fields["question"] for r in found] == ["red", "green", "blue", "white", "black"]
    assert found[4].where.endswith("test-00001-of-00002.parquet, row 1")


def test_one_image_goes_in_front_of_the_words(make_task, tmp_path):
    write_parquet(tmp_path / "colours" / "test.parquet", [ASK | {"image": RED}])
    assert spelled(asked(make_task(), tmp_path)) == "[]\nWhich?"


def test_several_images_go_in_front_with_spaces_between(make_task, tmp_path):
    row = ASK | {"image": [{"bytes": RED}, {"bytes": BLUE}], "other": None}
    write_parquet(tmp_path / "colours" / "test.parquet", [row])
    task = make_task(images=("image", "other"))
    assert spelled(asked(task, tmp_path)) == "[] []\nWhich?"
    assert shown(task, tmp_path) == [(255, 0, 0), (0, 0, 255)]


def test_marks_in_the_words_are_the_images_places(make_task, tmp_path):
    row = {"question": "Is <image> as <image>?", "image_0": RED, "image_1": BLUE, "image_2": None}
    write_parquet(tmp_path / "colours" / "test.parquet", [row])
    task = make_task(images=("image_0", "image_1", "image_2"))
    assert spelled(asked(task, tmp_path)) == "Is [] as []?"


def test_numbered_marks_say_which_images_and_stay(make_task, tmp_path):
    row = {"question": "<image 2> then <image 1>", "image_1": RED, "image_2": BLUE, "image_3": RED}
    write_parquet(tmp_path / "colours" / "test.parquet", [row])
    task = make_task(images=("image_1", "image_2", "image_3"), images_marked=True)
    assert spelled(asked(task, tmp_path)) == "[] []\n<image 2> then <image 1>"
    assert shown(task, tmp_path) == [(255, 0, 0), (0, 0, 255)]


def test_a_row_without_an_image_where_that_is_allowed(make_task, tmp_path):
    write_parquet(tmp_path / "colours" / "test.parquet", [ASK | {"image": None}])
    assert spelled(asked(make_task(images_optional=True), tmp_path)) == "Which?"
    with pytest.raises(DataError, match=r"test.parquet, row 0, field 'image': .* no image"):
        asked(make_task(), tmp_path)


def test_turns_alternate(make_task, tmp_path):
    turns = [{"value": text} for text in ("<image> a?", "b", "<image> c?")]
    row = {"conversations": turns, "image_0": RED, "image_1": BLUE}
    write_parquet(tmp_path / "colours" / "test.parquet", [row])
    task = make_task(images=("image_0", "image_1"), turns="conversations")
    messages = asked(task, tmp_path).conversation.messages
    assert [m.role for m in messages] == ["user", "assistant", "user"]
    assert [type(part) for part in messages[2].parts] == [Image, Text]


def test_images_of_another_configuration(make_task, tmp_path):
    task = make_task(config="asked", images_from=("seen", "test", "imageId", "id"))
    write_parquet(tmp_path / "colours/asked/test.parquet", [ASK | {"imageId": "b"}])
    pictures = [{"id": "a", "image": RED}, {"id": "b", "image": BLUE}]
    write_parquet(tmp_path / "colours/seen/test.parquet", pictures)
    assert shown(task, tmp_path) == [(0, 0, 255)]
    write_parquet(tmp_path / "colours/asked/test.parquet", [ASK | {"imageId": "c"}])
    with pytest.raises(DataError, match=r"row 0, field 'imageId': no image has the key 'c'"):
        asked(task, tmp_path)


def test_only_rows_that_are_selected(make_task, tmp_path):
    write_json(tmp_path / "colours.jsonl", [ASK | {"kind": kind} for kind in ("a", "b", 3)])
    rows = open_rows(make_task(where={"kind": ("b", "3")}), str(tmp_path))
    assert [rows.selects(rows.read(n)) for n in range(3)] == [False, True, True]


def test_a_video_is_found_by_its_patterns(make_task, tmp_path, real_data):
    clip = (real_data / "videos" / "jobs.mp4").read_bytes()
    write_json(tmp_path / "colours" / "test.jsonl", [{"question": "What?", "name": "jobs"}])
    (tmp_path / "colours" / "clips").mkdir()
    (tmp_path / "colours" / "clips" / "v_jobs.mp4").write_bytes(clip)
    patterns = ("clips/v_{name}.webm", "clips/v_{name}.mp4")
    task = make_task(images=(), video=patterns, num_frames=4)
    question = asked(task, tmp_path)
    assert spelled(question) == "[]\nWhat?"
    (video,) = question.conversation.media
    assert video == Video(str(tmp_path / "colours/clips/v_jobs.mp4"), num_frames=4)


def frames(place, colours):
    """A video as a folder of frames."""
    place.mkdir(parents=True)
    for number, colour in enumerate(colours):
        PIL.new("RGB", (20, 20), colour).save(place / f"{number:05}.png")


def test_a_folder_of_frames_is_a_video(make_task, tmp_path):
    frames(tmp_path / "colours" / "clip", ["red", "green", "blue", "white", "black"])
    write_json(tmp_path / "colours" / "test.jsonl", [{"question": "What?", "video": "clip"}])
    task = make_task(images=(), video=("{video}",), num_frames=3)
    (video,) = asked(task, tmp_path).conversation.media
    assert [f.getpixel((0, 0)) for f in video.source] == [(255, 0, 0), (0, 0, 255), (0, 0, 0)]


def test_frames_of_a_short_video_repeat(make_task, tmp_path):
    frames(tmp_path / "colours" / "clip", ["red", "blue"])
    buffer = io.BytesIO()
    PIL.new("RGB", (20, 20), "red").save(
        buffer, format="GIF", save_all=True, append_images=[PIL.new("RGB", (20, 20), "blue")]
    )
    (tmp_path / "colours" / "clip.gif").write_bytes(buffer.getvalue())
    rows = [{"question": "What?", "video": name} for name in ("clip", "clip.gif")]
    write_json(tmp_path / "colours" / "test.jsonl", rows)
    task = make_task(images=(), video=("{video}",), num_frames=5)
    for row in range(2):
        (video,) = asked(task, tmp_path, row).conversation.media
        reds = [frame.getpixel((0, 0))[0] > 127 for frame in video.source]
        assert reds == [True] * 4 + [False], "linspace(0, 1, 5), truncated"


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("colours/test.jsonl", None),
        ("colours/test-00000-of-00001.jsonl", None),
        ("colours/data/test-00000-of-00001.jsonl", None),
        ("colours.jsonl", None),
        ("colours.jsonl", "hard"),
        ("somebody/colours/hard/test-0.jsonl", "hard"),
        ("colours/hard-test.jsonl", "hard"),
    ],
)
def test_where_files_may_lie(make_task, tmp_path, name, config):
    write_json(tmp_path / name, [ASK])
    assert open_rows(make_task(config=config), str(tmp_path)).files == (tmp_path / name,)


@pytest.mark.parametrize(
    ("name", "config"),
    [("test.jsonl", None), ("paint/train.jsonl", None), ("paint/easy/test.jsonl", "hard")],
)
def test_rows_of_another_task_are_not_taken(make_task, tmp_path, name, config):
    write_json(tmp_path / name, [ASK])
    task = make_task(config=config, dataset="somebody/paint")
    with pytest.raises(DataError, match=r"no rows of somebody/paint .*colours/test\.parquet"):
        open_rows(task, str(tmp_path))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"question": "Which?"}, "row 1, field 'image': it is missing; the row has question"),
        (ASK | {"image": "no.png"}, "row 1, field 'image': no such file: .*no.png"),
        (ASK | {"image": "../out.png"}, "field 'image': '../out.png' lies outside the media root"),
        (ASK | {"image": 3}, "row 1, field 'image': it is int '3'"),
        (ASK | {"image": "data:image/png;base64,A"}, "field 'image': its base64 is damaged"),
        ({"answer": "red", "image": "a.png"}, "row 1, field 'question': it is missing"),
        (ASK | {"image": "a.png", "question": "<image><image>"}, "2 <image> marks .* but 1 image"),
    ],
)
def test_a_bad_row_is_named(make_task, tmp_path, row, problem):
    (tmp_path / "colours").mkdir()
    (tmp_path / "colours" / "a.png").write_bytes(RED)
    (tmp_path / "out.png").write_bytes(RED)
    write_json(tmp_path / "colours" / "test.jsonl", [ASK | {"image": "a.png"}, row])
    with pytest.raises(DataError, match=problem) as caught:
        asked(make_task(), tmp_path, row=1)
    assert "colours/test.jsonl, row 1" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": "none"}, "field 'video': no such file: .*clips/none.mp4; put the videos in"),
        ({"name": "../../x"}, "field 'video': .* lies outside the media root"),
        ({}, "field 'name': it is missing"),
        ({"name": "broken"}, "row 0: .*broken.mp4: not a video"),
    ],
)
def test_a_bad_video_is_named(make_task, tmp_path, fields, problem):
    write_json(tmp_path / "colours" / "test.jsonl", [{"question": "What?"} | fields])
    (tmp_path / "colours" / "clips").mkdir()
    (tmp_path / "colours" / "clips" / "broken.mp4").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=problem):
        asked(make_task(images=(), video=("clips/{name}.mp4",)), tmp_path)


def test_a_missing_folder_is_refused(make_task, tmp_path):
    with pytest.raises(DataError, match="no such folder; give the folder with the data sets"):
        open_rows(make_task(), str(tmp_path / "nothing"))


def test_without_network_the_hub_is_one_error(make_task, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="the hub cannot be reached; check the connection"):
        open_rows(make_task(), "hub")
    with pytest.raises(DataError, match=r"holds the videos .* in archives; download"):
        open_rows(make_task(images=(), video=("{video}",)), "hub")
