"""Pairs of fields at the edges of their range: answered or refused in the envelope, never a fault.

ONEVISION_PAIRS=5000 pytest tests/serve/test_pairs.py --timeout=0     longer than by default
"""

import asyncio
import json
import os
import time
from functools import cache

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onevision import load
from onevision.serve.app import create_app
from onevision.serve.batch import run_batch
from onevision.serve.service import Service
from onevision.serve.settings import ServerSettings
from tests.serve.conftest import CHAT, GOOD, JSON, user

NUM_EXAMPLES = int(os.environ.get("ONEVISION_PAIRS", "250"))
SECONDS = 20.0 if NUM_EXAMPLES <= 250 else float("inf")
# A machine that tries fewer within that time fails the test: it has shown nothing.
MIN_EXAMPLES = 50
RESPONSES = "/v1/responses"
HALF = "\ud800"
FORMS = [
    {"choice": ["yes", "no"]}, {"choice": [""]}, {"choice": [HALF]}, {"choice": ["a"] * 256},
    {"regex": ""}, {"regex": "a*"}, {"regex": "[0-9]{2}"}, {"regex": "(("}, {"regex": HALF},
    {"json": {}}, {"json": {"type": "integer"}}, {"json": {"enum": []}}, {"json": {HALF: HALF}}, {},
]  # fmt: skip
FIELDS = {
    "temperature": [0, 5e-324, 1e-40, 1e-6, 1, 2, -1, 1e308],
    "top_p": [5e-324, 1e-40, 0.5, 1, 0],
    "top_k": [-1, 0, 1, 4096, 2**31 - 1, 2**31],
    "min_p": [0, 5e-324, 1],
    "repetition_penalty": [5e-324, 1e-40, 1, 10, 0],
    "presence_penalty": [-2, 2],
    "frequency_penalty": [-2, 2],
    "min_tokens": [0, 1, 3, 4, 5, 2**63],
    "max_tokens": [1, 2, 40, 2**63],
    "max_completion_tokens": [3, 2**63],
    "ignore_eos": [True, False],
    "stop_token_ids": [[], [0], [2], [4095], [4096], [999_999], [2**63], [*range(64)], [-1]],
    "stop": ["e", [], [""], ["\0"], HALF, ["a"] * 4, ["a"] * 5],
    "seed": [-(2**63), 2**63 - 1, 0, 2**63],
    "n": [1, 2, 8, 9, 0],
    "logprobs": [True, False],
    "top_logprobs": [0, 20, 21],
    "logit_bias": [{"4095": 100}, {"4096": 1}, {"0": -100}, {"999999999": 1}, {"x": 1},
                   {str(i): -100 for i in range(1024)}, {"2": 100}],
    "structured_outputs": FORMS,
    "response_format": [{"type": "json_object"}, {"type": "text"}, {"type": HALF},
                        {"type": "json_schema", "json_schema": {"schema": {"const": 1}}},
                        {"type": "json_schema", "json_schema": {"name": HALF, "schema": {}}}],
    "stream": [True, False],
    "stream_options": [{"include_usage": True}, {HALF: 1}],
    "cache_salt": ["", HALF, "\0", "a" * 256],
    "prompt_cache_key": [HALF, "b"],
    "messages": [user(HALF), user("\0"), user(""), [], [{"role": HALF, "content": "Hi"}]],
    "model": [HALF, "", "tiny"],
    "user": [HALF, 3],
    HALF: [1],
}  # fmt: skip
NAMES = sorted(FIELDS)


@pytest.fixture(scope="module")
def service():
    made = Service(load("tiny"), ServerSettings(name="tiny"))
    yield made
    assert made.supervisor.num_restarts == 0
    made.close()


@cache
def app_of(service):
    return create_app(service)


def post(service, *bodies, path=CHAT):
    """Sends bodies at the same time to the application of a service."""

    async def send_all():
        transport = httpx2.ASGITransport(app_of(service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            sent = (http.post(path, content=json.dumps(one), headers=JSON) for one in bodies)
            return await asyncio.gather(*sent)

    return asyncio.run(send_all())


def check_answer(answer, body):
    said = (answer.status_code, answer.text[:300], ascii(body)[:600])
    assert answer.status_code == 200 or 400 <= answer.status_code < 500, said
    if answer.status_code != 200:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}, said
    elif answer.headers["content-type"].startswith("text/event-stream"):
        events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
        assert events, said
        for event in map(json.loads, events):
            error = event.get("error")
            assert error is None or error["type"] != "server_error", (error, said)
            assert event.get("type") != "response.failed", (event, said)


@st.composite
def pairs(draw):
    """Returns two fields with one of their values each, and sometimes a third."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=3, unique=True))
    return {name: draw(st.sampled_from(FIELDS[name])) for name in names}


def test_pairs_of_fields(service):
    began, tried = time.monotonic(), []

    @settings(max_examples=NUM_EXAMPLES, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(fields=pairs())
    def ask(fields):
        if time.monotonic() - began > SECONDS:
            return
        tried.append(fields)
        body = GOOD | {"max_tokens": 4} | fields
        answer, good = post(service, body, GOOD)
        check_answer(answer, body)
        assert good.status_code == 200, good.text

    ask()
    assert post(service, GOOD)[0].status_code == 200
    assert len(tried) >= min(MIN_EXAMPLES, NUM_EXAMPLES), "too slow to have tried anything"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"stop_token_ids": [999_999], "min_tokens": 1}, 400),
        ({"temperature": 1e-40}, 200),
        ({"repetition_penalty": 1e-40, "temperature": 1}, 200),
        ({"top_p": 5e-324, "temperature": 1}, 200),
        ({"structured_outputs": {"choice": ["yes", "no"]}, "min_tokens": 4, "temperature": 1}, 200),
        ({"structured_outputs": {"choice": ["yes", "no"]}, "ignore_eos": True}, 200),
        ({"structured_outputs": {"regex": "[0-9]{2}"}, "ignore_eos": True, "n": 2}, 200),
        ({"response_format": {"type": "json_object"}, "ignore_eos": True}, 200),
        ({"cache_salt": HALF}, 200),
    ],
)
def test_pairs_that_have_a_right_answer(service, fields, status):
    for stream in (False, True):
        body = GOOD | {"max_tokens": 6, "stream": stream} | fields
        (answer,) = post(service, body)
        check_answer(answer, body)
        assert answer.status_code == status, answer.text
        if status == 400:
            assert answer.json()["error"]["param"] == "stop_token_ids"


def test_others_go_on_beside_requests_that_are_wrong(service):
    wrong = GOOD | {"max_tokens": 4, "min_tokens": 1, "stop_token_ids": [999_999]}
    good = GOOD | {"max_tokens": 30, "ignore_eos": True, "stream": True}
    answers = post(service, good, wrong, wrong, good, wrong, wrong)
    assert [answer.status_code for answer in answers] == [200, 400, 400, 200, 400, 400]
    assert answers[0].text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [False, True])
def test_half_a_pair_in_a_response(service, stream):
    fields = {"model": "tiny", "input": "Hi", "max_output_tokens": 2, "stream": stream}
    for more in ({"instructions": HALF}, {"metadata": {HALF: HALF}}, {"user": HALF}):
        (answer,) = post(service, fields | more, path=RESPONSES)
        check_answer(answer, more)
        assert answer.status_code == 200


def test_a_bug_is_told_in_the_envelope(service, monkeypatch):
    def fail():
        raise KeyError("a fault of ours")

    monkeypatch.setattr(service, "new_chat_writer", fail)
    (answer,) = post(service, GOOD)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "fault of ours" not in answer.text


def test_a_bad_line_of_a_batch_refuses_no_other(tmp_path):
    fields = [
        {}, {"stop_token_ids": [999_999], "min_tokens": 1}, {},
        {"temperature": 1e-40}, {"structured_outputs": {"regex": "(("}}, {"user": HALF}, {},
    ]  # fmt: skip
    ids = ["a", "b", HALF, "c", "d", "e", "f"]
    lines = [
        {"custom_id": name, "method": "POST", "url": CHAT, "body": GOOD | own}
        for name, own in zip(ids, fields, strict=True)
    ]
    requests, output = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"
    requests.write_text("".join(json.dumps(line) + "\n" for line in lines))
    service = Service(load("tiny"), ServerSettings(name="tiny"))
    counts = run_batch(service, requests, output, num_at_a_time=2)
    assert (counts.answered, counts.refused) == (5, 2)
    assert run_batch(service, requests, output, num_at_a_time=2).kept == 7
    told = {one["custom_id"]: one for one in map(json.loads, output.read_text().splitlines())}
    assert set(told) == set(ids)
    assert {name for name in ids if told[name]["response"]["status_code"] != 200} == {"b", "d"}
    service.close()


@pytest.mark.slow
def test_one_key_cannot_fill_the_queue():
    keys = ("a-key-of-the-tests", "another-key-of-them")
    for given_keys, most in ((keys, 32), (keys[:1], 64), ((), 64)):
        service = Service(load("tiny"), ServerSettings(name="tiny", keys=given_keys))
        assert service.supervisor.engine.scheduler.max_waiting_per_tenant == most
        service.close()
