"""Keys share the server: one that takes much leaves the others their part."""

import asyncio
import threading
import time
from contextlib import contextmanager

import httpx2
import pytest

from onevision import load
from onevision.errors import DecodersBusyError
from onevision.serve.app import create_app
from onevision.serve.schema.problems import ApiError
from onevision.serve.service import Service
from onevision.serve.settings import Limits, ServerSettings
from onevision.serve.turns import Share, Turns
from tests.serve.conftest import (
    CHAT,
    GOOD,
    KEY,
    OTHER_KEY,
    bearer,
    check,
    image_part,
    text_part,
    user,
)

PICTURE = GOOD | {"messages": user(image_part(), text_part())}


def order_of(turns, asked, **seconds):
    """Returns the order in which requests, one per letter, had their place.

    A request takes a millisecond, or what `seconds` says of its key.
    """
    order = []

    async def work(key):
        async with turns.take(key):
            order.append(key)
            await asyncio.sleep(seconds.get(key, 0.001))

    async def run():
        await asyncio.gather(*map(work, asked))

    asyncio.run(run())
    return "".join(order)


def test_keys_take_turns_whatever_their_number_of_requests():
    assert order_of(Turns(1), "aaaaaab") == "abaaaaa"
    assert sorted(order_of(Turns(1), "aaaabbcc")[:3]) == ["a", "b", "c"]


def test_a_key_that_has_used_more_time_waits():
    assert order_of(Turns(1), "aaabbbb", a=0.3) == "abbbbaa"


def test_idleness_gives_no_claim():
    turns = Turns(1)
    turns._used.update(a=100.0, b=0.0)
    assert sorted(order_of(turns, "aaabbb")[:3]) in (["a", "a", "b"], ["a", "b", "b"])


def test_one_key_leaves_a_place_to_the_others():
    turns = Turns(2)
    turns.places_per_key = 1

    async def run():
        async with turns.take("a"):
            waiting = asyncio.ensure_future(enter(turns, "a"))
            await asyncio.sleep(0.01)
            await asyncio.wait_for(enter(turns, "b"), 1)
            assert not waiting.done()
        await asyncio.wait_for(waiting, 1)

    asyncio.run(run())


async def enter(turns, key):
    async with turns.take(key):
        pass


@pytest.mark.parametrize("is_granted", [False, True])
def test_who_stops_waiting_takes_no_place(is_granted):
    turns = Turns(1)

    async def run():
        async with turns.take("a"):
            waiting = asyncio.ensure_future(enter(turns, "b"))
            await asyncio.sleep(0.01)
            if not is_granted:
                waiting.cancel()
                await asyncio.sleep(0.01)
        if is_granted:
            waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.wait_for(enter(turns, "a"), 1)

    asyncio.run(run())
    assert not turns._running
    assert not turns._waiting


def test_a_share_is_limited_in_all_and_per_key():
    share = Share(10, full="bytes are being read")
    share.most_per_key = 6
    share.add("a", 6)
    with pytest.raises(ApiError, match="too many bytes are being read of this key already"):
        share.add("a", 1)
    share.add("b", 4)
    with pytest.raises(ApiError, match="too many bytes are being read already") as caught:
        share.add("c", 1)
    assert (caught.value.status, caught.value.retry_after) == (429, 2)
    share.remove("a", 6)
    with share.hold("c", 6):
        assert share._held == {"b": 4, "c": 6}
    assert share._held == {"b": 4}


@contextmanager
def running(**changes):
    """A service with two keys, and what sends it requests: (key, body) -> response."""
    settings = ServerSettings(name="tiny", keys=(KEY, OTHER_KEY), limits=Limits(**changes))
    service = Service(load("tiny"), settings)
    app = create_app(service)

    async def ask(key, body=GOOD):
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", headers=bearer(key), timeout=60
        ) as http:
            return await http.post(CHAT, json=body)

    try:
        yield service, ask
    finally:
        service.close()


@contextmanager
def held_media(service, monkeypatch):
    """Lets every request with media wait in its decoder until the context ends."""
    free, session = threading.Event(), service.sandbox.session

    @contextmanager
    def wait(*arguments, **options):
        free.wait(30)
        with session(*arguments, **options) as found:
            yield found

    with monkeypatch.context() as patched:
        patched.setattr(service.sandbox, "session", wait)
        try:
            yield
        finally:
            free.set()


def test_words_do_not_wait_for_media_and_media_leave_places_to_other_keys(monkeypatch):
    with running(preparing=6, preparing_per_key=4) as (service, ask):
        assert service.sandbox.size == 2

        async def run():
            with held_media(service, monkeypatch):
                pictures = [asyncio.ensure_future(ask(KEY, PICTURE)) for _ in range(5)]
                await asyncio.sleep(0.5)
                answered = [one.result() for one in pictures if one.done()]
                assert [one.status_code for one in answered] == [429]
                check(answered[0], 429, "queue_full")
                assert service._decoding.turns._running == {name(KEY, service): 1}
                other = asyncio.ensure_future(ask(OTHER_KEY, PICTURE))
                for key in (KEY, OTHER_KEY):  # of the same key too
                    words = await asyncio.wait_for(ask(key), 20)
                    assert words.status_code == 200
                await asyncio.sleep(0.1)
                assert service._decoding.turns._running == {
                    name(KEY, service): 1, name(OTHER_KEY, service): 1,
                }  # fmt: skip
            answers = await asyncio.gather(*pictures, other)
            assert sorted(one.status_code for one in answers) == [200] * 5 + [429]

        asyncio.run(run())


def name(key, service):
    return service.keys.check(f"Bearer {key}")


def test_a_request_does_not_wait_for_a_decoder_for_ever(monkeypatch):
    with running(media_wait_seconds=0.2) as (service, ask):

        async def run():
            with held_media(service, monkeypatch):
                first = asyncio.ensure_future(ask(KEY, PICTURE))
                await asyncio.sleep(0.1)
                check(await ask(KEY, PICTURE), 503, "decoders_busy")
            assert (await first).status_code == 200

        asyncio.run(run())


def test_without_decoders_words_are_answered_and_the_server_is_not_ready(monkeypatch):
    with running() as (service, ask):

        def fail(*_, **__):
            raise DecodersBusyError("no media decoder became free within 60 s; retry later")

        monkeypatch.setattr(service.sandbox, "session", fail)
        monkeypatch.setattr(type(service.sandbox), "alive", property(lambda _: 0))

        async def run():
            refused = await ask(KEY, PICTURE)
            check(refused, 503, "decoders_busy")
            assert int(refused.headers["retry-after"]) > 0
            assert (await ask(KEY)).status_code == 200
            transport = httpx2.ASGITransport(create_app(service))
            async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                for path, status in (("/ready", 503), ("/health", 200)):
                    answer = await http.get(path, headers=bearer(KEY))
                    assert answer.status_code == status

        asyncio.run(run())


def test_one_key_cannot_run_all_answers_whatever_its_salts():
    """Two places: one key's long answers take one, and another key's question the other."""
    long = GOOD | {"max_tokens": 3000, "min_tokens": 3000, "ignore_eos": True}
    with running(running=2, running_per_key=1, request_seconds=60) as (service, ask):

        async def run():
            many = [
                asyncio.ensure_future(ask(KEY, long | {"cache_salt": str(number)}))
                for number in range(4)
            ]
            await asyncio.sleep(1.0)
            answer = await asyncio.wait_for(ask(OTHER_KEY), 20)
            assert answer.status_code == 200
            deadline = time.monotonic() + 20
            while (stats := service.supervisor.engine.stats).running > 1:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            assert stats.waiting == 3
            for one in many:
                one.cancel()
            await asyncio.gather(*many, return_exceptions=True)

        asyncio.run(run())


@pytest.mark.slow
def test_one_key_cannot_reserve_all_memory():
    """Requests of 0.3 of the memory for keys and values: a key has two of its three, of 0.75."""
    model = load("tiny")
    language, size = model.config.language, model.network.language_model.dtype.itemsize
    per_token = 2 * language.num_layers * language.num_kv_heads * language.head_size * size
    long = GOOD | {"max_tokens": 3000, "min_tokens": 3000, "ignore_eos": True}
    memory = int((3000 + 21) * per_token / 0.3)
    with running(kv_bytes=memory, running=8, running_per_key=6) as (service, ask):

        async def run():
            many = [asyncio.ensure_future(ask(KEY, long)) for _ in range(3)]
            await asyncio.sleep(0.5)
            deadline = time.monotonic() + 20
            while service.supervisor.engine.stats.running < 2:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            assert (await asyncio.wait_for(ask(OTHER_KEY), 20)).status_code == 200
            assert service.supervisor.engine.stats.waiting == 1
            for one in many:
                one.cancel()
            await asyncio.gather(*many, return_exceptions=True)

        asyncio.run(run())


def test_bytes_of_bodies_are_shared():
    words = GOOD | {"messages": user("word " * 1000)}
    with running(bodies_bytes=9000, bodies_bytes_per_key=4000) as (service, ask):

        async def run():
            refused = await ask(KEY, words)
            check(refused, 429, "queue_full")
            assert "of this key" in refused.json()["error"]["message"]
            assert not service.bodies._held
            assert (await ask(OTHER_KEY)).status_code == 200

        asyncio.run(run())
