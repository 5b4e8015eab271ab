"""What a body may cost: memory and time are bounded before it is parsed."""

import gc
import json
import time
import tracemalloc

import pytest

from onevision.serve.schema.chat_request import ChatRequest
from onevision.serve.schema.json_text import LONG_BYTES, parse_object
from onevision.serve.schema.problems import ApiError
from onevision.serve.schema.response_request import ResponsesRequest
from onevision.serve.settings import Limits
from tests.serve.conftest import CHAT, GOOD, JSON, check, user

LIMITS = Limits()
MIB = 2**20
HEAD = b'{"model":"tiny","messages":[{"role":"user","content":"Hi"}],'
# A small part of the largest body, so that the test is short; costs are in proportion.
SIZE = 3 * MIB


def parse(body):
    return parse_object(body, most_bytes=LIMITS.json_bytes, most_items=LIMITS.json_items)


def filled(text, count=None, *, separator=b","):
    return separator.join([text] * (count or SIZE // (len(text) + 1)))


def keys(count):
    return b",".join(b'"x%d":1' % number for number in range(count))


BODIES = {
    "empty lists": HEAD + b'"x":[' + filled(b"[]") + b"]}",
    "empty objects": HEAD + b'"x":[' + filled(b"{}") + b"]}",
    "numbers": HEAD + b'"seed":[' + filled(b"1") + b"]}",
    "floats": HEAD + b'"x":[' + filled(b"1e1") + b"]}",
    "empty strings": HEAD + b'"stop":[' + filled(b'""') + b"]}",
    "wrong biases": HEAD + b'"logit_bias":{' + keys(300_000) + b"}}",
    "wrong biases that fit": HEAD + b'"logit_bias":{' + keys(180_000) + b"}}",
    "items that fit": HEAD + b'"stop":[' + filled(b"0", 32_000) + b"]}",
    "wrong messages": b'{"model":"tiny","messages":[' + filled(b"{}", 30_000) + b"]}",
    "a text as wide as can be": b'{"model":"tiny","messages":"'
    + b"a" * SIZE
    + "🙂".encode()
    + b'"}',
    "the same, escaped": b'{"model":"tiny","messages":"' + b"a" * SIZE + b'\\ud83d\\ude42"}',
    "quotes": HEAD + b'"x":"' + filled(b'\\"', separator=b"") + b'"}',
    "backslashes": HEAD + b'"x":"' + b"\\\\" * (SIZE // 2) + b'"}',
    "spaces": HEAD + b" " * SIZE + b"}",
    "depth": HEAD + b'"x":' + b"[" * SIZE,
    "a long key": b'{"' + b"k" * SIZE + b'":1}',
    "many strings": HEAD + b'"x":[' + filled(b'"' + b"a" * LONG_BYTES + b'"') + b"]}",
    "a number": HEAD + b'"seed":' + b"9" * SIZE + b"}",
}


@pytest.mark.parametrize(
    ("form", "name"),
    [*((ChatRequest, name) for name in BODIES), (ResponsesRequest, "items that fit"),
     (ResponsesRequest, "wrong biases")],
)  # fmt: skip
def test_a_hostile_body_costs_little(form, name):
    body = BODIES[name]
    gc.collect()
    tracemalloc.start()
    began = time.thread_time()
    try:
        try:
            form.parse(body, LIMITS).to_generation(LIMITS)
        except ApiError as problem:
            assert problem.status in (400, 413)
        seconds = time.thread_time() - began
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A body holds its bytes and the strings in it; beside them little more than 100 MiB.
    assert peak < 1.2 * len(body) + 120 * MIB, f"{peak / MIB:.0f} MiB"
    assert seconds < 10  # tracemalloc makes it ten times slower


@pytest.mark.parametrize("name", ["empty lists", "wrong biases", "the same, escaped", "quotes"])
def test_the_server_refuses_them(http, name):
    check(http.post(CHAT, content=BODIES[name], headers=JSON), 413, "request_too_large")


URL = "data:image/png;base64," + "iVBORw0KGgo/+" * 1000


@pytest.mark.parametrize(
    "value",
    [
        {"url": URL},
        {"a": [URL, "b", {"c": URL + "d"}], "e": '"' + URL + '\\"', "f": URL[:LONG_BYTES]},
        {"n\\": '\\' * 5001 + '"', "x": '"' * 5000, "\\": URL},
        {"text": "\u4e2d" * 5000, "other": URL, "last": "\n" * 6000},
        {"": "", "a": "\x7f" * 5000, "b": " " * 5000, "c": "\u00e9" + "a" * 5000},
        {"pad": [1, 2], "u": "\ud83d\ude42".encode("utf-16", "surrogatepass").decode("utf-16")},
    ],
)  # fmt: skip
@pytest.mark.parametrize("options", [{}, {"ensure_ascii": False}, {"indent": 4999}])
def test_long_strings_come_back_as_they_were(value, options):
    assert parse(json.dumps(value, **options).encode()) == value


def test_slashes_as_php_writes_them():
    text = json.dumps({"url": URL}).replace("/", "\\/")
    assert parse(text.encode()) == {"url": URL}


@pytest.mark.parametrize("name", ["a" * 32 + "0", "0", ""])
def test_no_string_can_name_a_place_in_the_body(name):
    value = {"a": name, "b": URL}
    assert parse(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"a": 1, "a": 2}', "key twice"),
        (b'{"url": "' + URL.encode() + b'" x}', "delimiter"),
        (b'{"url": "' + URL.encode() + b'"', "delimiter"),
        (b'{"url": "' + URL.encode(), "Unterminated"),
        (b'{"url": "' + URL.encode() + b'\n"}', "control character"),
        (b'{"' + URL.encode() + b'": 1}', "a key has more"),
        (b'["' + URL.encode() + b'"]', "not an object"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'"', "Unterminated"),
        (b'\\"', "Expecting value"),
    ],
)
def test_what_is_no_object_is_refused_in_words(body, reason):
    with pytest.raises(ApiError, match=reason) as caught:
        parse(body)
    assert caught.value.code == "invalid_json"


def test_a_question_as_long_as_allowed_is_parsed():
    """256 KiB of characters that JSON escapes sixfold."""
    text = "\x01" * LIMITS.text_bytes
    body = json.dumps({"model": "tiny", "messages": user(text)}).encode()
    assert ChatRequest.parse(body, LIMITS).messages[0].content == text


def test_an_answer_with_many_logprobs_delays_nobody(http):
    """Whole or streamed, its JSON is valid, and complete to the last token."""
    asked = GOOD | {
        "max_tokens": 70, "min_tokens": 70, "ignore_eos": True, "n": 2, "temperature": 1,
        "logprobs": True, "top_logprobs": 20, "seed": 1,
    }  # fmt: skip
    whole = http.post(CHAT, json=asked).json()
    for choice in whole["choices"]:
        content = choice["logprobs"]["content"]
        assert len(content) == 70
        assert all(len(token["top_logprobs"]) == 20 for token in content)
        assert all(bytes(token["bytes"]).decode() == token["token"] for token in content)
        assert content[0]["token"] in choice["message"]["content"]
        assert all(token["logprob"] <= 0 for token in content)
    streamed = [[], []]
    with http.stream("POST", CHAT, json=asked | {"stream": True}) as answer:
        for text in answer.iter_lines():
            if text.startswith("data: {"):
                for choice in json.loads(text[6:])["choices"]:
                    if choice["logprobs"]:
                        streamed[choice["index"]] += choice["logprobs"]["content"]
    assert [len(one) for one in streamed] == [70, 70]


def test_a_response_repeats_its_logprobs_in_every_closing_event(http):
    asked = {"model": "tiny", "input": "Hi", "max_output_tokens": 5, "top_logprobs": 3}
    whole = http.post("/v1/responses", json=asked).json()
    content = whole["output"][0]["content"][0]["logprobs"]
    assert len(content) == whole["usage"]["output_tokens"]
    with http.stream("POST", "/v1/responses", json=asked | {"stream": True}) as answer:
        events = [json.loads(one[6:]) for one in answer.iter_lines() if one.startswith("data: {")]
    ends = {event["type"]: event for event in events[-4:]}
    done = ends["response.output_text.done"]["logprobs"]
    assert [token["token"] for token in done] == [token["token"] for token in content]
    assert ends["response.content_part.done"]["part"]["logprobs"] == done
    assert ends["response.output_item.done"]["item"]["content"][0]["logprobs"] == done
    assert events[-1]["response"]["output"][0]["content"][0]["logprobs"] == done
