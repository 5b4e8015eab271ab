"""Connections: what is refused is not read on, and none can be held for ever."""

import json
import os
import re
import signal
import socket
import time
from contextlib import ExitStack, closing
from http.client import HTTPConnection

import httpx2
import pytest

from onevision.serve.protocol import HEADER_SECONDS
from tests.serve.conftest import (
    CHAT,
    GOOD,
    KEY,
    bearer,
    check,
    image_part,
    start,
    stop,
    text_part,
    user,
)
from tests.serve.memory import ready_workers

# What a client may send after it was refused: the kernel's buffers, and LINGER_BYTES.
MOST_SWALLOWED = 16 * 2**20


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A server that may open 64 files, with a key; clients have a second to read."""
    running = start(
        tmp_path_factory.mktemp("small"), "--limit", "write_seconds=1", "--limit",
        "body_seconds=2", key=KEY, files=64,
    )  # fmt: skip
    yield running
    began = time.monotonic()
    assert stop(running) == 0
    assert time.monotonic() - began < 30
    assert "Traceback" not in running.log.read_text()
    assert running.log.read_text().count("ERROR") <= 1


def connect(running):
    host, port = running.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    connection.settimeout(20)
    return connection


def head(path, *lines, method="POST"):
    own = (f"{method} {path} HTTP/1.1", "host: 127.0.0.1", *lines, "", "")
    return "\r\n".join(own).encode()


def read_all(connection):
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def read_answer(connection):
    """Reads one answer of a stated length."""
    received = b""
    while not (found := re.search(rb"content-length: (\d+)\r\n(?s:.*?)\r\n\r\n", received)) or len(
        received
    ) < found.end() + int(found[1]):
        piece = connection.recv(65536)
        assert piece, received
        received += piece
    return received


AUTHORIZED = f"authorization: Bearer {KEY}"
TYPE = "content-type: application/json"
ENDLESS = "content-length: 9999999"
REFUSED = {
    "401": (CHAT, TYPE, ENDLESS),
    "403": (CHAT, TYPE, ENDLESS, AUTHORIZED, "origin: https://evil.example"),
    "404": ("/no", ENDLESS, AUTHORIZED),
    "405": ("/health", ENDLESS, AUTHORIZED),
    "413": (CHAT, TYPE, "content-length: 99999999999", AUTHORIZED),
    "415": (CHAT, "content-type: text/plain", ENDLESS, AUTHORIZED),
    "408": (CHAT, TYPE, ENDLESS, AUTHORIZED),
    "401 without a length": (CHAT, TYPE, "transfer-encoding: chunked"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_body_that_is_refused_is_not_swallowed(small, name):
    """The answer arrives in its envelope, and the connection ends though the client sends on."""
    path, *lines = REFUSED[name]
    piece = bytes(65536)
    if "chunked" in lines[-1]:
        piece = b"10000\r\n" + piece + b"\r\n"
    with closing(connect(small)) as connection:
        connection.sendall(head(path, *lines))
        answer = read_answer(connection)
        assert answer.startswith(f"HTTP/1.1 {name[:3]} ".encode()), answer
        assert b"connection: close" in answer.lower()
        assert set(json.loads(answer.partition(b"\r\n\r\n")[2])["error"]) == {
            "message", "type", "param", "code",
        }  # fmt: skip
        sent, deadline = 0, time.monotonic() + 15
        try:
            while time.monotonic() < deadline:
                connection.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
        assert time.monotonic() < deadline
        assert sent < MOST_SWALLOWED
    assert httpx2.get(f"{small.url}/health").status_code == 200


@pytest.mark.parametrize("path", ["/health", pytest.param("/version", marks=pytest.mark.slow)])
def test_a_get_with_a_body_that_never_comes_ends(small, path):
    with closing(connect(small)) as connection:
        connection.sendall(head(path, "content-length: 5", AUTHORIZED, method="GET"))
        began = time.monotonic()
        assert read_all(connection).startswith(b"HTTP/1.1 200")
        assert time.monotonic() - began < 15


@pytest.mark.slow
def test_a_body_that_drips_has_a_deadline(small):
    with closing(connect(small)) as connection:
        connection.sendall(head(CHAT, TYPE, ENDLESS, AUTHORIZED))
        began = time.monotonic()
        connection.settimeout(0.2)
        answer = b""
        while not answer and time.monotonic() - began < 15:
            try:
                connection.sendall(b" ")
                answer = connection.recv(1000)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("reads", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_client_that_does_not_read_is_cut_off(small, reads):
    """Megabytes of answers, of which it reads nothing, or a byte at a time."""
    path = "/page.js"
    num_bytes = len(httpx2.get(f"{small.url}{path}", headers=bearer()).content)
    count = 12 * 2**20 // num_bytes
    with closing(socket.socket()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = small.url.removeprefix("http://").split(":")
        connection.connect((host, int(port)))
        connection.settimeout(20)
        connection.sendall(head(path, AUTHORIZED, method="GET") * count)
        for _ in range(20):
            time.sleep(0.2)
            received = connection.recv(reads) if reads else b""
        received += read_all(connection)
    assert len(received) < count * num_bytes
    assert httpx2.get(f"{small.url}/health").status_code == 200


@pytest.mark.slow
def test_idle_connections_make_room_for_new_ones(small):
    """More than may be open: every new one is answered, the oldest idle ones are closed."""
    with ExitStack() as stack:
        opened = [stack.enter_context(closing(connect(small))) for _ in range(100)]
        time.sleep(0.5)
        for _ in range(3):
            asked = GOOD | {"messages": user(image_part(), text_part())}
            answer = httpx2.post(f"{small.url}{CHAT}", json=asked, headers=bearer(), timeout=60)
            assert answer.status_code == 200
        opened[0].settimeout(5)
        assert read_all(opened[0]) == b""
    log = small.log.read_text()
    assert "64 open files are allowed" in log
    assert log.count("no more connections can be accepted") <= 1


@pytest.mark.slow
def test_who_has_asked_keeps_an_idle_connection_longer_than_who_has_not(small):
    with ExitStack() as stack:
        known = stack.enter_context(closing(HTTPConnection(small.url.removeprefix("http://"))))
        for _ in range(2):
            known.request("GET", "/health")
            assert known.getresponse().read()
            for _ in range(100):
                stack.enter_context(closing(connect(small)))
            time.sleep(0.5)


@pytest.mark.slow
def test_connections_that_are_all_at_work_refuse_another(small):
    with ExitStack() as stack:
        for _ in range(60):
            connection = stack.enter_context(closing(connect(small)))
            connection.sendall(head(CHAT, TYPE, ENDLESS, AUTHORIZED) + b"{")
        time.sleep(0.3)
        with closing(connect(small)) as late:
            late.sendall(head("/health", "connection: close", method="GET"))
            answer = read_all(late)
        if answer:  # unless the ones before it have ended already
            assert answer.startswith((b"HTTP/1.1 503", b"HTTP/1.1 200"))
    check(httpx2.get(f"{small.url}/version"), 401, "invalid_api_key")
    assert httpx2.get(f"{small.url}/version", headers=bearer()).status_code == 200


@pytest.mark.slow
def test_headers_that_drip_have_a_deadline(small):
    """Also the second request's, after a first that was answered."""
    for first in (b"", head("/health", method="GET")):
        with closing(connect(small)) as connection:
            connection.sendall(first)
            if first:
                connection.recv(65536)
            began = time.monotonic()
            connection.settimeout(1)
            ended = False
            while not ended and time.monotonic() - began < 2 * HEADER_SECONDS:
                try:
                    connection.sendall(b"G")
                    ended = connection.recv(1000) == b""
                except TimeoutError:
                    continue
                except OSError:
                    ended = True
            assert time.monotonic() - began < HEADER_SECONDS + 10
            assert ended


@pytest.mark.slow
def test_a_server_ends_though_its_decoders_are_stuck(tmp_path):
    running = start(tmp_path, "--drain-seconds", "1", "--limit", "image_decode_seconds=100")
    for worker in ready_workers(running.process.pid):
        os.kill(worker, signal.SIGSTOP)
    asked = GOOD | {"messages": user(image_part(), text_part())}
    data = json.dumps(asked).encode()
    with ExitStack() as stack:
        for _ in range(6):
            connection = stack.enter_context(closing(connect(running)))
            connection.sendall(head(CHAT, TYPE, f"content-length: {len(data)}") + data)
        time.sleep(1)
        began = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(timeout=60)
        assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "request_line",
    ["GET /v1/chat/completions/ HTTP/1.1", "PUT /health HTTP/1.1", "TRACE / HTTP/1.1",
     "OPTIONS * HTTP/1.1", "GET /\x01 HTTP/1.1", "nonsense", "GET /%zz HTTP/1.1",
     "CONNECT a:1 HTTP/1.1", "GET //evil HTTP/1.1"],
)  # fmt: skip
def test_whatever_the_framework_answers_has_the_envelope(small, request_line):
    with closing(connect(small)) as connection:
        lines = (request_line, "host: 127.0.0.1", "connection: close", AUTHORIZED, "", "")
        connection.sendall("\r\n".join(lines).encode())
        answer = read_all(connection)
    status = int(answer[9:12])
    assert status in (400, 404, 405), answer
    body = answer.partition(b"\r\n\r\n")[2]
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
