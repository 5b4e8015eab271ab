"""`onevision batch`: every request is answered once, even after an interruption."""

import json

import pytest

from onevision import load
from onevision.errors import InputError
from onevision.serve.batch import run_batch
from onevision.serve.service import Service
from onevision.serve.settings import ServerSettings
from tests.serve.conftest import image_part, text_part, user


def line(custom_id, messages, **fields):
    body = {"model": "tiny", "messages": messages, "max_tokens": 3} | fields
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def test_a_batch_resumes_where_it_was_interrupted(tmp_path):
    requests, output = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"
    asked = [
        line("words", user("Hi")),
        line("picture", user(image_part(), text_part())),
        line("wrong", user("Hi"), temperature=-1),
    ]
    requests.write_text("".join(json.dumps(one) + "\n" for one in asked))
    service = Service(load("tiny"), ServerSettings(name="tiny"))
    counts = run_batch(service, requests, output, num_at_a_time=2)
    assert (counts.answered, counts.refused, counts.kept) == (2, 1, 0)
    told = {one["custom_id"]: one for one in map(json.loads, output.read_text().splitlines())}
    assert told["picture"]["response"]["body"]["usage"]["completion_tokens"] > 0
    assert told["wrong"]["response"]["status_code"] == 400
    assert told["wrong"]["response"]["body"]["error"]["param"] == "temperature"
    whole = output.read_bytes().splitlines(keepends=True)
    output.write_bytes(whole[0] + whole[1][:20])
    counts = run_batch(service, requests, output, num_at_a_time=2)
    assert counts.kept == 1
    again = [json.loads(one)["custom_id"] for one in output.read_text().splitlines()]
    assert sorted(again) == ["picture", "words", "wrong"]
    requests.write_text('{"custom_id": "a"}\n')
    with pytest.raises(InputError, match="requests.jsonl:1"):
        run_batch(service, requests, output, num_at_a_time=1)
    service.close()
