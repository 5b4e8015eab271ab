"""`keep` over HTTP, in batch files, on the command line and in evaluations: the same answers."""

import asyncio
import json

import httpx2
import pytest

from onevision import Conversation, Image, Message, Text, Video, load
from onevision.eval.heldout import heldout_questions, run_heldout
from onevision.serve.app import create_app
from onevision.serve.batch import run_batch
from onevision.serve.service import Service
from onevision.serve.settings import ServerSettings
from tests.cli.invoke import fail, invoke
from tests.serve.conftest import CHAT, encoded, image_part, square, text_part, user, video_part

ASK = "What colour is the square?"
FRAMES = {"type": "video", "video": [image_part(), image_part()]}


@pytest.fixture(scope="module")
def model():
    return load("tiny")


@pytest.fixture(scope="module")
def service(model):
    made = Service(model, ServerSettings(name="tiny"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def app(service):
    return create_app(service)


def post(app, body, path=CHAT):
    async def send():
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            return await http.post(path, json=body)

    return asyncio.run(send())


def asked(*parts, **fields):
    body = {"model": "tiny", "messages": user(*parts, text_part(ASK)), "max_tokens": 8}
    return body | fields


def test_all_doors_give_the_same_answer(model, service, app, tmp_path):
    picture = tmp_path / "square.png"
    picture.write_bytes(encoded(square(side=150)))
    expected = model.ask(ASK, images=picture, keep=0.5, max_new_tokens=8)
    assert expected.usage.dropped_tokens > 40

    body = asked(image_part(picture.read_bytes()), keep=0.5)
    chat = post(app, body).json()
    assert chat["choices"][0]["message"]["content"].strip() == expected.text
    details = chat["usage"]["prompt_tokens_details"]
    assert details["image_tokens"] == expected.usage.image_tokens
    assert details["dropped_tokens"] == expected.usage.dropped_tokens
    counted = post(app, body, "/v1/tokenize").json()
    assert counted["prompt_tokens"] == chat["usage"]["prompt_tokens"]
    assert counted["media"][0]["dropped"] == counted["dropped_tokens"] == details["dropped_tokens"]

    part = {
        "type": "input_image",
        "image_url": body["messages"][0]["content"][0]["image_url"]["url"],
    }
    given = [{"role": "user", "content": [part, {"type": "input_text", "text": ASK}]}]
    wanted = {"model": "tiny", "input": given, "max_output_tokens": 8, "keep": 0.5}
    response = post(app, wanted, "/v1/responses").json()
    assert response["output"][0]["content"][0]["text"].strip() == expected.text
    assert response["usage"]["input_tokens_details"]["dropped_tokens"] == details["dropped_tokens"]

    line = {"custom_id": "a", "method": "POST", "url": CHAT, "body": body}
    (tmp_path / "asked.jsonl").write_text(json.dumps(line))
    run_batch(service, tmp_path / "asked.jsonl", tmp_path / "told.jsonl", num_at_a_time=1)
    told = json.loads((tmp_path / "told.jsonl").read_text())["response"]["body"]
    assert told["choices"] == chat["choices"]
    assert told["usage"] | {"prompt_tokens_details": 0} == chat["usage"] | {
        "prompt_tokens_details": 0
    }

    printed = json.loads(invoke("ask", ASK, "-i", picture, "--keep", 0.5, "--json"))
    assert printed["text"] == expected.text
    assert printed["usage"]["dropped_tokens"] == expected.usage.dropped_tokens


def test_a_part_has_a_keep_of_its_own(app):
    own = image_part() | {"keep": 0.2}
    body = asked(own, image_part(), video_part(num_frames=4, keep=1), FRAMES, keep=0.5)
    media = post(app, body, "/v1/tokenize").json()["media"]
    assert [one["tokens"] for one in media] == [10 + 1, 25 + 1, 64 + 1, 16 + 1]
    assert [one["dropped"] for one in media] == [39, 24, 0, 16]
    url = image_part()["image_url"]["url"]
    given = [{"role": "user", "content": [{"type": "input_image", "image_url": url, "keep": 0.2}]}]
    found = post(app, {"model": "tiny", "input": given}, "/v1/responses").json()
    assert found["usage"]["input_tokens_details"]["dropped_tokens"] > 0


@pytest.mark.parametrize("bad", [0, 0.04, 1.5, True, "0.5", [0.5]])
@pytest.mark.parametrize("path", [CHAT, "/v1/tokenize", "/v1/responses"])
def test_what_is_no_share_is_refused_by_every_route(app, path, bad):
    body = {"model": "tiny", "input": "Hi"} if "resp" in path else asked(image_part())
    answer = post(app, body | {"keep": bad}, path)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "keep")


@pytest.mark.parametrize(
    "part",
    [image_part() | {"keep": 2}, video_part(keep=0), FRAMES | {"keep": -1}, image_part(keep=0.5),
     {"type": "video", "video": [image_part() | {"keep": 0.5}]}, text_part() | {"keep": 0.5}],
    ids=["image", "video", "frames", "inside the url", "one frame", "text"],
)  # fmt: skip
def test_a_part_with_a_wrong_keep_is_refused(app, part):
    answer = post(app, asked(part))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].endswith("keep")


def test_held_out_questions_are_those_that_are_asked(model, tmp_path):
    result = run_heldout(model, "single_image", count=3, keep=0.5)
    alone = [
        model.ask(
            Conversation([Message("user", [*item.media, Text(item.question.question)])]),
            keep=0.5, max_new_tokens=24,
        ).text
        for item in heldout_questions("single_image", count=3)
    ]  # fmt: skip
    assert list(result.answers) == alone
    path = tmp_path / "answers.jsonl"
    invoke(
        "eval", "--scenario", "single_image", "--count", 3, "--no-blind", "--keep", 0.5, "-o", path
    )
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["answer"] for record in records] == alone
    assert {record["keep"] for record in records} == {0.5}


def test_own_records_are_asked_with_it(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture = tmp_path / "a.png"
    picture.write_bytes(encoded(square()))
    turns = [{"from": "human", "value": f"<image>\n{ASK}"}, {"from": "gpt", "value": "red"}]
    (tmp_path / "own.json").write_text(json.dumps([{"image": "a.png", "conversations": turns}]))
    command = ("eval", "--data", "own.json", "-o", "out")
    printed = invoke(*command, "--keep", 0.25)
    assert "own: 1 answer with 0.25 of the visual tokens, exact_match" in printed
    line = json.loads((tmp_path / "out" / "own" / "answers.jsonl").read_text())
    expected = model.ask(ASK, images=picture, keep=0.25)
    assert (line["answer"], line["tokens_in"]) == (expected.text, expected.usage.prompt_tokens)
    assert "keep: 0.25 -> None" in fail(*command)
    assert "--keep has no effect on answers that are there" in fail(
        *command, "--keep", 0.25, "--score-only"
    )


@pytest.mark.parametrize("bad", ["0", "nan", "1.2"])
def test_commands_refuse_what_is_no_share(bad, tmp_path):
    expected = f"keep is {float(bad)!r}; expected a number from 0.05 to 1"
    for command in (
        ("ask", ASK), ("chat",), ("eval", "--count", 1), ("explain", "--size", "9x9"),
    ):  # fmt: skip
        assert fail(*command, "--keep", bad) == expected


def test_explain_counts_and_draws_what_stays(model, tmp_path):
    picture, drawn = tmp_path / "a.png", tmp_path / "drawn.png"
    picture.write_bytes(encoded(square(side=150)))
    tokens = model.ask(ASK, images=picture, keep=0.25, max_new_tokens=1).usage.image_tokens
    (told,) = json.loads(
        invoke("explain", picture, "-m", "tiny", "--keep", 0.25, "-o", drawn, "--json")
    )
    assert told["num_tokens"] == tokens
    assert drawn.stat().st_size > 1000
    printed = invoke("explain", picture, "-m", "tiny", "--keep", 0.25)
    assert f"{tokens} of {tokens + told['num_dropped']} (keep 0.25) visual tokens" in printed
    assert "0.5b is an architecture alone" in fail("explain", picture, "--keep", 0.5, "-o", drawn)


def test_training_has_no_such_setting(tmp_path):
    assert "keep" in fail("train", "align", "-o", tmp_path / "out", "--set", "keep=0.5")


def test_a_video_is_asked_about_as_it_is_served(model, app):
    frames = [square("red"), square("blue")]
    whole = model.ask(ASK, videos=Video(frames, keep=0.5), images=Image(square()), max_new_tokens=4)
    parts = [image_part(), {"type": "video", "keep": 0.5,
                            "video": [image_part(encoded(one)) for one in frames]}]  # fmt: skip
    served = post(app, asked(*parts, max_tokens=4)).json()
    assert served["choices"][0]["message"]["content"].strip() == whole.text
    assert served["usage"]["prompt_tokens"] == whole.usage.prompt_tokens
