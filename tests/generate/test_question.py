"""`model.ask("...", images=..., videos=...)`: all common types show the model the same pixels."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PIL

from onevision import Conversation, Image, Message, Text, Video
from onevision.cli.demo import DEMO
from onevision.errors import InputError, MediaError
from onevision.generate.answer import load
from onevision.generate.question import build_question

FILE, CLIP = DEMO / "single.png", DEMO / "clip.mp4"
PICTURE = PIL.open(FILE).convert("RGB")
ARRAY = np.asarray(PICTURE)
TENSOR = torch.from_numpy(ARRAY.copy()).permute(2, 0, 1)
FRAMES = [PICTURE.resize((60 + n, 50)).crop((n, 0, 60, 50)) for n in range(3)]
STACK = np.stack([np.asarray(frame.resize((60, 50))) for frame in FRAMES])


@pytest.fixture(scope="module")
def model():
    return load("tiny")


def pixels_of(model, **media):
    return model.prompt(build_question("What is this?", **media)).pixel_values


@pytest.mark.parametrize(
    "image",
    [
        FILE,
        str(FILE),
        FILE.read_bytes(),
        bytearray(FILE.read_bytes()),
        memoryview(FILE.read_bytes()),
        PICTURE,
        ARRAY,
        ARRAY.astype(np.int64),
        ARRAY.astype(np.float32) / 255,
        np.asfortranarray(ARRAY),
        TENSOR,
        TENSOR.float() / 255,
        TENSOR.permute(1, 2, 0),
        (TENSOR.double() / 255).requires_grad_(),
        Image(FILE),
    ],
)
def test_an_image_of_any_type_is_the_same_picture(model, image):
    expected = pixels_of(model, images=[str(FILE)])
    for images in (image, [image], (one for one in [image])):
        assert torch.equal(pixels_of(model, images=images), expected)


def test_an_open_file_is_read(model):
    expected = pixels_of(model, images=FILE)
    with FILE.open("rb") as file:
        assert torch.equal(pixels_of(model, images=file), expected)
    assert torch.equal(pixels_of(model, images=[io.BytesIO(FILE.read_bytes())]), expected)


@pytest.mark.parametrize(
    "grey", [ARRAY[..., 0], ARRAY[..., :1], TENSOR[:1], TENSOR[0], ARRAY[..., 0] > 128]
)
def test_grey_has_one_channel_or_none(model, grey):
    shown = np.asarray(grey if isinstance(grey, np.ndarray) else grey.squeeze()).squeeze()
    scaled = shown.astype(np.uint8) * (255 if shown.dtype == bool else 1)
    expected = pixels_of(model, images=PIL.fromarray(scaled).convert("RGB"))
    assert torch.equal(pixels_of(model, images=[grey]), expected)


@pytest.mark.parametrize(
    "clip",
    [
        STACK,
        torch.from_numpy(STACK),
        torch.from_numpy(STACK).permute(0, 3, 1, 2).float() / 255,
        list(STACK),
        tuple(map(PIL.fromarray, STACK)),
        Video([PIL.fromarray(frame) for frame in STACK]),
    ],
)
def test_a_video_of_any_type_is_the_same_frames(model, clip):
    expected = pixels_of(model, videos=[[PIL.fromarray(frame) for frame in STACK]])
    assert len(expected) == 3
    assert torch.equal(pixels_of(model, videos=clip), expected)
    assert torch.equal(pixels_of(model, videos=[clip]), expected)


def test_frames_of_a_generator_are_one_video(model):
    expected = pixels_of(model, videos=STACK)
    assert torch.equal(pixels_of(model, videos=(frame for frame in STACK)), expected)
    assert torch.equal(pixels_of(model, videos=[(frame for frame in STACK)]), expected)


@pytest.mark.parametrize(
    "clip", [CLIP, str(CLIP), CLIP.read_bytes(), [CLIP], io.BytesIO(CLIP.read_bytes())]
)
def test_a_video_file_of_any_type_is_the_same_video(model, clip):
    assert torch.equal(pixels_of(model, videos=clip), pixels_of(model, videos=Video(str(CLIP))))


def test_the_one_line_call_is_the_conversation(model):
    talk = Conversation([
        Message("system", "Be brief."),
        Message("user", [Image(FILE), Image(FILE), Video(CLIP), Text("What is this?")]),
    ])  # fmt: skip
    media = {"images": [FILE, ARRAY], "videos": CLIP, "system": "Be brief."}
    expected = model.ask(talk, max_new_tokens=4)
    assert model.ask("What is this?", **media, max_new_tokens=4) == expected
    assert (
        "".join(model.stream("What is this?", **media, max_new_tokens=4)).strip() == expected.text
    )
    assert model.ask("What is this?", images=[FILE], max_new_tokens=4).usage.image_tokens


class Odd:
    """Neither a picture nor a list of them."""


@pytest.mark.parametrize(
    ("media", "message"),
    [
        ({"images": 5}, "images, entry 1 is int; expected a path, bytes, an open binary file"),
        ({"images": io.StringIO("a")}, "images, entry 1 is StringIO; expected a path, bytes, an "),
        ({"images": None}, "images, entry 1 is NoneType"),
        ({"images": [FILE, Odd()]}, "images, entry 2 is Odd"),
        ({"images": [[FILE]]}, "images, entry 1 is list"),
        ({"images": {"a": 1}.values()}, "images, entry 1 is int"),
        ({"images": ARRAY.astype(float)}, "array of float64 from .* to 25.; expected integers"),
        ({"images": TENSOR.float() / 127.5 - 1}, "float32 from -.* to 1; expected integers"),
        ({"images": np.full((4, 4), np.nan)}, "from nan to nan"),
        ({"images": np.zeros((0, 4, 3), np.uint8)}, "has no pixels"),
        ({"images": np.zeros((4, 4, 7), np.uint8)}, r"shape \[4, 4, 7\]; expected \[H, W, 3\]"),
        ({"images": torch.zeros(7, 5, 5)}, r"shape \[7, 5, 5\]; expected \[3, H, W\] or"),
        ({"images": np.array(["a", "b"])}, "shape"),
        ({"images": np.full((4, 4), 300)}, "from 300 to 300"),
        ({"images": np.zeros((4, 4), complex)}, "expected numbers"),
        ({"videos": 5}, "videos, entry 1 is int"),
        ({"videos": None}, "videos, entry 1 is NoneType"),
        ({"videos": [[]]}, "videos, entry 1 has no frames"),
        ({"videos": [FRAMES, Odd()]}, "videos, entry 2 is Odd"),
        ({"videos": [[FRAMES[0], Odd()]]}, "videos, entry 1, frame 2 is Odd"),
        ({"videos": [CLIP, FRAMES[0]]}, "videos, entry 2 is Image; expected a path, .* or frames"),
        ({"videos": np.zeros((2, 3, 4, 5, 3))}, "expected frames"),
        ({"videos": Image(FILE)}, "videos, entry 1 is Image"),
        ({"images": Video(CLIP)}, "images, entry 1 is Video"),
        ({"system": 3}, "system is int"),
    ],
)  # fmt: skip
def test_another_type_is_refused_in_one_line(model, media, message):
    with pytest.raises(InputError, match=message) as caught:
        model.ask("What is this?", **media)
    assert "\n" not in str(caught.value)
    assert not model.engine.scheduler.has_work


@pytest.mark.parametrize("words", ["", "  \n", None, 3, b"Hi", Path("a.png")])
def test_a_question_is_words(model, words):
    with pytest.raises(InputError, match=r"the question is"):
        model.ask(words)


def test_media_beside_a_conversation_are_refused(model):
    talk = Conversation([Message("user", "Hi")])
    for media in ({"images": FILE}, {"videos": [CLIP]}, {"system": "Be brief."}):
        with pytest.raises(InputError, match="go with a question"):
            model.ask(talk, **media)


def test_a_missing_file_is_named(model):
    with pytest.raises(MediaError, match="nothing.png"):
        model.ask("What is this?", images=["nothing.png"])
