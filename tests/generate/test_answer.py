import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from onevision import Conversation, Image, Message, Text, Video, load
from onevision.checkpoint.load import inspect
from onevision.checkpoint.save import convert, save
from onevision.config import FORMAT_VERSION
from onevision.errors import (
    CheckpointError,
    ContextLengthError,
    InputError,
    ModelNotFoundError,
    QueueFullError,
)
from onevision.generate.settings import EngineSettings
from onevision.model.llava import LlavaNetwork
from tests.conftest import randomise


def user(*parts):
    return Conversation([Message("user", list(parts))])


@pytest.fixture(scope="module")
def directory(tmp_path_factory, micro_config, tokenizer):
    path = tmp_path_factory.mktemp("models") / "micro"
    generation = json.dumps({"eos_token_id": [2, 0], "repetition_penalty": 1.3})
    save(
        randomise(LlavaNetwork(micro_config)),
        micro_config,
        tokenizer,
        path,
        companions={"generation_config.json": generation},
    )
    return path


@pytest.fixture(scope="module")
def model(directory):
    return load(directory)


def test_the_public_interface(model, picture):
    talk = user(Image(picture(60, 40)), Text("What is this?"))
    reply = model.ask(talk, max_new_tokens=6)
    assert reply.finish_reason in ("stop", "length")
    assert reply.usage.completion_tokens <= 6
    assert reply.usage.image_tokens == model.processor(talk).layouts[0].num_tokens
    logits = model.network(model.processor(talk))
    assert logits.shape == (1, reply.usage.prompt_tokens, 4200)


def test_a_stream_yields_the_answer_of_ask(model, picture):
    for parts in ([Text("Hi")], [Image(picture(60, 40)), Text("What?")]):
        talk = user(*parts)
        whole = model.ask(talk, max_new_tokens=20)
        assert "".join(model.stream(talk, max_new_tokens=20)).strip() == whole.text


def test_batched_answers_equal_single_ones(model, picture):
    talks = [
        user(Text("Hi")),
        user(Image(picture(60, 90)), Text("What is this?")),
        user(Video([picture(8, 8)] * 3), Text("And this?")),
    ]
    together = model.ask_all(talks, max_new_tokens=12)
    assert together == [model.ask(talk, max_new_tokens=12) for talk in talks]


def test_decoding_equals_running_the_whole_prompt_again(model, picture):
    """Greedy ids, with the cache, are the argmax of the whole network run afresh each time."""
    talk = user(Image(picture(60, 90)), Text("What is this?"))
    ids = []
    inputs = model.processor(talk)
    for _ in range(5):
        with torch.inference_mode():
            ids.append(int(model.network(inputs)[0, -1].argmax()))
        inputs = replace(
            inputs,
            input_ids=torch.cat([inputs.input_ids, torch.tensor([[ids[-1]]])], dim=1),
            visual_mask=torch.cat([inputs.visual_mask, torch.tensor([[False]])], dim=1),
            attention_mask=torch.cat([inputs.attention_mask, torch.tensor([[True]])], dim=1),
        )
    reply = model.ask(talk, max_new_tokens=5, repetition_penalty=1.0, end_ids=())
    assert reply.text == model.processor.tokenizer.decode(ids).strip()


def test_end_ids_and_penalty_come_from_the_checkpoint_and_can_be_overridden(model):
    assert model.sampling.end_ids == (2, 0)
    assert model.sampling.repetition_penalty == 1.3
    with torch.inference_mode():
        first = int(model.network(model.processor(user(Text("Hi"))))[0, -1].argmax())
    stopped = model.ask(user(Text("Hi")), end_ids=(first,))
    assert (stopped.finish_reason, stopped.usage.completion_tokens) == ("stop", 1)


def test_without_generation_config_the_end_token_of_the_chat_format_stops(
    directory, tmp_path, tokenizer
):
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_bytes((directory / name).read_bytes())
    sampling = load(tmp_path).sampling
    assert sampling.end_ids == (tokenizer.id_of("<|im_end|>"), tokenizer.id_of("<|endoftext|>"))
    assert sampling.repetition_penalty == 1.0


def test_a_format_without_an_end_token_stops_at_its_end_text(directory, tmp_path):
    convert(inspect(directory), tmp_path / "v0", layout="onevision", template="llava_v0")
    model, talk = load(tmp_path / "v0"), user(Text("Hi"))
    said = {"choices": ("a ring###Human: Why?",)}
    reply = model.ask(talk, **said)
    assert (reply.text, reply.finish_reason) == ("a ring", "stop")
    assert "".join(model.stream(talk, **said)) == "a ring"
    assert model.ask(talk, stop=("ring",), **said).text == "a"  # beside the format's own
    assert model.ask(talk, stop=("Why",), **said).text == "a ring"


def test_sampled_answers_repeat_with_a_seed(model):
    options = {"temperature": 1.5, "seed": 3, "max_new_tokens": 10}
    assert model.ask(user(Text("Hi")), **options) == model.ask(user(Text("Hi")), **options)


def test_a_prompt_that_is_too_long_is_refused_with_its_counts(model, picture):
    talk = user(*[Image(picture(9, 9))] * 200, Text("?"))
    with pytest.raises(
        ContextLengthError, match=r"text, 3400 image, 0 video\); the model reads 2047"
    ):
        model.ask(talk)


def test_an_answer_stops_at_the_last_position(model, picture):
    images = [Image(picture(9, 9))] * 110
    talk = user(*images, Text("?"))
    length = model.processor(talk).input_ids.shape[1]
    assert 1900 < length < 2048
    reply = model.ask(talk, end_ids=(), max_new_tokens=500)
    assert reply.usage.total_tokens == 2048
    assert reply.finish_reason == "length"


def test_bad_requests_are_refused_immediately(model):
    with pytest.raises(InputError, match="unknown option 'max_tokens'"):
        model.ask(user(Text("Hi")), max_tokens=3)
    answered = Conversation([Message("user", "Hi"), Message("assistant", "Hello")])
    with pytest.raises(InputError, match="the user speaks last"):
        model.stream(answered)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 3.0}, "max_new_tokens is 3.0; expected a whole number"),
        ({"temperature": "hot"}, "temperature is 'hot'; expected a number"),
        ({"temperature": True}, "temperature is True; expected a number"),
        ({"stop": "END"}, "stop is 'END'; expected a list of strings"),
        ({"choices": "abc"}, "choices is 'abc'; expected a list of strings"),
        ({"top_k": None}, "top_k is None; expected a whole number"),
        ({"regex": 3}, "regex is 3; expected text"),
        ({"logit_bias": {"7": 1.0}}, "expected token ids with a number each"),
        ({"logit_bias": {10**7: 1.0}}, "logit_bias names token 10000000; expected 0 to 4199"),
        ({"end_ids": (10**7,), "min_new_tokens": 2}, "end_ids names token 10000000"),
    ],
)
def test_an_option_of_another_type_is_refused_and_the_model_goes_on(model, options, message):
    talk = user(Text("Hi"))
    for ask in (model.ask, model.stream, lambda one, **o: model.ask_all([one], **o)):
        with pytest.raises(InputError, match=re.escape(message)):
            ask(talk, **options)
    assert not model.engine.scheduler.has_work
    assert model.ask(talk, max_new_tokens=2).usage.completion_tokens


def test_lists_and_numbers_of_numpy_are_taken(model):
    options = {"seed": np.int64(3), "temperature": np.float32(1), "stop": ["x"]}
    assert model.ask(user(Text("Hi")), max_new_tokens=np.int32(2), **options)


@pytest.mark.parametrize("thing", ["Hi", None, Message("user", "Hi"), [Message("user", "Hi")]])
def test_what_is_no_conversation_is_named(model, thing):
    takes_words = isinstance(thing, str)
    for ask in (model.prompt,) if takes_words else (model.ask, model.stream, model.prompt):
        with pytest.raises(InputError, match="expected a Conversation"):
            ask(thing)
    with pytest.raises(InputError, match=r"list of conversations|expected a Conversation"):
        model.ask_all(thing)


def test_requests_that_fail_leave_the_engine(model):
    small = replace(model, settings=EngineSettings(max_running=1, max_waiting=0))
    talk = user(Text("Hi"))
    with pytest.raises(QueueFullError):
        small.ask_all([talk, talk])
    assert not small.engine.scheduler.has_work
    assert small.ask(talk, max_new_tokens=2).text == model.ask(talk, max_new_tokens=2).text


def test_a_stream_that_is_never_read_leaves_the_engine(model):
    stream = model.stream(user(Text("Hi")))
    assert model.engine.scheduler.has_work
    stream.close()
    model.engine.step()
    assert not model.engine.scheduler.has_work


def test_models_that_cannot_be_loaded_are_refused(directory, tmp_path):
    with pytest.raises(ModelNotFoundError, match="neither bundled"):
        load("nosuch")
    with pytest.raises(CheckpointError, match=r"config\.json: missing"):
        load(tmp_path)
    with pytest.raises(InputError, match="dtype is 'int3'"):
        load(directory, dtype="int3")
    with pytest.raises(InputError, match="float16 is not usable on CPU"):
        load(directory, dtype="float16")
    with pytest.raises(InputError, match="device 'nonsense'"):
        load(directory, device="nonsense")


def test_the_dtype_is_the_checkpoints_unless_requested(
    directory, tmp_path, tokenizer, micro_config
):
    save(LlavaNetwork(micro_config), micro_config, tokenizer, tmp_path / "h", dtype=torch.float16)
    weight = load(tmp_path / "h").network.image_newline
    assert weight.dtype == torch.float32  # in place of float16, on CPU
    assert load(directory, dtype="bfloat16").network.image_newline.dtype == torch.bfloat16
    assert (
        json.loads((tmp_path / "h" / "config.json").read_text())["format_version"] == FORMAT_VERSION
    )


linux = pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads /proc")


def bytes_in_memory(path):
    """Returns how many bytes of a mapped file are resident, from /proc/self/smaps."""
    total, mine = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if not line.split()[0].endswith(":"):  # begins a mapping
            mine = line.endswith(str(path))
        elif mine and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


@linux
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("quantize", [None, "int8"])
@pytest.mark.parametrize("kept", [torch.float32, torch.bfloat16])
def test_only_the_embedding_rows_in_use_are_in_memory(
    tmp_path, micro_config, tokenizer, tied, quantize, kept
):
    language = replace(micro_config.language, vocab_size=200_000, tie_embeddings=tied)
    config = replace(micro_config, language=language)
    size = kept.itemsize * language.vocab_size * language.hidden_size
    network = randomise(LlavaNetwork(config)).to(kept)
    save(network, config, tokenizer, tmp_path / "wide")
    loaded = load(tmp_path / "wide", dtype="float32", quantize=quantize)
    decoder, ids = loaded.network.language_model, torch.tensor([[7, 199_999]])
    assert torch.equal(decoder.embedding(ids), network.language_model.embedding(ids).float())
    assert loaded.ask(user(Text("What?")), max_new_tokens=2, end_ids=()).usage.completion_tokens
    assert bytes_in_memory(tmp_path / "wide" / "model.safetensors") < size / 4


@linux
@pytest.mark.parametrize("quantize", [None, "int8"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_in_memory_keeps_no_file_open(
    tmp_path, micro_config, tokenizer, picture, quantize, dtype
):
    network = randomise(LlavaNetwork(micro_config)).to(getattr(torch, dtype))
    save(network, micro_config, tokenizer, tmp_path / "model")
    loaded = load(tmp_path / "model", dtype=dtype, quantize=quantize, in_memory=True)
    assert str(tmp_path / "model") not in Path("/proc/self/maps").read_text()
    talk = user(Image(picture(60, 40)), Text("What?"))
    expected = load(tmp_path / "model", dtype=dtype, quantize=quantize).ask(talk, max_new_tokens=5)
    assert loaded.ask(talk, max_new_tokens=5) == expected
