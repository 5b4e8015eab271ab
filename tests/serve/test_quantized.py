"""Every door takes `--quantize`, answers with these weights, and says what it computes in."""

import json
from dataclasses import replace

import httpx2
import pytest
from typer.testing import CliRunner

from onevision import Conversation, Message, load
from onevision.accelerate.quantize import QUANTIZED
from onevision.cli import app
from onevision.eval.benchmark import network_fingerprint
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
    found = {kind: logprobs_of_model(kind) for kind in (None, *QUANTIZED)}
    assert len({tuple(logprobs) for logprobs in found.values()}) == 4, "they can be told apart"
    return found


def test_a_server_answers_with_the_weights_it_announces(tmp_path, expected):
    fingerprints = set()
    for quantize, options in ((None, ()), ("int8", ("--quantize", "int8"))):
        running = start(tmp_path, *options)
        try:
            body = httpx2.post(f"{running.url}{CHAT}", json=ASKED, timeout=60).json()
            announced = httpx2.get(f"{running.url}/version", timeout=60).json()
        finally:
            stop(running)
        assert logprobs_of_completion(body) == pytest.approx(expected[quantize], abs=1e-6)
        assert announced["system_fingerprint"] == body["system_fingerprint"]
        assert announced["arithmetic"] == load("tiny", quantize=quantize).arithmetic
        fingerprints.add(body["system_fingerprint"])
    assert len(fingerprints) == 2


@pytest.mark.parametrize("kind", QUANTIZED)
def test_a_batch_is_answered_with_quantised_weights(tmp_path, expected, kind):
    requests, output = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"
    line = {"custom_id": "1", "method": "POST", "url": CHAT, "body": ASKED}
    requests.write_text(json.dumps(line) + "\n")
    arguments = ["batch", str(requests), "-o", str(output), "--quantize", kind]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    body = json.loads(output.read_text())["response"]["body"]
    assert logprobs_of_completion(body) == pytest.approx(expected[kind], abs=1e-6)


@pytest.mark.parametrize("kind", QUANTIZED)
def test_ask_says_what_it_computed_in(kind):
    arguments = ["ask", QUESTION, "--quantize", kind, "--max-new-tokens", "4", "--json"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    answer = json.loads(done.stdout)
    assert answer["text"]
    assert answer["arithmetic"].startswith(f"{kind} (")


@pytest.mark.parametrize("kind", QUANTIZED)
def test_an_evaluation_is_of_quantised_weights(tmp_path, kind):
    turns = [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": "It is odd."}]
    (tmp_path / "own.json").write_text(json.dumps([{"id": "1", "conversations": turns}]))
    arguments = ["eval", "--data", str(tmp_path / "own.json"), "--max-new-tokens", "4"]
    arguments += ["--output", str(tmp_path / "out"), "--quantize", kind]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    (run,) = (tmp_path / "out").rglob("run.json")
    assert network_fingerprint(load("tiny", quantize=kind)) in run.read_text()
