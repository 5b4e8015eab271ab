import json

import pytest
from PIL import Image as PIL

from onevision.conversation import Image, Text, Video
from onevision.errors import InputError
from onevision.eval.reference_prompt import to_conversation, to_media, to_sampling
from onevision.eval.rows import read_video
from onevision.inputs.chat import MediaSlot, render
from onevision.inputs.video import choose_frames
from tests.eval.lmms_world import write_video

MEAN = (0.5, 0.5, 0.5)


def picture(width=8, height=8, colour=(10, 20, 30)):
    return PIL.new("RGB", (width, height), colour)


def written(conversation):
    """Return the conversation as the reference's strings have it."""
    return [
        "".join(part.text if isinstance(part, Text) else "<image>" for part in message.parts)
        for message in conversation.messages
    ]


@pytest.mark.parametrize(
    ("context", "count", "prompt"),
    [
        ("What?", 0, "What?"),
        ("What?", 1, "<image>\nWhat?"),
        ("What?", 3, "<image> <image> <image>\nWhat?"),
        ("Is <image> like <image>?", 2, "Is <image> like <image>?"),
        ("See <image 1>.", 1, "<image>\nSee <image 1>."),
        ("5", 0, "5"),
    ],
)
def test_media_stand_where_the_reference_puts_them(context, count, prompt):
    media = [Image(picture()) for _ in range(count)]
    conversation = to_conversation(context, media)
    assert written(conversation) == [prompt]
    assert conversation.media == tuple(media)


def test_nothing_is_written_between_media_and_words(tokenizer):
    pieces = render(
        to_conversation("a <image>b", [Image(picture())]), tokenizer, template="qwen_1_5"
    )
    place = next(n for n, piece in enumerate(pieces) if isinstance(piece, MediaSlot))
    assert tokenizer.decode(list(pieces[place + 1].ids)) == "b"


def test_turns_in_json_become_turns():
    turns = [{"value": "<image> first?"}, {"value": "A dog."}, {"value": "And <image>?"}]
    conversation = to_conversation(json.dumps(turns), [Image(picture()), Image(picture())])
    assert [message.role for message in conversation.messages] == ["user", "assistant", "user"]
    assert written(conversation) == ["<image> first?", "A dog.", "And <image>?"]


def test_places_and_media_must_agree():
    with pytest.raises(InputError, match="2 <image> marks in the text but 1"):
        to_conversation("<image> <image>", [Image(picture())])
    with pytest.raises(InputError, match="1 <image> marks in the text but 2"):
        to_conversation("<image>", [Image(picture())] * 2)
    with pytest.raises(InputError, match="2 turns; expected the user to speak last"):
        to_conversation(json.dumps([{"value": "a"}, {"value": "b"}]), [])


@pytest.mark.parametrize(("length", "kept"), [(3, [0, 0, 1, 1, 2]), (9, [0, 2, 4, 6, 8])])
def test_a_video_has_exactly_so_many_frames(tmp_path, length, kept):
    path = tmp_path / "clip.mp4"
    write_video(path, [picture(64, 64, (25 * n, 0, 0)) for n in range(length)])
    video = read_video(path, num_frames=5)
    reds = [frame.getpixel((32, 32))[0] for frame in choose_frames(video).frames()]
    assert reds == pytest.approx([25 * n for n in kept], abs=8)


def test_visuals_are_pictures_a_path_or_pictures_as_frames(tmp_path):
    assert to_media([], image_mean=MEAN) == ()
    assert to_media(None, image_mean=MEAN) == ()
    assert [type(one) for one in to_media([picture()] * 2, image_mean=MEAN)] == [Image, Image]
    pictures = [picture(8, 4, (n, n, n)) for n in range(5)]
    (video,) = to_media(pictures, sample_frames=3, image_mean=MEAN)
    assert isinstance(video, Video)
    assert [frame.getpixel((4, 4))[0] for frame in video.source] == [0, 2, 4]
    assert [frame.getpixel((4, 0)) for frame in video.source] == [(127, 127, 127)] * 3
    assert {frame.size for frame in video.source} == {(8, 8)}


def test_answers_are_greedy_unless_they_are_drawn():
    greedy = {"max_new_tokens": 1024, "temperature": 0.0}
    assert to_sampling({"until": ["\n\n"], "image_aspect_ratio": "pad"}, profile="p24") == greedy
    assert to_sampling({"temperature": 0.2, "do_sample": False}, profile="now") == greedy
    drawn = {"do_sample": True, "temperature": 0.2, "max_new_tokens": 64}
    assert to_sampling(drawn, profile="now") == {
        "max_new_tokens": 64, "temperature": 0.2, "top_p": 1.0, "top_k": 0, "seed": 0,
    }  # fmt: skip


@pytest.mark.parametrize(("profile", "temperature"), [("p24", 0.0), ("now", 1.0)])
def test_a_missing_temperature_depends_on_the_time(profile, temperature):
    assert to_sampling({"do_sample": True}, profile=profile)["temperature"] == temperature


def test_settings_that_cannot_be_kept_are_refused():
    with pytest.raises(InputError, match="generation_kwargs has max_tokens"):
        to_sampling({"max_tokens": 5}, profile="p24")
    with pytest.raises(InputError, match="beam search is not supported"):
        to_sampling({"num_beams": 5}, profile="p24")
    with pytest.raises(InputError, match="max_new_tokens is 'many'"):
        to_sampling({"max_new_tokens": "many"}, profile="p24")
