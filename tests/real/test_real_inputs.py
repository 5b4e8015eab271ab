"""All real images and clips go through `explain` and `ask`: an answer, or one clear refusal."""

import pytest

from onevision import Conversation, Image, Message, Text, Video, load
from onevision.errors import MediaError
from onevision.explain import explain_image, explain_video
from onevision.explain_drawing import draw_explanation
from onevision.inputs.media import open_image
from onevision.inputs.video import choose_frames
from onevision.known_models import ONEVISION_0_5B

# What cannot be read, and how the refusal says so.
REFUSED = {
    "corrupt_broken.png": "damaged or cut off",
    "corrupt_broken_data_stream.png": "damaged or cut off",
    "corrupt_decompression_bomb.gif": "larger than 120,000,000 pixels",
    "corrupt_truncated_end_chunk.png": "damaged or cut off",
    "corrupt_truncated_image.png": "damaged or cut off",
    "corrupt_truncated_jpeg.jpg": "damaged or cut off",
    "corrupt_ultrahdr.jpg": "damaged or cut off",
    "corrupted.mp4": "the video is damaged",
}


@pytest.fixture(scope="module")
def tiny():
    return load("tiny")


def media_files(real_data):
    images = sorted((real_data / "images").iterdir())
    videos = sorted(p for p in (real_data / "videos").iterdir() if p.suffix not in (".pt", ".json"))
    return [(p, Image(p)) for p in images] + [(p, Video(p)) for p in videos]


@pytest.mark.slow
def test_everything_is_answered_or_refused(real_data, tiny):
    answered, refused = [], {}
    for path, media in media_files(real_data):
        talk = Conversation([Message("user", [media, Text("What is shown here?")])])
        try:
            reply = tiny.ask(talk, max_new_tokens=8)
        except MediaError as error:
            refused[path.name] = str(error)
        else:
            answered.append(path.name)
            assert reply.usage.prompt_tokens > 49
    assert len(answered) + len(refused) == 182
    assert refused.keys() == REFUSED.keys()
    for name, message in refused.items():
        assert name in message
        assert REFUSED[name] in message
        assert "\n" not in message


@pytest.mark.slow
def test_everything_is_explained(real_data):
    for path, media in media_files(real_data):
        if path.name in REFUSED:
            continue
        explain = explain_image if isinstance(media, Image) else explain_video
        explanation = explain(media, ONEVISION_0_5B)
        assert 197 <= explanation.cost.num_tokens <= 8765
        assert draw_explanation(explanation).width > 300


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_turned_clips_look_like_the_upright_one(real_data, degrees):
    upright, turned = (
        list(choose_frames(Video(real_data / "videos" / f"video_{d}.mov")).frames())
        for d in (0, degrees)
    )
    assert len(upright) == len(turned) == 3
    # The clips were filmed with the camera turned: the picture is upright when undone.
    expected = upright[0].size if degrees == 180 else upright[0].size[::-1]
    assert turned[0].size == expected


def test_the_first_of_several_video_streams_is_read(real_data):
    choice = choose_frames(Video(real_data / "videos" / "nasa_13013.mp4", num_frames=2))
    assert len(choice.table.marks) == 325
    assert [frame.size for frame in choice.frames()] == [(320, 180)] * 2


def test_exif_pictures_stand_upright(real_data):
    for path in sorted((real_data / "images").glob("exif_Landscape_*")):
        picture = open_image(path)
        assert picture.width > picture.height
    for path in sorted((real_data / "images").glob("exif_Portrait_*")):
        picture = open_image(path)
        assert picture.width < picture.height
