"""One question about a picture and a video, two videos, several screens, over HTTP."""

import pytest

from onevision.conversation import Conversation, Image, Message, Text
from onevision.generate.answer import load
from onevision.synth.families import FAMILIES
from tests.serve.conftest import CHAT, encoded, image_part, text_part, user

ASK = "What happens?"


@pytest.fixture(scope="module")
def model():
    return load("tiny")


def part_of(medium):
    """What a client sends for a medium: a PNG, or a PNG for each frame."""
    if isinstance(medium, Image):
        return image_part(encoded(medium.source))
    return {"type": "video", "video": [image_part(encoded(frame)) for frame in medium.source]}


@pytest.mark.parametrize("family", ["referred", "edits", "video_pairs", "taps"])
def test_the_server_answers_as_the_model_does(family, http, model):
    media = FAMILIES[family]("train", 3).media
    own = model.ask(Conversation([Message("user", [*media, Text(ASK)])]), max_new_tokens=8)
    body = {
        "model": "tiny",
        "messages": user(*map(part_of, media), text_part(ASK)),
        "max_tokens": 8,
        "temperature": 0,
    }
    told = http.post(CHAT, json=body).json()
    assert told["choices"][0]["message"]["content"] == own.text
    details = told["usage"]["prompt_tokens_details"]
    assert (details["image_tokens"], details["video_tokens"]) == (
        own.usage.image_tokens,
        own.usage.video_tokens,
    )
