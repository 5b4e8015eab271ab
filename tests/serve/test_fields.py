"""Fields that are not known: refused with what to use instead, unless they cannot matter."""

import asyncio
import json
from functools import cache

import httpx2
import pytest

from onevision import load
from onevision.errors import InputError
from onevision.serve.app import create_app
from onevision.serve.batch import run_batch
from onevision.serve.service import Service
from onevision.serve.settings import ServerSettings
from tests.serve.conftest import CHAT, GOOD, image_part, text_part, user, video_part

RESPONSES, TOKENIZE = "/v1/responses", "/v1/tokenize"
ASKED = {"model": "tiny", "input": "Hi", "max_output_tokens": 1}
FRAMES = {"type": "video", "video": [image_part()]}


@pytest.fixture(scope="module")
def service():
    made = Service(load("tiny"), ServerSettings(name="tiny"))
    yield made
    made.close()


@cache
def app_of(service):
    return create_app(service)


def post(service, body, path=CHAT):
    async def send():
        transport = httpx2.ASGITransport(app_of(service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            return await http.post(path, json=body)

    return asyncio.run(send())


def refusal(answer):
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["code"] == "unsupported_parameter", error
    return error["param"], error["message"]


def message(**fields):
    return {"messages": [{"role": "user", "content": "What is this?"} | fields]}


def part(one, **fields):
    return {"messages": user(one | fields, text_part())}


def form(**fields):
    schema = {"name": "a", "schema": {"type": "integer"}}
    return {"response_format": {"type": "json_schema", "json_schema": schema} | fields}


# What is added to a chat request; the field that is named; what to use instead.
CHATS = [
    (message(images=["iVBORw0KGgo="]), "messages[0].images", "content part"),
    (message(image="a.png"), "messages[0].image", "content part"),
    (message(videos=["a.mp4"]), "messages[0].videos", "content part"),
    (message(tool_calls=[{"id": "1"}]), "messages[0].tool_calls", "tools"),
    (message(contents="Hi"), "messages[0].contents", "did you mean content?"),
    (part(image_part(), max_pixels=9), "messages[0].content[0].max_pixels", "detail"),
    (part(image_part(), modalities="multi-images"), "messages[0].content[0].modalities", "detail"),
    (part(image_part(detai="low")), "messages[0].content[0].image_url.detai", "mean detail?"),
    (part(video_part(), nframes=4), "messages[0].content[0].nframes", "num_frames"),
    (part(video_part(), video_start=1), "messages[0].content[0].video_start", "use start"),
    (part(video_part(), detail="low"), "messages[0].content[0].detail", "leave it out"),
    (part(FRAMES, fps=2), "messages[0].content[0].fps", "leave it out"),
    (part(text_part(), image_url="a"), "messages[0].content[0].image_url", "content part"),
    (form(schema={}), "response_format.schema", "leave it out"),
    ({"structured_outputs": {"choice": ["a"], "grammar": "x"}}, "structured_outputs.grammar",
     "regex"),
    ({"images": ["iVBORw0KGgo="]}, "images", "content part"),
    ({"options": {"temperature": 1}}, "options", "fields of the request"),
    ({"format": "json"}, "format", "response_format"),
    ({"guided_json": {}, "guided_regex": "a"}, "guided_regex", "structured_outputs.regex"),
    ({"max_new_tokens": 3}, "max_new_tokens", "max_tokens"),
    ({"max_output_tokens": 3}, "max_output_tokens", "max_tokens"),
    ({"temperatures": 1}, "temperatures", "did you mean temperature?"),
    ({"top-p": 0.5}, "top-p", "did you mean top_p?"),
    ({"topP": 0.5}, "topP", "did you mean top_p?"),
    ({"stop_token_id": [3]}, "stop_token_id", "did you mean stop_token_ids?"),
    ({"chat_template": "x"}, "chat_template", "leave it out"),
    ({"skip_special_tokens": False}, "skip_special_tokens", "leave it out"),
    ({"continue_final_message": True}, "continue_final_message", "leave it out"),
    ({"system": "Be brief."}, "system", "role system"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param", "instead"), CHATS, ids=[case[1] for case in CHATS])
def test_a_field_that_would_change_the_answer_is_refused(service, fields, param, instead):
    for path in (CHAT, TOKENIZE):
        named, text = refusal(post(service, GOOD | fields, path))
        assert named == param
        assert instead in text


@pytest.mark.parametrize(
    ("fields", "param", "instead"),
    [
        ({"messages": user("Hi")}, "messages", "use input"),
        ({"max_tokens": 3}, "max_tokens", "use max_output_tokens"),
        ({"response_format": {"type": "json_object"}}, "response_format", "use text.format"),
        ({"seed": 3}, "seed", "/v1/chat/completions"),
        ({"stop": "a"}, "stop", "/v1/chat/completions"),
        ({"images": ["a"]}, "images", "content part"),
        ({"instruction": "Hi"}, "instruction", "did you mean instructions?"),
        ({"input": [{"role": "user", "content": "Hi", "images": ["a"]}]}, "input[0].images",
         "content part"),
        ({"input": user({"type": "input_text", "text": "a", "file_id": "f"})},
         "input[0].content[0].file_id", "content part"),
        ({"text": {"format": {"type": "text", "strict": True}}}, "text.format.strict", "leave"),
        ({"text": {"formats": {}}}, "text.formats", "did you mean format?"),
    ],
)  # fmt: skip
def test_the_same_in_responses(service, fields, param, instead):
    named, text = refusal(post(service, ASKED | fields, RESPONSES))
    assert named == param
    assert instead in text


@pytest.mark.parametrize(
    "fields",
    [
        message(tool_calls=None, images=None),
        message(cache_control={"type": "ephemeral"}),
        part(image_part(), uuid="a", filename="b.png"),
        form() | {"tools": [], "functions": None, "echo": False, "modalities": ["text"]},
        {"add_generation_prompt": True, "skip_special_tokens": True, "best_of": 1},
        {"stream_options": {"include_usage": True, "include_obfuscation": False}},
        {"user": "me", "metadata": {"a": "b"}, "service_tier": "auto", "store": False},
    ],
)
def test_a_field_that_asks_for_nothing_is_accepted(service, fields):
    answer = post(service, GOOD | fields)
    assert answer.status_code == 200, answer.text
    assert "x-ignored-params" not in answer.headers


def test_an_answer_can_be_sent_back(service):
    """Clients append what they received; its fields have no effect."""
    chat = post(service, GOOD).json()["choices"][0]["message"]
    extra = {"annotations": [], "audio": None, "tool_calls": None, "reasoning_content": "x"}
    talk = [*user("Hi"), chat | extra, *user("And?")]
    assert post(service, GOOD | {"messages": talk}).status_code == 200
    output = post(service, ASKED, RESPONSES).json()["output"]
    again = [*user("Hi"), *output, *user("And?")]
    assert post(service, ASKED | {"input": again}, RESPONSES).status_code == 200


def test_unknown_and_harmless_fields_are_named_and_counted(service):
    before = service.metrics.ignored_fields._value.get()
    answer = post(service, GOOD | {"keep_alive": 5} | message(name="Ann"))
    assert answer.status_code == 200
    assert answer.headers["x-ignored-params"] == "keep_alive,messages[0].name"
    assert service.metrics.ignored_fields._value.get() == before + 2


@pytest.mark.parametrize(
    ("content", "param"),
    [
        (image_part(detail="low") | {"detail": "high"}, "messages[0].content[0].detail"),
        ({"type": "video", "video": [image_part(), image_part(detail="low")]},
         "messages[0].content[0].video[1].detail"),
    ],
)  # fmt: skip
def test_a_detail_that_cannot_be_followed_is_refused(service, content, param):
    answer = post(service, GOOD | {"messages": user(content)})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("asked", "words"),
    [({"start": 50}, "no frame between 50"), ({"start": 60, "end": 70}, "runs from 0 to"),
     ({"start": 9.5, "fps": 2}, "no frame between 9.5"), ({"start": 1e300}, "runs from 0 to")],
)  # fmt: skip
def test_a_start_past_the_end_of_a_video_is_told(service, asked, words):
    answer = post(service, GOOD | {"messages": user(video_part(**asked), text_part())})
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


def requests_in(path, *lines, encoding="utf-8", indent=None):
    path.write_text("\n".join(json.dumps(one, indent=indent) for one in lines), encoding)
    return path


def line(name, **fields):
    return {"custom_id": name, "method": "POST", "url": CHAT, "body": GOOD | fields}


def test_a_batch_refuses_and_counts_the_same_fields(service, tmp_path):
    lines = [line("a"), line("b", **message(images=["x"])), line("c", keep_alive=1)]
    output = tmp_path / "answers.jsonl"
    counts = run_batch(service, requests_in(tmp_path / "r", *lines), output, num_at_a_time=1)
    assert (counts.answered, counts.refused, counts.ignored) == (2, 1, {"keep_alive": 1})
    told = {one["custom_id"]: one for one in map(json.loads, output.read_text().splitlines())}
    assert told["b"]["response"]["body"]["error"]["param"] == "messages[0].images"
    with pytest.raises(InputError, match=r"r:1: 'images' is not a field of a request"):
        run_batch(service, requests_in(tmp_path / "r", lines[0] | {"images": []}), tmp_path / "o",
                  num_at_a_time=1)  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_batch_in_another_encoding_or_over_several_lines(service, tmp_path, encoding, indent):
    lines = [line("\u00e9"), line("\u4e2d", **message(content="\u4e2d"))]
    path = requests_in(tmp_path / "r", *lines, encoding=encoding, indent=indent)
    counts = run_batch(service, path, tmp_path / "answers.jsonl", num_at_a_time=1)
    assert (counts.answered, counts.refused) == (2, 0)
    path.write_text(path.read_text(encoding) + "\nnot json", encoding)
    with pytest.raises(InputError, match="not JSON"):
        run_batch(service, path, tmp_path / "answers.jsonl", num_at_a_time=1)
