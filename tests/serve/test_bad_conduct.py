"""Clients that misbehave: slow, disconnecting, too many, without a key, or probing caches.

The numbers are rows of the table of test_bad_input.py.
"""

import json
import os
import signal
import socket
import threading
import time
from contextlib import closing

import httpx2
import pytest
from PIL import Image as PIL

from onevision.serve.page import FILES
from tests.serve.conftest import (
    CHAT,
    GOOD,
    KEY,
    OTHER_KEY,
    bearer,
    check,
    encoded,
    image_part,
    square,
    start,
    stop,
    text_part,
    user,
)
from tests.serve.memory import Peak, ready_workers, workers

LONG = GOOD | {"max_tokens": 3000, "min_tokens": 3000, "ignore_eos": True}
# Within a second on idle cores; tests share theirs.
FREED_SECONDS = 5


def connect(running):
    host, port = running.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)))


def head(*lines, key=None):
    own = (f"authorization: Bearer {key}",) if key else ()
    kind = ("host: 127.0.0.1", "content-type: application/json")
    return "\r\n".join((f"POST {CHAT} HTTP/1.1", *kind, *own, *lines, "", "")).encode()


def sent(running, body, **options):
    """Returns a connection over which a whole request was sent."""
    data, connection = json.dumps(body).encode(), connect(running)
    connection.sendall(head(f"content-length: {len(data)}", **options) + data)
    return connection


def gone(running, before):
    """Waits until the server counts one more client that disconnected."""
    deadline = time.monotonic() + FREED_SECONDS
    while running.metrics.get(GONE, 0) <= before:
        assert time.monotonic() < deadline, "the server still works for nobody"
        time.sleep(0.05)


GONE = f'onevision:http_requests_total{{handler="{CHAT}",method="POST",status="499"}}'


def test_51_a_body_without_a_length_ends_at_the_limit(narrow):
    with closing(connect(narrow)) as connection:
        connection.sendall(head("transfer-encoding: chunked", key=KEY))
        piece = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
        for _ in range(7):  # 112 KiB of the 100,000 bytes allowed, and more to come
            connection.sendall(piece)
        assert b" 413 " in connection.recv(1000)
    assert httpx2.post(f"{narrow.url}{CHAT}", json=GOOD, headers=bearer()).status_code == 200


def test_51_a_slow_body_times_out_and_idle_connections_delay_nobody(narrow):
    idle = [connect(narrow) for _ in range(200)]
    with closing(connect(narrow)) as slow:
        slow.sendall(head("content-length: 90", key=KEY) + b"{")
        good = httpx2.post(f"{narrow.url}{CHAT}", json=GOOD, headers=bearer(), timeout=60)
        assert good.status_code == 200
        slow.settimeout(20)
        assert b" 408 " in slow.recv(1000)
    for connection in idle:
        connection.close()


def test_52_disconnecting_during_upload_frees_the_memory(narrow):
    """Bodies may hold 150,000 bytes together: two of 90,000 do not fit."""
    large = GOOD | {"messages": user("word " * 17_000)}
    before = narrow.metrics.get(GONE, 0)
    data = json.dumps(large).encode()
    with closing(connect(narrow)) as leaving:
        leaving.sendall(head("content-length: 95000", key=KEY) + data)
        time.sleep(0.3)
        held = httpx2.post(f"{narrow.url}{CHAT}", json=large, headers=bearer(), timeout=60)
        check(held, 429, "queue_full")
    gone(narrow, before)
    after = httpx2.post(f"{narrow.url}{CHAT}", json=large, headers=bearer(), timeout=60)
    check(after, 400, "context_length_exceeded")  # it was read


def test_52_disconnecting_during_decoding_frees_the_worker(server):
    """A stopped worker would hold the image for 10 seconds; it is killed at once."""
    still = ready_workers(server.process.pid)
    before, restarts = server.metrics.get(GONE, 0), "onevision:decode_worker_restarts_total"
    killed = server.metrics[restarts]
    for worker in still:
        os.kill(worker, signal.SIGSTOP)
    try:
        asked = GOOD | {"messages": user(image_part(encoded(square("gold"))), text_part())}
        with closing(sent(server, asked)):
            time.sleep(0.5)
        gone(server, before)
        deadline = time.monotonic() + FREED_SECONDS
        while server.metrics[restarts] == killed:
            assert time.monotonic() < deadline, "the worker still decodes for nobody"
            time.sleep(0.05)
    finally:
        for worker in set(still) & set(workers(server.process.pid)):
            os.kill(worker, signal.SIGCONT)
    assert httpx2.post(f"{server.url}{CHAT}", json=asked, timeout=60).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_52_disconnecting_during_generation_frees_the_place(server, stream):
    running = "onevision:num_requests_running"
    body = LONG | {"messages": user(image_part(), text_part("a b " * 1500)), "stream": stream}
    with closing(sent(server, body)) as leaving:
        deadline = time.monotonic() + 20
        while not server.metrics[running]:
            assert time.monotonic() < deadline
        if stream:
            leaving.recv(2000)
    server.wait_until_idle(FREED_SECONDS)
    assert server.metrics["onevision:kv_cache_usage_perc"] == 0


@pytest.mark.slow
def test_53_many_large_images_queue_up_and_some_are_refused(tmp_path):
    """Sixty-four images of 40 megapixels at once: two are decoded at a time, within the limit."""
    running = start(tmp_path, "--limit", "preparing=40", "--limit", "image_decode_seconds=100",
                    "--limit", "media_wait_seconds=280")  # fmt: skip
    data = encoded(PIL.new("RGB", (8000, 5000), "navy"), compress_level=1)
    asked = GOOD | {"messages": user(image_part(data), text_part())}
    peak, told = Peak(running.process.pid), []

    def ask():
        answer = httpx2.post(f"{running.url}{CHAT}", json=asked, timeout=280)
        told.append(answer.status_code)
        if answer.status_code == 429:
            assert int(answer.headers["retry-after"]) > 0

    threads = [threading.Thread(target=ask) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert set(told) == {200, 429}
        assert told.count(200) >= 40
        assert peak.growth < 2**30
        assert httpx2.post(f"{running.url}{CHAT}", json=GOOD, timeout=60).status_code == 200
    finally:
        assert stop(running) == 0


def test_54_every_route_but_health_needs_the_key(narrow):
    described = httpx2.get(f"{narrow.url}/openapi.json", headers=bearer()).json()["paths"]
    routes = [(method, path) for path, methods in described.items() for method in methods]
    routes += [("get", path) for path in (*FILES, "/openapi.json", "/no")]
    for method, path in routes:
        for headers in ({}, bearer("wrong"), {"authorization": "Bearer"}, {"x-api-key": KEY}):
            url = f"{narrow.url}{path.replace('{name}', 'tiny')}?api_key={KEY}"
            answer = httpx2.request(method, url, headers=headers)
            if path == "/health":
                assert answer.status_code == 200
            else:
                check(answer, 401, "invalid_api_key")
    for key in (KEY, OTHER_KEY):
        assert httpx2.get(f"{narrow.url}/v1/models", headers=bearer(key)).status_code == 200
    assert httpx2.get(f"{narrow.url}/", auth=("", KEY)).status_code == 200


def test_57_caches_are_not_shared_between_keys(narrow):
    asked = GOOD | {"messages": user(image_part(encoded(square("olive"))), text_part())}
    names = ("prefix_cache_hits", "encoder_cache_hits")

    def hits(key, **salt):
        before = narrow.metrics
        answer = httpx2.post(
            f"{narrow.url}{CHAT}", json=asked | salt, headers=bearer(key), timeout=60
        )
        cached = answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
        after = narrow.metrics
        found, encoded_anew = (
            any(after[f"onevision:{name}"] > before[f"onevision:{name}"] for name in group)
            for group in (names, ("vision_encode_seconds_count",))
        )
        return bool(cached), found, encoded_anew

    # A miss takes its full time again, so timing does not reveal what others asked.
    known, new = (True, True, False), (False, False, True)
    assert hits(KEY) == new
    assert hits(KEY) == known
    assert hits(OTHER_KEY) == new
    assert hits(OTHER_KEY) == known
    assert hits(KEY, cache_salt="mine") == new
