"""`serve --quantize` and `batch --quantize` answer with the weights in their fingerprint."""

import json
from dataclasses import replace

import httpx2
import pytest
from typer.testing import CliRunner

from onevision import Conversation, Message, load
from onevision.cli import app
from tests.serve.conftest import CHAT, start, stop, user

QUESTION = "Tell me about the number seven."
ASKED = {"model": "tiny", "messages": user(QUESTION), "max_tokens": 6, "logprobs": True}


def logprobs_of_model(quantize):
    """What the Python API answers: the log-probability of each token."""
    model = load("tiny", quantize=quantize)
    sampling = replace(model.sampling, max_new_tokens=6, logprobs=0)
    prompt = model.prompt(Conversation([Message("user", QUESTION)]))
    request = model.engine.submit(prompt, sampling)
    model.engine.run([request])
    return [token.logprob for token in request.answers[0].tokens]


def logprobs_of_completion(body):
    return [token["logprob"] for token in body["choices"][0]["logprobs"]["content"]]


@pytest.fixture(scope="module")
def expected():
    found = {kind: logprobs_of_model(kind) for kind in (None, "int8")}
    assert found[None] != found["int8"], "the two can be told apart"
    return found


def test_a_server_answers_with_the_weights_it_announces(tmp_path, expected):
    fingerprints = set()
    for quantize, options in ((None, ()), ("int8", ("--quantize", "int8"))):
        running = start(tmp_path, *options)
        try:
            body = httpx2.post(f"{running.url}{CHAT}", json=ASKED, timeout=60).json()
        finally:
            stop(running)
        assert logprobs_of_completion(body) == pytest.approx(expected[quantize], abs=1e-6)
        fingerprints.add(body["system_fingerprint"])
    assert len(fingerprints) == 2


def test_a_batch_is_answered_with_quantised_weights(tmp_path, expected):
    requests, output = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"
    line = {"custom_id": "1", "method": "POST", "url": CHAT, "body": ASKED}
    requests.write_text(json.dumps(line) + "\n")
    arguments = ["batch", str(requests), "-o", str(output), "--quantize", "int8"]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    body = json.loads(output.read_text())["response"]["body"]
    assert logprobs_of_completion(body) == pytest.approx(expected["int8"], abs=1e-6)
