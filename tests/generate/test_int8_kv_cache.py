"""Keys and values in 8 bits: a quarter of the memory, answers near those of whole ones."""

import json
from dataclasses import replace

import pytest
import torch

from onevision import Conversation, Image, Message, Text, load
from onevision.generate.int8_kv_cache import Int8KVCache
from onevision.generate.settings import EngineSettings
from tests.cli.invoke import invoke


@pytest.fixture(scope="module")
def model():
    return load("tiny", dtype="float32")


def first_logprobs(model, talks, **settings):
    """The log-probabilities of the tokens of answers that are given together, and their bytes."""
    engine = model.new_engine(EngineSettings(**settings))
    sampling = replace(model.sampling, max_new_tokens=5, logprobs=0, end_ids=())
    requests = [engine.submit(model.prompt(talk), sampling) for talk in talks]
    sizes = [request.kv_bytes for request in requests]
    engine.run(requests)
    return [[t.logprob for t in request.answers[0].tokens] for request in requests], sizes


@pytest.fixture(scope="module")
def talks(picture):
    media = [Image(picture(150, 120)), Image(picture(98, 98))]
    return [Conversation([Message("user", [one, Text("What is this?")])]) for one in media]


def test_what_is_written_is_within_half_a_step(model):
    config, device = model.config.language, torch.device("cpu")
    cache = Int8KVCache(config, 8, dtype=torch.float32, device=device)
    shape = (config.num_kv_heads, 3, config.head_size)
    keys, values = torch.randn(shape), 100 * torch.randn(shape)
    for found, rows in zip(cache.write(1, keys, values), (keys, values), strict=True):
        step = rows.abs().amax(-1, keepdim=True) / 127
        assert ((found - rows).abs() <= 0.501 * step).all()
    cache.length = 3
    other = Int8KVCache(config, 4, dtype=torch.float32, device=device)
    other.copy_prefix(cache, 2)
    cache.trim()
    assert cache.capacity == 3
    new = torch.zeros(config.num_kv_heads, 1, config.head_size)
    mine, theirs = cache.write(1, new, new)[1], other.write(1, new, new)[1]
    assert torch.equal(mine[:, :2], theirs[:, :2])


def test_logits_stay_near_and_memory_is_a_quarter(model, talks):
    plain, whole = first_logprobs(model, talks)
    found, small = first_logprobs(model, talks, kv_int8=True)
    size = model.config.language.head_size
    assert [4 * size * own for own in small] == [(size + 4) * own for own in whole]
    for one, other in zip(plain, found, strict=True):
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) < 0.1


def test_answers_depend_on_no_other_and_prefixes_are_shared(model, talks):
    alone = [
        first_logprobs(model, [talk], kv_int8=True, deterministic=True)[0][0] for talk in talks
    ]
    assert first_logprobs(model, talks, kv_int8=True, deterministic=True)[0] == alone
    engine = model.new_engine(EngineSettings(kv_int8=True))
    sampling = replace(model.sampling, max_new_tokens=3)
    requests = []
    for _ in range(2):
        requests.append(engine.submit(model.prompt(talks[0]), sampling))
        engine.run(requests)
    assert engine.stats.prefix_hits == 1
    assert requests[0].answers[0].ids == requests[1].answers[0].ids


def test_ask_takes_it(tmp_path, picture):
    path = tmp_path / "a.png"
    picture(98, 98).save(path)
    command = ["ask", "What is this?", "-i", path, "--json"]
    plain, small = (json.loads(invoke(*command, *more)) for more in ([], ["--kv-int8"]))
    assert small["text"] == plain["text"]
