from dataclasses import replace

import pytest
import torch

from onevision.conversation import Conversation, Image, Message, Text
from onevision.inputs.processor import Processor
from onevision.known_models import ONEVISION_0_5B, ONEVISION_7B, ONEVISION_72B, TINY
from onevision.model.llava import LlavaNetwork
from tests.conftest import randomise


def user(*parts):
    return Conversation([Message("user", list(parts))])


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (replace(ONEVISION_0_5B, language=replace(ONEVISION_0_5B.language, vocab_size=152000)),
         893_675_552),
        (replace(ONEVISION_7B, language=replace(ONEVISION_7B.language, vocab_size=152128)),
         8_030_807_584),
        (replace(ONEVISION_72B, language=replace(ONEVISION_72B.language, vocab_size=152128)),
         73_181_570_592),
    ],
)  # fmt: skip
def test_the_published_sizes(config, parameters):
    with torch.device("meta"):
        network = LlavaNetwork(config)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_tiny_is_small():
    with torch.device("meta"):
        assert sum(p.numel() for p in LlavaNetwork(TINY).parameters()) <= 12_000_000


def test_logits_cover_every_position(small_config, tokenizer, picture):
    processor = Processor(small_config.inputs, tokenizer)
    network = randomise(LlavaNetwork(small_config))
    inputs = processor(user(Image(picture(300, 200)), Text("Hi")))
    with torch.inference_mode():
        logits = network(inputs)
    assert logits.shape == (1, inputs.input_ids.shape[1], 4200)


@torch.inference_mode()
def test_a_row_of_a_batch_is_what_it_is_alone(micro_config, tokenizer, picture):
    processor = Processor(micro_config.inputs, tokenizer)
    network = randomise(LlavaNetwork(micro_config))
    talks = [
        user(Image(picture(60, 90)), Text("What is this?")),
        user(Text("Hi")),
        user(Image(picture(9, 9)), Image(picture(30, 9)), Text("Which?")),
    ]
    batch = processor.batch(talks)
    together = network(batch)
    for row, talk in enumerate(talks):
        alone = network(processor(talk))[0]
        assert torch.allclose(together[row, : len(alone)], alone, atol=1e-4)


@torch.inference_mode()
def test_encoding_in_chunks_changes_nothing(micro_config, tokenizer, picture):
    network = randomise(LlavaNetwork(micro_config))
    inputs = Processor(micro_config.inputs, tokenizer)(user(Image(picture(200, 180))))
    whole = network.encode(inputs.pixel_values, inputs.layouts)
    chunked = network.encode(inputs.pixel_values, inputs.layouts, crops_at_once=2)
    assert torch.allclose(whole, chunked, atol=1e-5)


def test_the_picture_matters(micro_config, tokenizer, picture):
    processor = Processor(micro_config.inputs, tokenizer)
    network = randomise(LlavaNetwork(micro_config))
    with torch.inference_mode():
        a, b = (network(processor(user(Image(picture(9, 9, seed=s)))))[0, -1] for s in (1, 2))
    assert not torch.allclose(a, b, atol=1e-3)
