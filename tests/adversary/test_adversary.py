"""An adversary with a key: what the server costs and survives, as a table of figures.

    make test-adversary      about five minutes on two idle cores

Attacks by one key run beside an innocent key, whose wait is compared with its wait alone.
"""

import json
import os
import random
import signal
import socket
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress

import httpx2
import pytest
from PIL import Image as PIL

from tests.serve.conftest import (
    CHAT,
    GOOD,
    JSON,
    KEY,
    OTHER_KEY,
    bearer,
    encoded,
    image_part,
    start,
    stop,
    text_part,
    user,
    video_part,
)
from tests.serve.memory import resident, workers

pytestmark = pytest.mark.adversary
MIB = 2**20
SIZE = 63 * MIB
ATTACK_SECONDS = float(os.environ.get("ONEVISION_ATTACK_SECONDS", "8"))
# As many as the table of the innocent's waits needs for a median.
MIN_QUESTIONS = 3
HEAD = b'{"model":"tiny","max_tokens":1,"messages":[{"role":"user","content":"Hi"}],'


@pytest.fixture(scope="module")
def table():
    """Rows of figures, printed at the end."""
    rows = []
    yield lambda name, figure: rows.append((name, figure))
    lines = [f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", ""]
    lines += [f"{name:<64} {figure}" for name, figure in rows]
    sys.stdout.write("\n\n" + "\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("adversary")
    admins = directory / "admins"
    admins.touch(mode=0o600)
    admins.write_text(KEY)
    running = start(
        directory, "--admin-key-file", str(admins), "--limit", "body_seconds=20",
        "--limit", "write_seconds=5", "--limit", f"kv_bytes={2**28}",
        key=f"{KEY}\n{OTHER_KEY}", files=256,
    )  # fmt: skip
    with httpx2.Client(base_url=running.url, timeout=120) as http:
        for asked in ([text_part()], [image_part(), text_part()], [video_part(num_frames=2)]):
            http.post(CHAT, json=GOOD | {"messages": user(*asked)}, headers=bearer())
    yield running
    assert stop(running) == 0
    assert "Traceback" not in running.log.read_text()


def ask(server, key=OTHER_KEY, timeout=120, **fields):
    """Returns how long a question takes; it must be answered."""
    began = time.monotonic()
    asked = GOOD | {"cache_salt": str(random.random())} | fields
    answer = httpx2.post(f"{server.url}{CHAT}", json=asked, headers=bearer(key), timeout=timeout)
    assert answer.status_code == 200, answer.text[:300]
    return time.monotonic() - began


class Watch:
    """The worst wait of /health and the peak of the server's memory while the context is open."""

    def __init__(self, server):
        self.server, self.worst, self.before = server, 0.0, resident(server.process.pid)
        self.peak, self._ended = self.before, threading.Event()
        self._threads = [threading.Thread(target=one) for one in (self._ask, self._weigh)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        for thread in self._threads:
            thread.join()

    @property
    def cost(self):
        return self.peak - self.before

    def _ask(self):
        with httpx2.Client(base_url=self.server.url, timeout=60) as http:
            while not self._ended.is_set():
                began = time.monotonic()
                assert http.get("/health").status_code == 200
                self.worst = max(self.worst, time.monotonic() - began)
                time.sleep(0.02)

    def _weigh(self):
        while not self._ended.is_set():
            self.peak = max(self.peak, resident(self.server.process.pid))
            time.sleep(0.005)


def filled(text, *, separator=b",", size=SIZE):
    return separator.join([text] * (size // (len(text) + len(separator))))


def text_of(data: bytes) -> bytes:
    return HEAD[:-1].replace(b'"Hi"', b'"' + data + b'"') + b"}"


LOGPROBS = GOOD | {
    "n": 8, "max_tokens": 500, "min_tokens": 500, "ignore_eos": True, "logprobs": True,
    "top_logprobs": 20, "temperature": 1,
}  # fmt: skip
DEAREST = {
    "empty lists in a field": lambda: HEAD + b'"x":[' + filled(b"[]") + b"]}",
    "empty objects": lambda: HEAD + b'"x":[' + filled(b"{}") + b"]}",
    "3 million wrong biases": lambda: HEAD + b'"logit_bias":{'
    + b",".join(b'"x%d":1' % number for number in range(3_000_000)) + b"}}",
    "biases that fit": lambda: HEAD + b'"logit_bias":{'
    + b",".join(b'"x%d":1' % number for number in range(180_000)) + b"}}",
    "a text of one wide character": lambda: text_of(b"a" * SIZE + "🙂".encode()),
    "a text of nothing else": lambda: text_of("🙂".encode() * (SIZE // 4)),
    "a plain text": lambda: text_of(b"a" * SIZE),
    "escaped quotes": lambda: text_of(filled(b'\\"', separator=b"")),
    "an image that is escaped": lambda: json.dumps(GOOD | {"messages": user(
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "%41" * (SIZE // 3)}}
    )}).encode(),
    "a video that is none": lambda: json.dumps(GOOD | {"messages": user(
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64," + "AAAA" * (SIZE // 4)}}
    )}).encode(),
    "eight answers with 20 candidates a token": lambda: json.dumps(LOGPROBS).encode(),
}  # fmt: skip


@pytest.mark.parametrize("name", DEAREST)
def test_the_dearest_bodies(server, table, name):
    body = DEAREST[name]()
    assert len(body) <= 64 * MIB
    with Watch(server) as watch, suppress(httpx2.WriteError, httpx2.RemoteProtocolError):
        answer = httpx2.post(
            f"{server.url}{CHAT}", content=body, headers=JSON | bearer(), timeout=300
        )
        assert answer.status_code in (200, 400, 413), answer.text[:300]
    table(f"body: {name}, worst /health and peak memory",
          f"{watch.worst:.2f} s {watch.cost / MIB:5.0f} MiB")  # fmt: skip
    assert watch.cost < 300 * MIB
    # A busy machine delays the answer and the one who asks; the goal holds for an idle one.
    assert watch.worst < 0.5 * max(1.0, 2 * os.getloadavg()[0])
    ask(server)


def scans(count):
    """Returns a progressive JPEG with so many empty scans more."""
    data = encoded(PIL.new("RGB", (1200, 900), "navy"), "JPEG", progressive=True)
    scan = data.rfind(b"\xff\xda")
    return data[:-2] + data[scan:-2] * count + data[-2:]


def post(server, body, timeout=30):
    with suppress(httpx2.HTTPError):
        httpx2.post(f"{server.url}{CHAT}", json=body, headers=bearer(), timeout=timeout)


def connect(server):
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def attack_by_slow_bodies(server):
    with closing(connect(server)) as connection:
        connection.sendall(
            f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {KEY}\r\n"
            "content-type: application/json\r\ncontent-length: 90000\r\n\r\n".encode()
        )
        for _ in range(10):
            connection.sendall(b" ")
            time.sleep(0.2)


def attack_by_not_reading(server):
    with closing(connect(server)) as connection:
        one = (f"GET /page.js HTTP/1.1\r\nhost: 127.0.0.1\r\n"
               f"authorization: Bearer {KEY}\r\n\r\n").encode()  # fmt: skip
        connection.sendall(one * 300)
        time.sleep(3)


def attack_by_leaving(server):
    body = json.dumps(GOOD | {"messages": user(image_part(SCANS), text_part())}).encode()
    with closing(connect(server)) as connection:
        connection.sendall(
            f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {KEY}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        time.sleep(0.2)


def attack_without_a_key(server):
    with suppress(httpx2.HTTPError):
        httpx2.post(f"{server.url}{CHAT}", content=bytes(8 * MIB), headers=JSON, timeout=10)


def attack_by_connections(server):
    opened = []
    with suppress(OSError):
        opened += [connect(server) for _ in range(40)]
    time.sleep(1)
    for connection in opened:
        connection.close()


SCANS = scans(2500)
LONG = {"max_tokens": 2000, "min_tokens": 2000, "ignore_eos": True}
DEEP = HEAD + b'"x":[' + filled(b"[]", size=8 * MIB) + b"]}"
ATTACKS = {
    "JPEGs of 2,500 scans": lambda server: post(
        server, GOOD | {"messages": user(image_part(SCANS), text_part())}
    ),
    "clients that leave": attack_by_leaving,
    "words with a new salt each": lambda server: post(
        server, GOOD | {"max_tokens": 8, "cache_salt": str(random.random())}
    ),
    "long answers": lambda server: post(server, GOOD | LONG, timeout=ATTACK_SECONDS),
    "bodies of empty lists": lambda server: httpx2.post(
        f"{server.url}{CHAT}", content=DEEP, headers=JSON | bearer(), timeout=60
    ),
    "bodies that drip": attack_by_slow_bodies,
    "clients that do not read": attack_by_not_reading,
    "8 MiB without a key": attack_without_a_key,
    "idle connections": attack_by_connections,
}
NUM_CLIENTS = 16


@contextmanager
def under(attack, server):
    """Repeats an attack by many clients while the context is open."""
    ended = threading.Event()

    def repeat():
        while not ended.is_set():
            with suppress(OSError, httpx2.HTTPError):
                attack(server)

    with ThreadPoolExecutor(NUM_CLIENTS) as threads:
        for _ in range(NUM_CLIENTS):
            threads.submit(repeat)
        time.sleep(1)
        try:
            yield
        finally:
            ended.set()


def median_wait(server):
    waits, began = [], time.monotonic()
    while len(waits) < MIN_QUESTIONS or time.monotonic() - began < ATTACK_SECONDS:
        waits.append(ask(server))
    return statistics.median(waits)


@pytest.fixture(scope="module")
def alone(server, table):
    wait = median_wait(server)
    table("innocent key: median wait alone", f"{wait:.3f} s")
    return wait


@pytest.mark.parametrize("name", ATTACKS)
def test_an_innocent_key_is_served_under_attack(server, table, alone, name):
    with under(ATTACKS[name], server), Watch(server) as watch:
        wait = median_wait(server)
    table(f"innocent key under {NUM_CLIENTS} clients: {name}",
          f"{wait:.3f} s, {wait / alone:.1f} x alone, peak {watch.cost / MIB:.0f} MiB")  # fmt: skip
    # Threads of this test and the engine share the cores, so a bound says only that it is served.
    assert wait < 10
    deadline = time.monotonic() + 60
    while server.metrics["onevision:num_requests_running"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_killed_workers_cost_nobody_an_answer(server, table):
    asked = {"messages": user(image_part(encoded(PIL.new("RGB", (900, 700), "teal"))), text_part())}
    ended, killed = threading.Event(), []

    def kill():
        while not ended.wait(1.5):
            for process in workers(server.process.pid)[:1]:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                    killed.append(process)

    thread = threading.Thread(target=kill)
    thread.start()
    began, answers = time.monotonic(), []
    try:
        while time.monotonic() - began < 2 * ATTACK_SECONDS or len(killed) < 2:
            body = GOOD | asked | {"cache_salt": str(random.random())}
            answers.append(
                httpx2.post(f"{server.url}{CHAT}", json=body, headers=bearer(), timeout=60)
            )
    finally:
        ended.set()
        thread.join()
    good = sum(answer.status_code == 200 for answer in answers)
    table(f"pictures answered while {len(killed)} workers were killed", f"{good}/{len(answers)}")
    assert all(answer.status_code in (200, 400, 503) for answer in answers)
    ask(server, messages=asked["messages"])


def test_a_mix_under_load(server, table):
    """Good, bad and abandoned requests of twelve clients: none fails."""
    rng, ended, statuses = random.Random(0), threading.Event(), []

    def work():
        while not ended.is_set():
            kind = rng.random()
            media = [image_part()] if kind < 0.3 else []
            fields = {"temperature": -1} if kind > 0.9 else {"max_tokens": 4}
            body = GOOD | {"messages": user(*media, text_part(str(rng.random())))} | fields
            with suppress(httpx2.TimeoutException):
                leaves = 0.05 if 0.8 < kind < 0.9 else 60
                answer = httpx2.post(
                    f"{server.url}{CHAT}", json=body, headers=bearer(), timeout=leaves
                )
                statuses.append(answer.status_code)

    began = time.monotonic()
    with ThreadPoolExecutor(12) as threads:
        for _ in range(12):
            threads.submit(work)
        time.sleep(3 * ATTACK_SECONDS)
        ended.set()
    seconds = time.monotonic() - began
    table("mix of 12 clients", f"{len(statuses) / seconds:.1f} requests/s, "
          f"{sum(status >= 500 for status in statuses)} x 5xx")  # fmt: skip
    assert set(statuses) <= {200, 400, 429}
    assert statuses.count(200)
