"""Many requests at once: each is answered as if it were alone, and none delays another."""

import json
import random
import re
import threading
from dataclasses import replace

import pytest
import torch

from onevision import Conversation, Image, Message, Text, Video, load
from onevision.errors import (
    CapacityError,
    ContextLengthError,
    DeadlineError,
    EngineError,
    InputError,
    QueueFullError,
)
from onevision.generate.decode import DecodeStep, fetch_logits
from onevision.generate.request import Answer
from onevision.generate.sampler import Sampler
from onevision.generate.settings import EngineSettings


@pytest.fixture(scope="module")
def model():
    return load("tiny", dtype="float32")


def engine_of(model, **settings):
    return model.new_engine(EngineSettings(**settings))


def user(*parts):
    return Conversation([Message("user", list(parts))])


@pytest.fixture(scope="module")
def talks(picture):
    """Nine questions of every kind, no two about the same media."""
    shapes = [(98, 98), (150, 120), (200, 130)]
    singles = [user(Image(picture(*size)), Text("What is this?")) for size in shapes]
    several = user(*[Image(picture(98, 98 + i)) for i in range(3)], Text("Compare them."))
    videos = [
        user(Video([picture(98, 90 + i) for i in range(n)]), Text("What moves?")) for n in (3, 7)
    ]
    words = [user(Text(f"Tell me about {what}.")) for what in ("stars", "the number " * 40, "a")]
    return [*singles, several, *videos, *words]


def ids_of(request):
    return [answer.ids for answer in request.answers]


class Recorder:
    """Keeps the logits that every token was sampled from."""

    def __init__(self, engine):
        self.rows = {}
        for part in (engine.prefiller, engine.batch_decoder):
            part.step = self._kept(part.step)

    def _kept(self, method):
        def kept(*args):
            found = list(method(*args))
            for one, logits in found:
                request = getattr(one, "request", one)
                rows = logits if logits.dim() == 2 else logits[None]
                self.rows.setdefault(request.number, []).extend(row.clone() for row in rows)
            return found

        return kept


def answer_together(model, talks, options, *, engine):
    """Submits all at once, each with its own options; returns requests and logits."""
    recorder = Recorder(engine)
    requests = [
        engine.submit(model.prompt(talk), replace(model.sampling, **own))
        for talk, own in zip(talks, options, strict=True)
    ]
    engine.run(requests)
    return requests, [recorder.rows[request.number] for request in requests]


def options_of(number):
    drawn = {"temperature": 0.8, "top_p": 0.9, "seed": number} if number % 2 else {}
    return {"max_new_tokens": 2 + number % 4, "end_ids": (), **drawn}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_deterministic_logits_are_bit_equal_under_any_load(talks, dtype):
    """32 requests, mixed media, greedy and sampled; some are cancelled meanwhile."""
    model = load("tiny", dtype=dtype)
    many = [talks[i % len(talks)] for i in range(32)]
    options = [options_of(i) for i in range(32)]
    engine = engine_of(model, deterministic=True, chunk_tokens=64, max_running=12)
    leaving = [
        engine.submit(model.prompt(talk), replace(model.sampling, end_ids=(), max_new_tokens=50))
        for talk in talks[:3]
    ]
    for _ in range(4):
        engine.step()
    engine.cancel(leaving[1])
    requests, logits = answer_together(model, many, options, engine=engine)
    engine.cancel(leaving[2])
    for number in random.Random(0).sample(range(32), 6):
        alone = engine_of(model, deterministic=True, chunk_tokens=64)
        (request,), (rows,) = answer_together(
            model, [many[number]], [options[number]], engine=alone
        )
        assert ids_of(request) == ids_of(requests[number])
        assert all(torch.equal(a, b) for a, b in zip(rows, logits[number], strict=True))


def test_logits_of_the_default_mode_are_equal_within_1e_4_under_load(model, talks):
    options = [{"max_new_tokens": 8, "end_ids": ()}] * len(talks)
    requests, logits = answer_together(model, talks, options, engine=engine_of(model))
    for talk, own, request, together in zip(talks, options, requests, logits, strict=True):
        (one,), (alone,) = answer_together(model, [talk], [own], engine=engine_of(model))
        assert ids_of(one) == ids_of(request)
        for a, b in zip(alone, together, strict=True):
            assert (a - b).abs().max() < 1e-4


def test_bf16_answers_are_equal_under_load_if_the_margin_is_clear(talks):
    """Passes of another shape round differently: bf16 logits move by less than 0.5."""
    model = load("tiny", dtype="bfloat16")
    options = [{"max_new_tokens": 8, "end_ids": ()}] * len(talks)
    requests, logits = answer_together(model, talks, options, engine=engine_of(model))
    for talk, own, request, together in zip(talks, options, requests, logits, strict=True):
        (one,), (alone,) = answer_together(model, [talk], [own], engine=engine_of(model))
        for a, b, mine, theirs in zip(
            alone, together, one.answers[0].ids, request.answers[0].ids, strict=True
        ):
            best = a.float().topk(2).values
            moved = (a.float() - b.float()).abs().max()
            assert moved < 0.5
            if mine != theirs:  # a tie, and from here on another text
                assert best[0] - best[1] <= 2 * moved
                break


def test_long_prompts_do_not_delay_answers(model, talks, picture):
    """While a long prompt is prefilled, an answer that has begun gains a token every step."""
    engine = engine_of(model, chunk_tokens=64)
    quick = engine.submit(
        model.prompt(talks[-1]), replace(model.sampling, end_ids=(), max_new_tokens=60)
    )
    while not quick.is_prefilled:
        engine.step()
    slow = engine.submit(
        model.prompt(user(Image(picture(400, 400)), Text("What is this?"))), model.sampling
    )
    steps = 0
    while not slow.is_prefilled:
        before = len(quick.answers[0].ids)
        engine.step()
        assert len(quick.answers[0].ids) == before + 1
        steps += 1
    assert steps > 5
    engine.run([quick, slow])


@pytest.mark.parametrize("size", [1, 3, 5])
def test_encoding_in_parts_equals_encoding_at_once(model, picture, size):
    """Also an image whose base is its only crop, and frames that are all the same."""
    talk = user(
        Image(picture(98, 98), detail="high"), Video([picture(98, 98)] * 4), Image(picture(99, 40))
    )
    prompt = model.prompt(talk)
    engine = engine_of(model)
    engine.prefiller.vision_cache.crops_at_once = size
    kept = engine.prefiller.vision_cache._tokens
    request = engine.submit(prompt, replace(model.sampling, max_new_tokens=1))
    engine.run([request])
    with torch.inference_mode():
        expected = model.network.encode(prompt.pixel_values, prompt.layouts)
    assert torch.allclose(torch.cat([one.tokens for one in kept.values()]), expected, atol=1e-4)


def test_concurrent_threads_get_the_answers_of_a_single_one(model, talks):
    expected = [model.ask(talk, max_new_tokens=6).text for talk in talks]
    shared = replace(model, settings=EngineSettings(max_running=3))
    found = {}

    def ask(number):
        found[number] = shared.ask(talks[number], max_new_tokens=6).text

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(talks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [found[i] for i in range(len(talks))] == expected


def test_tenants_take_turns(model, talks):
    engine = engine_of(model, max_running=1)
    options = replace(model.sampling, max_new_tokens=1)
    prompt = model.prompt(talks[-1])
    order = []
    requests = [
        engine.submit(prompt, options, tenant=tenant, on_delta=lambda _, t=tenant: order.append(t))
        for tenant in ("greedy", "greedy", "greedy", "modest")
    ]
    engine.run(requests)
    assert order.index("modest") <= 1


def test_a_cancelled_request_is_gone_within_a_step(model, talks):
    engine = engine_of(model)
    sampling = replace(model.sampling, end_ids=(), max_new_tokens=100)
    staying, leaving = (engine.submit(model.prompt(talk), sampling) for talk in talks[-2:])
    waiting = engine.submit(model.prompt(talks[0]), sampling)
    for _ in range(8):
        engine.step()
    engine.cancel(leaving)
    engine.cancel(waiting)
    engine.step()
    assert leaving.answers[0].finish_reason == waiting.answers[0].finish_reason == "cancelled"
    assert engine.stats.running == 1
    assert engine.stats.kv_bytes == staying.kv_bytes
    engine.run([staying])
    assert staying.answers[0].finish_reason == "length"
    assert engine.stats.kv_bytes == 0


def test_a_second_question_about_an_image_prefills_only_new_tokens(model, picture):
    engine = engine_of(model)
    image = Image(picture(300, 200))
    sampling = replace(model.sampling, max_new_tokens=4)
    answers = []
    for words in ("What is this?", "What is this?", "Where is it?"):
        request = engine.submit(model.prompt(user(image, Text(words))), sampling)
        engine.run([request])
        answers.append((request.cached_tokens, request.num_tokens, request.answers[0].text))
    (none, length, first), (most, _, again), (some, _, _) = answers
    assert none == 0
    assert length - 17 < most < length
    assert length - 40 < some < length
    assert first == again
    assert engine.stats.encoder_misses == 1
    assert engine.stats.prefix_tokens == most + some


def test_the_next_turn_reuses_the_previous_answer(model, picture):
    engine = engine_of(model)
    talk = user(Image(picture(98, 98)), Text("Describe the picture."))
    sampling = replace(model.sampling, max_new_tokens=40, min_new_tokens=20)
    request = engine.submit(model.prompt(talk), sampling)
    engine.run([request])
    spoken = Message("assistant", request.answers[0].text)
    later = Conversation([*talk.messages, spoken, Message("user", "And then?")])
    second = engine.submit(model.prompt(later), sampling)
    engine.run([second])
    assert second.cached_tokens > request.num_tokens


def test_the_prefix_cache_separates_tenants_and_images(model, picture):
    engine = engine_of(model)
    sampling = replace(model.sampling, max_new_tokens=2)
    image = picture(98, 98)
    other = image.copy()
    other.putpixel((90, 90), (1, 2, 3))
    asked = [("a", image), ("b", image), ("a", other), ("a", image)]
    cached = []
    for tenant, source in asked:
        prompt = model.prompt(user(Image(source), Text("What is this?")))
        request = engine.submit(prompt, sampling, tenant=tenant)
        engine.run([request])
        cached.append(request.cached_tokens)
    assert cached[1] == 0
    assert cached[2] <= 16  # the words before the picture, at most
    assert cached[3] > 40
    assert engine.stats.encoder_misses == 3


def test_kv_cache_memory_is_bounded(model, talks):
    """Reserved and cached bytes together stay within the limit."""
    sampling = replace(model.sampling, max_new_tokens=8)
    longest = max(model.prompt(talk).input_ids.shape[1] for talk in talks) + 8
    per_token = 2 * 6 * 2 * 64 * 4
    limit = 2 * longest * per_token
    engine = engine_of(model, kv_bytes=limit, encoder_bytes=100_000)
    requests = [engine.submit(model.prompt(talk), sampling) for talk in talks]
    while engine.step():
        stats = engine.stats
        assert stats.kv_bytes + stats.prefix_bytes <= limit
        assert engine.prefiller.vision_cache.num_bytes <= 100_000
    assert all(request.finished and request.error is None for request in requests)
    assert engine.stats.prefix_bytes > 0
    with pytest.raises(CapacityError, match="the engine has 0 MiB: give fewer"):
        engine_of(model, kv_bytes=1000).submit(model.prompt(talks[0]), sampling)


def test_a_full_queue_refuses_requests(model, talks):
    engine = engine_of(model, max_running=1, max_waiting=2)
    prompt = model.prompt(talks[-1])
    requests = [engine.submit(prompt, model.sampling) for _ in range(3)]
    with pytest.raises(QueueFullError, match="full with 3 requests"):
        engine.submit(prompt, model.sampling)
    engine.run(requests)


def test_a_late_request_ends_with_an_error_and_the_others_go_on(model, talks):
    engine = engine_of(model)
    sampling = replace(model.sampling, end_ids=(), max_new_tokens=5)
    late = engine.submit(model.prompt(talks[0]), sampling, timeout_seconds=0.0)
    good = engine.submit(model.prompt(talks[1]), sampling)
    engine.run([late, good])
    assert isinstance(late.error, DeadlineError)
    assert good.error is None
    assert engine.stats.kv_bytes == 0


def test_bad_requests_are_refused_with_numbers(model, talks):
    engine = engine_of(model)
    prompt = model.prompt(talks[0])
    with pytest.raises(InputError, match="logit_bias names token 9999; expected 0 to 4095"):
        engine.submit(prompt, replace(model.sampling, logit_bias={9999: 1.0}))
    with pytest.raises(ContextLengthError, match="the model reads 8191 at most"):
        model.ask(user(Text("word " * 9000)))


def test_a_failing_prompt_fails_alone(model, talks, monkeypatch):
    """Running out of memory while one prompt is prefilled ends that request alone."""
    engine = engine_of(model, deterministic=True)
    run = engine.prefiller._run
    broken = engine.submit(model.prompt(talks[0]), model.sampling)
    good = engine.submit(model.prompt(talks[1]), replace(model.sampling, max_new_tokens=3))

    def failing(chunk):
        if chunk[0][0] is broken:
            raise torch.OutOfMemoryError("no memory left")
        return run(chunk)

    monkeypatch.setattr(engine.prefiller, "_run", failing)
    engine.run([broken, good])
    assert isinstance(broken.error, EngineError)
    assert good.error is None


def test_several_answers_share_one_prefill(model, talks):
    engine = engine_of(model)
    sampling = replace(
        model.sampling, num_answers=4, temperature=4.0, seed=3, max_new_tokens=6, end_ids=()
    )
    prompt = model.prompt(talks[0])
    request = engine.submit(prompt, sampling)
    engine.run([request])
    assert engine.stats.prefix_misses == 1
    assert len({tuple(ids) for ids in ids_of(request)}) > 1
    one = engine.submit(prompt, replace(sampling, num_answers=1))
    engine.run([one])
    assert ids_of(one)[0] == ids_of(request)[0]


@pytest.mark.parametrize("deterministic", [False, True])
def test_drafting_changes_no_greedy_answer(model, talks, deterministic):
    words = "red circle, blue star, red circle, blue star, red circle,"
    asked = [*talks, user(Text(words)), user(Text(f"Repeat: {words}"))]
    options = replace(model.sampling, max_new_tokens=24, end_ids=())
    found, steps = [], []
    for drafts in (0, 3):
        engine = engine_of(model, draft_tokens=drafts, deterministic=deterministic)
        requests = [engine.submit(model.prompt(talk), options) for talk in asked]
        engine.run(requests)
        found.append([ids_of(request) for request in requests])
        steps.append(engine.stats.steps)
    assert found[0] == found[1]
    assert steps[1] < steps[0]


def pieces_of(model, talk, **options):
    engine, pieces = engine_of(model), []
    sampling = replace(model.sampling, **options)
    request = engine.submit(model.prompt(talk), sampling, on_delta=pieces.append)
    engine.run([request])
    return request, pieces


def test_stop_strings_end_an_answer_across_tokens_and_are_not_shown(model, picture):
    talk = user(Image(picture(98, 98)), Text("Describe the picture."))
    request, _ = pieces_of(model, talk, max_new_tokens=30, end_ids=())
    whole = request.answers[0].text
    for begin, end in ((3, 9), (10, 11), (7, 20)):
        words = whole[begin:end]
        request, pieces = pieces_of(model, talk, max_new_tokens=30, end_ids=(), stop=(words, "@@"))
        shown = "".join(piece.text for piece in pieces)
        assert shown == request.answers[0].text == whole[: whole.index(words)]
        assert request.answers[0].finish_reason == pieces[-1].finish_reason == "stop"
        assert request.answers[0].stop_string == words
    request, pieces = pieces_of(model, talk, max_new_tokens=30, end_ids=(), stop=(whole + "!",))
    assert "".join(piece.text for piece in pieces) == whole  # held back, then shown


def test_constrained_answers(model, picture):
    talk = user(Image(picture(98, 98)), Text("What is this?"))
    choice = model.ask(talk, choices=("a zebra", "42", "nothing at all"))
    assert choice.text in ("a zebra", "42", "nothing at all")
    assert choice.finish_reason == "stop"
    number = model.ask(talk, regex="[0-9]{3}-[a-c]+x", max_new_tokens=40, temperature=2.0, seed=1)
    assert re.fullmatch("[0-9]{3}-[a-c]+x", number.text) or number.finish_reason == "length"
    schema = '{"type":"object","properties":{"n":{"enum":[1,2]}},"required":["n"],'
    schema += '"additionalProperties":false}'
    reply = model.ask(talk, json_schema=schema, max_new_tokens=60)
    assert json.loads(reply.text)["n"] in (1, 2)
    for bad in ({"regex": "(("}, {"json_schema": '{"type": "wat"}'}, {"json_schema": "{"}):
        with pytest.raises(InputError, match=f"{next(iter(bad))} cannot be compiled"):
            model.ask(talk, **bad)


def test_the_chunk_depends_on_the_device_except_in_the_deterministic_mode():
    plain, fixed = EngineSettings(), EngineSettings(deterministic=True)
    assert [plain.chunk_tokens_on(device) for device in ("cpu", "cuda")] == [512, 4096]
    assert fixed.chunk_tokens_on("cuda") == 512
    assert EngineSettings(chunk_tokens=64).chunk_tokens_on("cuda") == 64


def test_greedy_answers_are_sampled_as_if_one_by_one(model):
    """The first of equal logits wins, in bf16 too; answers that need more get their own logits."""
    logits = torch.zeros(4, 50, dtype=torch.bfloat16)
    logits[0, [7, 9]], logits[1, 30], logits[3, [2, 3]] = 2.0, 1.0, 5.0
    steps = []
    for options, ids in (({}, [1, 7]), ({"logprobs": 2}, [1]), ({}, [1])):
        sampling = replace(model.sampling, repetition_penalty=1.0, **options)
        answer = Answer(0, Sampler(sampling), model.processor.tokenizer.stream())
        steps.append(DecodeStep(request=None, answer=answer, ids=ids))
    rows = fetch_logits(steps, logits, [0, 2, 3])
    assert [step.likeliest for step in steps] == [[7, 30], [], [2]]
    for step, own in zip(steps, rows, strict=True):
        alone = [Sampler(step.answer.sampler.sampling).sample(row).id for row in own]
        assert alone == (step.likeliest or [0])
