"""A checkpoint that four devices can share, and questions about media of every kind."""

from dataclasses import replace

import pytest

from onevision import Conversation, Image, Message, Text, Video
from onevision.checkpoint.save import save
from onevision.model.llava import LlavaNetwork
from tests.conftest import randomise
from tests.generate.parallel import LANGUAGE


@pytest.fixture(scope="package")
def checkpoint(micro_config, tokenizer, tmp_path_factory):
    config = replace(micro_config, language=LANGUAGE)
    place = tmp_path_factory.mktemp("parallel") / "model"
    save(randomise(LlavaNetwork(config)), config, tokenizer, place)
    return place


@pytest.fixture(scope="package")
def talks(picture):
    first, second = Image(picture(90, 60)), Image(picture(50, 100, seed=1))
    clip = Video([picture(56, 56, seed=i) for i in range(3)])
    contents = {
        "words": [Text("What do you see?")],
        "an image": [first, Text("What is it?")],
        "images": [first, second, Text("Which is larger?")],
        "a video": [clip, Text("What moves?")],
    }
    return {name: Conversation([Message("user", parts)]) for name, parts in contents.items()}
