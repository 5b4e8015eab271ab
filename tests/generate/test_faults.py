"""An exception while one request is advanced ends that request alone, wherever it is raised."""

import json
import shutil
from dataclasses import replace

import pytest

from onevision import Conversation, Message, Text, load
from onevision.checkpoint.hub import BUNDLED
from onevision.errors import CheckpointError, EngineError, InputError, QueueFullError
from onevision.generate import constrain
from onevision.generate.constrain import compile_constraint
from onevision.generate.settings import EngineSettings


@pytest.fixture(scope="module")
def model():
    return load("tiny", dtype="float32")


@pytest.fixture
def engine(model):
    return model.new_engine(EngineSettings())


def ask(text):
    return Conversation([Message("user", [Text(text)])])


def run_three(model, engine, *, num_tokens=6, **options):
    """Submits three requests; `options` are those of the second."""
    sampling = replace(model.sampling, end_ids=(), max_new_tokens=num_tokens)
    return [
        engine.submit(model.prompt(ask(f"Question {i}")), sampling, **(options if i == 1 else {}))
        for i in range(3)
    ]


def check_that_the_second_fails_alone(model, engine, requests):
    engine.run(requests)
    assert isinstance(requests[1].error, EngineError)
    alone = model.new_engine(EngineSettings())
    for i in (0, 2):
        assert requests[i].error is None
        expected = alone.submit(model.prompt(ask(f"Question {i}")), requests[i].sampling)
        alone.run([expected])
        assert requests[i].answers[0].ids == expected.answers[0].ids
    assert (engine.stats.running, engine.stats.kv_bytes, engine.stats.waiting) == (0, 0, 0)


def raise_key_error(*_, **__):
    raise KeyError("a fault")


def test_a_listener_that_raises(model, engine):
    requests = run_three(model, engine, on_delta=raise_key_error)
    check_that_the_second_fails_alone(model, engine, requests)


@pytest.mark.parametrize("method", ["sample", "accept"])
def test_a_sampler_that_raises(model, engine, monkeypatch, method):
    requests = run_three(model, engine)
    sampler = requests[1].answers[0].sampler
    monkeypatch.setattr(sampler, method, raise_key_error)
    check_that_the_second_fails_alone(model, engine, requests)


def test_a_constraint_that_raises(model, engine, monkeypatch):
    requests = run_three(model, engine)
    sampler = requests[1].answers[0].sampler
    constraint = compile_constraint(
        replace(model.sampling, regex="a+"), engine.tokenizer, vocab_size=4096
    )
    monkeypatch.setattr(constraint, "allowed", raise_key_error)
    sampler.constraint, sampler.is_plain = constraint, False
    check_that_the_second_fails_alone(model, engine, requests)


def test_a_prompt_that_cannot_be_prefilled(model, engine, monkeypatch):
    requests = run_three(model, engine)
    whole = engine.prefiller._run

    def run(chunk):
        done = whole(chunk)  # the caches are longer now
        if any(request is requests[1] for request, _ in chunk):
            raise_key_error()
        return done

    monkeypatch.setattr(engine.prefiller, "_run", run)
    check_that_the_second_fails_alone(model, engine, requests)


@pytest.mark.parametrize("settings", [{}, {"deterministic": True}, {"draft_tokens": 3}])
def test_an_answer_that_cannot_be_decoded(model, monkeypatch, settings):
    engine = model.new_engine(EngineSettings(**settings))
    requests = run_three(model, engine)
    whole = engine.batch_decoder._run

    def run(steps):
        rows = whole(steps)
        if any(s.request is requests[1] and len(s.answer.ids) == 3 for s in steps):
            raise_key_error()
        return rows

    monkeypatch.setattr(engine.batch_decoder, "_run", run)
    engine.run(requests)
    assert isinstance(requests[1].error, EngineError)
    assert [request.error for request in (requests[0], requests[2])] == [None, None]
    assert engine.stats.running == 0


@pytest.mark.parametrize("ids", [(4096,), (999_999,), (-1,), (2, 2**40)])
def test_end_ids_beyond_the_vocabulary_are_refused(model, ids):
    for options in ({}, {"min_new_tokens": 1}, {"regex": "a"}, {"temperature": 1.0}):
        with pytest.raises(InputError, match="end_ids names token"):
            model.ask(ask("Hi"), end_ids=ids, max_new_tokens=4, **options)


def test_an_eos_id_beyond_the_vocabulary_is_refused_at_load(tmp_path):
    directory = shutil.copytree(BUNDLED["tiny"], tmp_path / "tiny")
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 4096]}))
    with pytest.raises(
        CheckpointError, match=r"eos_token_id is \[2, 4096\]; expected a token id below 4096"
    ):
        load(directory)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1e-40}, {"temperature": 5e-324}, {"temperature": 100.0},
        {"temperature": 1.0, "repetition_penalty": 1e-40},
        {"temperature": 1e-6, "repetition_penalty": 5e-324},
        {"temperature": 1.0, "repetition_penalty": 1e308},
        {"temperature": 1.0, "top_p": 5e-324}, {"temperature": 1.0, "min_p": 5e-324},
        {"temperature": 1.0, "top_p": 5e-324, "top_k": 1, "min_p": 1.0},
        {"temperature": 1.0, "logit_bias": {3: -100.0}, "repetition_penalty": 1e-40},
    ],
)  # fmt: skip
def test_extreme_numbers_are_the_limit_case(model, options):
    assert model.ask(ask("Hi"), max_new_tokens=4, **options).text is not None


def test_the_limits_of_temperature_and_top_p_are_greedy(model):
    greedy = model.ask(ask("Hi"), max_new_tokens=8).text
    for options in ({"temperature": 1e-40}, {"temperature": 1.0, "top_p": 5e-324}):
        assert model.ask(ask("Hi"), max_new_tokens=8, **options).text == greedy


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("end_ids", [(2,), ()])
def test_a_form_that_is_complete_ends_the_answer(model, temperature, end_ids):
    options = {"temperature": temperature, "end_ids": end_ids, "max_new_tokens": 20}
    reply = model.ask(ask("Hi"), choices=("yes", "no"), min_new_tokens=9, **options)
    assert (reply.text in ("yes", "no"), reply.finish_reason) == (True, "stop")
    digits = model.ask(ask("Hi"), regex="[0-9]{4}", **options)
    assert (len(digits.text), digits.finish_reason) == (4, "stop")


@pytest.mark.parametrize(
    ("form", "texts"),
    [
        ({"regex": "(ab|c){2}"}, ("abab", "abc", "cab", "cc")),
        ({"choices": ("yes", "no")}, ("yes", "no")),
        ({"json_schema": '{"enum": [1, 22]}'}, ("1", "22")),
        ({"regex": "a", "stop": ("b",)}, ("a",)),
    ],
    ids=["regex", "choices", "schema", "regex and stop"],
)
def test_a_grammar_is_compiled_once_for_all_answers_and_its_tokenizer_once(
    model, engine, monkeypatch, form, texts
):
    compiled = []
    original = constrain._compile

    def compile_form(*arguments):
        compiled.append(arguments[2])
        return original(*arguments)

    monkeypatch.setattr(constrain, "_compile", compile_form)
    for ends in ((2,), (2, 20), (), (7, 8, 9)):
        sampling = replace(model.sampling, num_answers=3, end_ids=ends, temperature=1.0,
                           max_new_tokens=9, seed=3, **form)  # fmt: skip
        request = engine.submit(model.prompt(ask("Hi")), sampling)
        engine.run([request])
        for answer in request.answers:
            assert answer.text in texts
    assert len(compiled) == 4
    assert len(set(map(id, compiled))) == 1


def test_a_new_salt_wins_no_turn(model):
    engine = model.new_engine(EngineSettings(max_running=1))
    sampling, order = replace(model.sampling, max_new_tokens=1), []
    prompt = model.prompt(ask("Hi"))
    requests = [
        engine.submit(prompt, sampling, tenant=tenant, cache_salt=salt,
                      on_delta=lambda _, t=tenant: order.append(t))
        for tenant, salt in (*(("greedy", str(i)) for i in range(4)), ("modest", ""))
    ]  # fmt: skip
    engine.run(requests)
    assert order.index("modest") <= 1


def test_salts_keep_caches_apart(model, engine):
    prompt = model.prompt(ask("One and the same question, long enough for several blocks. " * 9))
    sampling = replace(model.sampling, max_new_tokens=1)
    cached = []
    for tenant, salt in (("a", "b"), ("a", "b"), ("a", ""), ("ab", ""), ("", "ab"), ("a", "b")):
        request = engine.submit(prompt, sampling, tenant=tenant, cache_salt=salt)
        engine.run([request])
        cached.append(request.cached_tokens > 0)
    assert cached == [False, True, False, False, False, True]


def test_one_tenant_cannot_fill_the_queue(model):
    engine = model.new_engine(
        EngineSettings(max_running=1, max_waiting=4, max_waiting_per_tenant=2)
    )
    sampling, prompt = replace(model.sampling, max_new_tokens=1), model.prompt(ask("Hi"))
    requests = [engine.submit(prompt, sampling, tenant="a", cache_salt=str(i)) for i in range(3)]
    with pytest.raises(QueueFullError, match="3 requests of this tenant"):
        engine.submit(prompt, sampling, tenant="a", cache_salt="new")
    requests += [engine.submit(prompt, sampling, tenant="b") for _ in range(2)]
    with pytest.raises(QueueFullError, match="full with 5 requests"):
        engine.submit(prompt, sampling, tenant="c")
    engine.run(requests)
    for most in (-1, 5):
        with pytest.raises(InputError, match="max_waiting_per_tenant"):
            EngineSettings(max_waiting=4, max_waiting_per_tenant=most)
