import base64
import time

import pytest

from onevision.endpoint import EndpointConfig, RefusedQueryError
from onevision.errors import ConfigError, JudgeError
from onevision.eval.judging.client import Endpoint, Query
from tests.eval.judge_server import serve

QUERY = Query(system="be brief", user="how are you?", temperature=0.5, max_tokens=7)


def endpoint(server, **settings):
    settings = {"model": "m", "first_wait_seconds": 0.001, "api_key": "secret"} | settings
    return Endpoint(EndpointConfig(base_url=server.url, **settings))


def test_a_question_and_its_answer():
    with serve(lambda words: "fine") as server:
        reply = endpoint(server).ask(QUERY)
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("fine", 5, 1)
    (sent,) = server.requests
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("m", 0.5, 7)
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]
    assert server.keys == ["Bearer secret"]


def test_pictures_travel_before_the_words():
    with serve(lambda words: words) as server:
        endpoint(server).ask(Query(system="", user="what?", images=(b"\x89PNG",)))
    ((message,),) = [sent["messages"] for sent in server.requests]
    link, text = message["content"]
    assert base64.b64decode(link["image_url"]["url"].removeprefix("data:image/png;base64,")) == (
        b"\x89PNG"
    )
    assert text == {"type": "text", "text": "what?"}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_troubles_are_waited_out(status):
    with serve(lambda words: "fine", failures=[(status, {})] * 3) as server:
        asker = endpoint(server)
        assert asker.ask(QUERY).text == "fine"
    assert asker.num_retries == 3


def test_the_wait_the_endpoint_asks_for_is_kept():
    with serve(lambda words: "fine", failures=[(429, {"Retry-After": "0.3"})]) as server:
        asker, begin = endpoint(server), time.monotonic()
        asker.ask(QUERY)
    assert time.monotonic() - begin > 0.3


DEEP = b"[" * 200_000 + b"]" * 200_000
BODIES = [
    b"<html>", b"{}", b'{"choices": [{"message": {}}]}', b"", b"[]", b"\xff\xfe{}", DEEP,
    b'{"choices": [{"message": {"content": %s}}]}' % DEEP, b'{"choices": %s}' % DEEP,
    b'{"choices": [{"message": {"content": "fine"}}], "usage": %s}' % (b'{"a":' * 100_000),
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_replies_that_are_no_completions_are_asked_again(body):
    with serve(lambda words: "fine", garbage=[body]) as server:
        assert endpoint(server).ask(QUERY).text == "fine"


def test_a_silent_endpoint_is_given_up():
    with serve(lambda words: "fine", delay_seconds=0.5) as server:
        asker = endpoint(server, timeout_seconds=0.05, max_attempts=2)
        with pytest.raises(JudgeError, match="in 2 attempts; the last one failed with: timed out"):
            asker.ask(QUERY)


def test_nobody_there(free_port):
    config = EndpointConfig(
        base_url=f"http://127.0.0.1:{free_port}/v1",
        model="m",
        max_attempts=2,
        first_wait_seconds=0.001,
    )
    with pytest.raises(JudgeError, match="Connection refused"):
        Endpoint(config).ask(QUERY)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_will_not_pass_ends_at_once(status):
    told = pytest.raises(JudgeError, match=f"HTTP {status} .*: not now")
    with serve(lambda words: "fine", failures=[(status, {})]) as server, told:
        endpoint(server).ask(QUERY)
    assert len(server.requests) == 1


def test_a_refused_question_is_not_the_end():
    with serve(lambda words: "fine", failures=[(400, {})]) as server:
        asker = endpoint(server)
        with pytest.raises(RefusedQueryError):
            asker.ask(QUERY)
        assert asker.ask(QUERY).text == "fine"


def test_the_key_follows_no_redirection():
    with serve(lambda words: "fine") as elsewhere:
        moved = (307, {"Location": f"{elsewhere.url}/chat/completions"})
        told = pytest.raises(JudgeError, match="HTTP 307")
        with serve(lambda words: "fine", failures=[moved]) as server, told:
            endpoint(server).ask(QUERY)
    assert elsewhere.requests == []


def test_settings_from_the_environment():
    config = EndpointConfig.from_environment(
        {
            "ONEVISION_JUDGE_URL": "http://127.0.0.1:9/v1/chat/completions",
            "ONEVISION_JUDGE_MODEL": "m",
            "ONEVISION_JUDGE_PRICES": "2.5,10",
            "OPENAI_API_KEY": "secret",
        }
    )
    assert config.base_url == "http://127.0.0.1:9/v1"
    assert (config.api_key, config.price_in, config.price_out) == ("secret", 2.5, 10)
    assert "secret" not in repr(config)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "set ONEVISION_JUDGE_MODEL"),
        ({"ONEVISION_JUDGE_MODEL": "m", "ONEVISION_JUDGE_URL": "judge"}, "address is 'judge'"),
        ({"ONEVISION_JUDGE_MODEL": "m", "ONEVISION_JUDGE_URL": "file:///x"}, "address is"),
        ({"ONEVISION_JUDGE_MODEL": "m", "ONEVISION_JUDGE_PRICES": "2"}, "expected two numbers"),
    ],
)
def test_settings_that_cannot_be_meant(environment, message):
    with pytest.raises(ConfigError, match=message):
        EndpointConfig.from_environment(environment)
