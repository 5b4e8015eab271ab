"""What OpenAI's own Python client expects of a server; the numbers are those of a checklist."""

import asyncio
import math
import time
from typing import Literal

import httpx2
import openai
import pytest
from pydantic import BaseModel

from tests.serve.conftest import (
    KEY,
    data_url,
    encoded,
    image_part,
    square,
    text_part,
    user,
    video_part,
)

LONG = {"min_tokens": 3000, "ignore_eos": True}


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


@pytest.fixture(scope="module")
def guarded(narrow):
    with openai.OpenAI(base_url=f"{narrow.url}/v1", api_key=KEY, max_retries=0) as opened:
        yield opened


def ask(client, messages, **options):
    options = {"max_tokens": 6, **options}
    return client.chat.completions.create(model="tiny", messages=messages, **options)


def text_of(completion) -> str:
    return completion.choices[0].message.content


def test_01_02_text_as_a_string_and_as_a_part(client):
    one = ask(client, user("What is this?"))
    two = ask(client, user(text_part()))
    assert text_of(one) == text_of(two) != ""
    assert one.usage.prompt_tokens == two.usage.prompt_tokens


def test_03_04_images_of_every_format_are_the_same_picture(client):
    question = text_part("What colour is the square?")
    answers = {
        form: ask(client, user(image_part(encoded(square(), form, **options)), question))
        for form, options in (
            ("PNG", {}), ("BMP", {}), ("GIF", {}), ("WEBP", {"lossless": True}),
            ("JPEG", {"quality": 95}),
        )
    }  # fmt: skip
    assert {one.usage.prompt_tokens_details.image_tokens for one in answers.values()} == {105}
    assert len({text_of(answers[form]) for form in ("PNG", "BMP", "GIF", "WEBP")}) == 1
    assert "red" in text_of(answers["PNG"])


def test_04_the_first_frame_of_an_animation_is_used(client):
    frames = [square("red"), square("blue")]
    moving = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    still = encoded(frames[0], "GIF")
    answers = [text_of(ask(client, user(image_part(d), text_part()))) for d in (moving, still)]
    assert answers[0] == answers[1]


def test_05_images_keep_their_places_between_texts(client):
    parts = [image_part(encoded(square(colour))) for colour in ("red", "blue", "green")]
    mixed = user(text_part("A"), parts[0], text_part("B"), parts[1], parts[2], text_part("C"))
    usage = ask(client, mixed).usage
    assert usage.prompt_tokens_details.image_tokens == 3 * 50
    swapped = user(text_part("A"), parts[1], text_part("B"), parts[0], parts[2], text_part("C"))
    likely = [
        ask(client, talk, logprobs=True, max_tokens=1).choices[0].logprobs.content[0].logprob
        for talk in (mixed, swapped)
    ]
    assert likely[0] != likely[1]


def test_06_detail_sets_the_tokens_of_an_image(client):
    tokens = {
        detail: ask(client, user(image_part(detail=detail), text_part()))
        .usage.prompt_tokens_details.image_tokens
        for detail in ("low", "high", "auto")
    }  # fmt: skip
    assert tokens == {"low": 49, "high": 105, "auto": 105}


def test_07_08_a_video_alone_with_an_image_and_as_frames(client):
    alone = ask(client, user(video_part(num_frames=3), text_part()))
    assert alone.usage.prompt_tokens_details.video_tokens == 3 * 16 + 1
    both = ask(client, user(image_part(), video_part(num_frames=2, fps=1.0), text_part()))
    details = both.usage.prompt_tokens_details
    assert (details.image_tokens, details.video_tokens) == (105, 2 * 16 + 1)
    frames = {"type": "video", "video": [image_part(), data_url(encoded(square("blue")))]}
    told = ask(client, user(frames, text_part()))
    assert told.usage.prompt_tokens_details.video_tokens == 2 * 16 + 1


def test_09_10_a_long_chat_with_an_early_image_and_an_empty_answer(client):
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "Be kind."},
        *user(image_part(), text_part()),
        {"role": "assistant", "content": None},
        *user("And its colour?"),
    ]
    assert ask(client, talk).usage.prompt_tokens_details.image_tokens == 105


def test_11_max_tokens_is_respected(client):
    short = ask(client, user("Hi"), max_completion_tokens=1, max_tokens=openai.NOT_GIVEN)
    assert short.choices[0].finish_reason == "length"
    assert short.usage.completion_tokens == 1


def test_12_stop_strings_end_an_answer_and_are_not_part_of_it(client):
    whole = text_of(ask(client, user(image_part(), text_part()), max_tokens=20))
    assert len(whole) > 9
    across = whole[2:7]  # begins and ends within tokens
    for stop in (across, ["never said", across]):
        cut = ask(client, user(image_part(), text_part()), max_tokens=20, stop=stop)
        assert (text_of(cut), cut.choices[0].finish_reason) == (whole[:2], "stop")


def test_13_several_answers_count_their_prompt_once(client):
    one = ask(client, user("Hi"), temperature=1, n=1)
    three = ask(client, user("Hi"), temperature=1, n=3, extra_body={"ignore_eos": True})
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    assert three.usage.prompt_tokens == one.usage.prompt_tokens
    assert three.usage.completion_tokens == 3 * 6


def test_14_15_20_seeds_greedy_and_top_k_are_repeatable(client):
    question = user("Make up a description.")
    seeded = [text_of(ask(client, question, temperature=1.5, seed=7)) for _ in range(2)]
    greedy = [text_of(ask(client, question, temperature=0)) for _ in range(2)]
    top = text_of(ask(client, question, temperature=1, extra_body={"top_k": 1}))
    assert seeded[0] == seeded[1] != greedy[0]
    assert greedy[0] == greedy[1] == top


def test_16_log_probabilities_of_every_token(client):
    told = ask(client, user("Hi"), logprobs=True, top_logprobs=5)
    content = told.choices[0].logprobs.content
    assert len(content) == told.usage.completion_tokens
    for token in content:
        assert sum(math.exp(one.logprob) for one in token.top_logprobs) <= 1 + 1e-6
        assert token.logprob == token.top_logprobs[0].logprob
    spelled = b"".join(bytes(token.bytes) for token in content).decode()
    assert spelled.startswith(text_of(told))


def test_17_a_bias_forces_a_token(client):
    forced = ask(client, user("Hi"), logit_bias={"100": 100}, max_tokens=3, logprobs=True)
    assert len({token.token for token in forced.choices[0].logprobs.content}) == 1


def test_18_19_constrained_answers(client):
    told = ask(client, user("Hi"), response_format={"type": "json_object"}, max_tokens=3)
    assert text_of(told).lstrip().startswith("{")

    class Answer(BaseModel):
        colour: Literal["red", "blue"]

    parsed = client.chat.completions.parse(
        model="tiny", messages=user(image_part(), text_part()), response_format=Answer
    )
    assert parsed.choices[0].message.parsed.colour in ("red", "blue")
    chosen = ask(client, user("Hi"), extra_body={"structured_outputs": {"choice": ["no", "yes"]}})
    assert text_of(chosen) in ("no", "yes")


def test_21_usage_adds_up_and_equals_tokenize(client, server):
    messages = user(image_part(), video_part(num_frames=2), text_part())
    usage = ask(client, messages).usage
    details = usage.prompt_tokens_details
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    kinds = (details.text_tokens, details.image_tokens, details.video_tokens)
    assert sum(kinds) == usage.prompt_tokens
    asked = {"model": "tiny", "messages": messages}
    counted = httpx2.post(f"{server.url}/v1/tokenize", json=asked).json()
    assert counted["prompt_tokens"] == usage.prompt_tokens
    assert [medium["tokens"] for medium in counted["media"]] == list(kinds[1:])
    again = ask(client, messages).usage
    assert again.prompt_tokens_details.cached_tokens > 0


def test_22_23_ids_and_headers(client):
    raw = client.chat.completions.with_raw_response.create(
        model="tiny", messages=user("Hi"), max_tokens=1, extra_body={"tempo": 1}
    )
    assert raw.headers["x-ignored-params"] == "tempo"
    assert raw.parse()._request_id == raw.headers["x-request-id"]
    assert int(raw.headers["x-processing-ms"]) >= 0


def test_24_models(client):
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").max_model_len == 8192
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt", messages=user("Hi"))


def test_25_26_27_a_stream_equals_the_whole_answer_with_usage_if_requested(client):
    options = {"temperature": 1, "seed": 3, "max_tokens": 12}
    whole = ask(client, user(image_part(), text_part()), **options)
    stream = ask(client, user(image_part(), text_part()), stream=True, **options)
    chunks = list(stream)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said == text_of(whole)
    assert all(chunk.usage is None for chunk in chunks)
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    costed = list(
        ask(client, user("Hi"), stream=True, stream_options={"include_usage": True})
    )  # fmt: skip
    assert costed[-1].choices == []
    assert costed[-1].usage.completion_tokens > 0


def test_28_several_answers_in_one_stream(client):
    ends = {}
    for chunk in ask(client, user("Hi"), n=2, temperature=1, stream=True):
        for choice in chunk.choices:
            assert choice.index not in ends
            if choice.finish_reason:
                ends[choice.index] = choice.finish_reason
    assert sorted(ends) == [0, 1]


def test_29_the_stream_helper_finds_its_events(client):
    with client.chat.completions.stream(
        model="tiny", messages=user("Hi"), max_tokens=4
    ) as stream:  # fmt: skip
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= set(kinds)
    assert text_of(final)


def test_30_closing_a_stream_frees_its_place(client, server):
    before = server.metrics["onevision:requests_aborted_total"]
    stream = ask(client, user("Hi"), stream=True, max_tokens=3000, extra_body=LONG)
    for _, _chunk in zip(range(3), stream, strict=False):
        pass
    stream.close()
    server.wait_until_idle()
    assert server.metrics["onevision:requests_aborted_total"] == before + 1


def test_31_sixteen_streams_at_a_time(server):
    async def one(client, number):
        stream = await client.chat.completions.create(
            model="tiny", messages=user(f"Hi {number}"), max_tokens=4, stream=True
        )
        return [chunk.choices[0].finish_reason async for chunk in stream][-1]

    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            return await asyncio.gather(*(one(client, number) for number in range(16)))

    assert set(asyncio.run(all_of_them())) <= {"stop", "length"}


def test_32_multibyte_characters_arrive_whole(client):
    words = "日本語🙂é" * 2
    options = {"extra_body": {"structured_outputs": {"choice": [words]}}, "max_tokens": 80}
    pieces = [
        chunk.choices[0].delta.content or ""
        for chunk in ask(client, user("Hi"), stream=True, **options)
    ]
    assert "".join(pieces) == words
    assert not any("�" in piece for piece in pieces)


def test_33_an_error_within_a_stream_is_raised(guarded, narrow):
    stream = ask(guarded, user("Hi"), stream=True, max_tokens=4000, extra_body=LONG)
    with stream, pytest.raises(openai.APIError, match="no whole answer"):
        for _ in stream:
            pass
    narrow.wait_until_idle()


def test_34_a_wrong_key(narrow):
    with (
        openai.OpenAI(base_url=f"{narrow.url}/v1", api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.models.list()
    assert caught.value.code == "invalid_api_key"


def test_35_36_37_what_is_wrong_with_a_request_and_where(client):
    broken = {"type": "image_url", "image_url": {"url": "data:image/png;base64,@@@@"}}
    for content, code, param in (
        ([text_part(), broken], "invalid_base64_image", "messages[0].content[1].image_url"),
        ([image_part(b"plain text")], "unsupported_image_media_type",
         "messages[0].content[0].image_url"),
        ("word " * 20_000, "context_length_exceeded", "messages"),
    ):  # fmt: skip
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, [{"role": "user", "content": content}])
        assert (caught.value.code, caught.value.param) == (code, param)


def test_38_a_full_queue_is_retried(narrow, guarded):
    asked = []
    counting = httpx2.Client(event_hooks={"request": [lambda _: asked.append(time.monotonic())]})
    eager = openai.OpenAI(
        base_url=f"{narrow.url}/v1", api_key=KEY, max_retries=1, http_client=counting
    )
    stream = ask(guarded, user("Hi"), stream=True, max_tokens=4000, extra_body=LONG)
    next(iter(stream))
    with eager, pytest.raises(openai.RateLimitError) as caught:
        ask(eager, user("Hi"))
    stream.close()
    assert caught.value.code == "queue_full"
    assert len(asked) == 2
    assert asked[1] - asked[0] >= 1
    narrow.wait_until_idle()


def test_39_40_the_envelope_is_everywhere(server):
    base = f"{server.url}/v1/chat/completions"
    kind = {"content-type": "application/json"}
    for answer, status, code in (
        (httpx2.post(base, content=b"{", headers=kind), 400, "invalid_json"),
        (httpx2.post(base, json={"model": "tiny"}), 400, "missing_field"),
        (httpx2.get(f"{server.url}/v1/nothing"), 404, "not_found"),
        (httpx2.get(base), 405, "method_not_allowed"),
        (httpx2.post(base, content=b"x"), 415, "unsupported_media_type"),
    ):
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (status, code)
        assert set(error) == {"message", "type", "param", "code"}


def test_41_a_body_that_is_too_large(guarded):
    with pytest.raises(openai.APIStatusError) as caught:
        ask(guarded, user("x" * 200_000))
    assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")


def test_42_a_client_that_times_out_frees_its_place(client, server):
    hasty = client.with_options(timeout=0.3)
    with pytest.raises(openai.APITimeoutError):
        ask(hasty, user("Hi"), max_tokens=3000, extra_body=LONG)
    server.wait_until_idle()


def test_43_44_48_responses_to_text_and_to_an_image(client):
    plain = client.responses.create(model="tiny", input="Hi", max_output_tokens=8)
    assert plain.output_text
    chat = ask(client, user("Hi"), max_tokens=8)
    assert plain.output_text == text_of(chat)
    parts = [{"type": "input_image", "image_url": data_url(encoded(square())), "detail": "auto"},
             {"type": "input_text", "text": "What is this?"}]  # fmt: skip
    seen = client.responses.create(
        model="tiny", input=[{"role": "user", "content": parts}], instructions="Be brief."
    )
    assert seen.usage.input_tokens_details.image_tokens == 105
    assert seen.status == "completed"


def test_45_46_a_streamed_response_has_every_event_in_order(client):
    with client.responses.stream(model="tiny", input="Hi", max_output_tokens=3) as stream:
        events = list(stream)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events if event.type != "response.output_text.delta"]
    assert kinds == [
        "response.created", "response.in_progress", "response.output_item.added",
        "response.content_part.added", "response.output_text.done", "response.content_part.done",
        "response.output_item.done", "response.incomplete",
    ]  # fmt: skip
    final = events[-1].response
    assert final.incomplete_details.reason == "max_output_tokens"
    assert final.output_text == "".join(
        event.delta for event in events if event.type == "response.output_text.delta"
    )


def test_log_probabilities_of_a_response_are_those_of_a_chat(client):
    chat = ask(client, user("Hi"), logprobs=True, top_logprobs=3)
    asked = {"model": "tiny", "input": "Hi", "max_output_tokens": 6}
    told = client.responses.create(**asked, top_logprobs=3).output[0].content[0].logprobs
    expected = chat.choices[0].logprobs.content
    assert [one.token for one in told] == [one.token for one in expected]
    for one, other in zip(told, expected, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-3)
        assert len(one.top_logprobs) == 3
    with client.responses.stream(**asked, top_logprobs=3) as stream:
        events = list(stream)
    pieces = [e.logprobs for e in events if e.type == "response.output_text.delta"]
    done = next(e for e in events if e.type == "response.output_text.done")
    assert [one.token for piece in pieces for one in piece] == [one.token for one in told]
    assert [one.token for one in done.logprobs] == [one.token for one in told]
    own = client.responses.create(**asked, include=["message.output_text.logprobs"])
    assert [one.top_logprobs for one in own.output[0].content[0].logprobs] == [[]] * len(told)
    assert client.responses.create(**asked).output[0].content[0].logprobs == []


@pytest.mark.parametrize(
    "field", [{"store": True}, {"previous_response_id": "resp_1"}, {"background": True}]
)
def test_47_stored_state_is_refused(client, field):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="tiny", input="Hi", **field)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", next(iter(field)))


def test_unknown_fields_are_refused_by_a_strict_server(guarded):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(guarded, user("Hi"), extra_body={"tempo": 1})
    assert caught.value.param == "tempo"
