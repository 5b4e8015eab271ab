"""A request to a stream: HTTP in, server-sent events out, with the answer of the Python API."""

import io
import json

from PIL import Image as PIL

from onevision import Conversation, Image, Message, Text, load
from tests.serve.conftest import CHAT, encoded, image_part, square, text_part, user

QUESTION = "What colour is the square?"


def events_of(http, body):
    with http.stream("POST", CHAT, json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_a_request_becomes_a_stream_of_the_answer(http):
    body = {
        "model": "tiny", "messages": user(image_part(), text_part(QUESTION)), "max_tokens": 12,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    first, *deltas, end, usage = events_of(http, body)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert end["choices"][0]["delta"] == {}
    assert {event["id"] for event in (first, *deltas, end, usage)} == {first["id"]}

    picture = PIL.open(io.BytesIO(encoded(square())))
    talk = Conversation([Message("user", [Image(picture), Text(QUESTION)])])
    expected = load("tiny").ask(talk, max_new_tokens=12)
    text = "".join(event["choices"][0]["delta"]["content"] for event in deltas)
    assert text.strip() == expected.text == "red"
    assert end["choices"][0]["finish_reason"] == expected.finish_reason
    assert usage["usage"]["prompt_tokens"] == expected.usage.prompt_tokens
    assert usage["usage"]["completion_tokens"] == expected.usage.completion_tokens


def test_tokens_are_counted_while_an_answer_is_written(http, server):
    names = ["onevision:prompt_tokens_total", "onevision:generation_tokens_total"]

    def count():
        values = server.metrics
        return [int(values[name]) for name in names]

    body = {
        "model": "tiny", "messages": user(text_part("Count.")), "max_tokens": 3000,
        "min_tokens": 3000, "ignore_eos": True, "stream": True,
    }  # fmt: skip
    prompt, generated = count()
    with http.stream("POST", CHAT, json=body) as response:
        lines = response.iter_lines()
        seen = sum(1 for _ in zip(range(40), lines, strict=False))
        assert seen == 40
        read, written = count()
        assert server.metrics["onevision:num_requests_running"] == 1
    assert read > prompt and 10 <= written - generated < 3000
    server.wait_until_idle()
    assert count()[0] == read  # once
