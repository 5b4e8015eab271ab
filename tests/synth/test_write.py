import json

import pytest

from onevision.conversation import Video
from onevision.data.mixture import open_mixture
from onevision.data.records import to_conversation
from onevision.inputs.media import image_size, open_image
from onevision.inputs.video import choose_frames
from onevision.synth.preview import contact_sheet
from onevision.synth.worlds.clips import clips
from onevision.synth.worlds.sets import pairs
from onevision.synth.worlds.shapes import scenes
from onevision.synth.write import write_set


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(("family", "num_media"), [(scenes, 1), (clips, 1)])
@pytest.mark.parametrize("teaches", ("captions", "descriptions", "questions"))
def test_a_written_set_is_read_as_a_mixture(family, num_media, teaches, tmp_path):
    path = write_set(tmp_path, family.make, name="set", count=3, seed=7, teaches=teaches)
    (dataset,) = open_mixture(path).datasets
    assert len(dataset.rows) == 3
    for row in range(3):
        conversation = to_conversation(dataset.source.read(row))
        assert len(conversation.media) == num_media
        sample = family.make("train", 7 * 10**9 + row)
        answers = [m.parts[0].text for m in conversation.messages if m.role == "assistant"]
        assert (
            answers
            == {
                "captions": [sample.caption],
                "descriptions": [sample.description],
                "questions": [q.answer for q in sample.questions],
            }[teaches]
        )


def test_pictures_come_back_as_they_were_drawn(tmp_path):
    path = write_set(tmp_path, pairs.make, name="set", count=2, seed=0)
    (dataset,) = open_mixture(path).datasets
    for row in range(2):
        drawn = pairs.make("train", row).media
        read = to_conversation(dataset.source.read(row)).media
        for a, b in zip(drawn, read, strict=True):
            assert open_image(b.source).tobytes() == a.source.tobytes()


def test_jpeg_and_video_keep_size_and_length(tmp_path):
    path = write_set(tmp_path / "j", scenes.make, name="set", count=1, seed=0, image_format="jpeg")
    (record,) = json.loads(path.read_text())
    assert record["image"] == ["set/000000.jpg"]
    size = image_size(path.parent / record["image"][0])
    assert (size.width, size.height) == scenes.make("train", 0).media[0].source.size
    path = write_set(tmp_path / "v", clips.make, name="set", count=1, seed=0)
    (record,) = json.loads(path.read_text())
    frames = clips.make("train", 0).media[0].source
    choice = choose_frames(Video(str(path.parent / record["video"][0])))
    assert len(choice.indices) == len(frames)
    assert next(choice.frames()).size == (2 * frames[0].width, 2 * frames[0].height)


def test_two_seeds_write_different_sets(tmp_path):
    one, other = (
        write_set(tmp_path / str(seed), scenes.make, name="set", count=2, seed=seed).read_text()
        for seed in (0, 1)
    )
    assert one != other


def test_a_sheet_holds_every_card():
    sheet = contact_sheet([scenes.make("train", n) for n in range(4)], columns=3)
    assert sheet.width == 3 * (420 + 14) + 14
    height = (sheet.height - 14) // 2 - 14
    assert sheet.height == 2 * (height + 14) + 14
    for number in range(4):  # below the longest text there is still paper
        left, top = 14 + number % 3 * (420 + 14), 14 + number // 3 * (height + 14)
        lowest = sheet.crop((left, top + height - 4, left + 420, top + height))
        assert lowest.getcolors() == [(4 * 420, (255, 255, 255))]
        assert len(sheet.crop((left, top + 260, left + 420, top + height)).getcolors(1 << 17)) > 1
