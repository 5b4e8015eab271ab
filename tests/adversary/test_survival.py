"""Faults that a server is made to meet, and input that is wrong: how many of each it survives."""

import json
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress

import httpx2
import pytest

from tests.adversary.attacks import SCANS, connect
from tests.adversary.conftest import ask
from tests.inputs.test_work import IMAGE_BOMBS, video_bombs
from tests.serve.conftest import (
    CHAT,
    GOOD,
    JSON,
    KEY,
    bearer,
    encoded,
    image_part,
    square,
    text_part,
    user,
    video_part,
)
from tests.serve.memory import family, ready_workers
from tests.serve.test_bad_input import BODIES, FIELDS, MESSAGES

pytestmark = pytest.mark.adversary
FORBIDDEN = "url_not_allowed"
# In which a server must be well again after a fault.
SECONDS = 40
LONG = GOOD | {"max_tokens": 2000, "min_tokens": 2000, "ignore_eos": True, "stream": True}


def post(server, body, path=CHAT):
    return httpx2.post(f"{server.url}{path}", json=body, headers=bearer(), timeout=60)


def send(server, data, *, wait=0.3, reset=True):
    """Sends bytes on a connection of its own, and resets it."""
    with closing(connect(server.url)) as connection, suppress(OSError):
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.sendall(data)
        time.sleep(wait)


def request(body, *, length=None):
    data = json.dumps(body).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {KEY}\r\n"
        f"content-type: application/json\r\ncontent-length: {length or len(data)}\r\n\r\n"
    )
    return head.encode() + data


def hit(processes, number):
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def decoders(server):
    return ready_workers(server.process.pid)


def flood(server):
    with ExitStack() as opened, suppress(OSError):
        for _ in range(400):
            opened.enter_context(closing(connect(server.url)))


def stop_decoders(server):
    """Every decoder that waits sleeps on: pictures meet one, and must end by its deadline."""
    hit(decoders(server), signal.SIGSTOP)
    post(server, GOOD | {"messages": user(image_part(), text_part())})


PICTURE = GOOD | {"messages": user(image_part(SCANS), text_part())}
FORM = {"structured_outputs": {"choice": ["yes", "no"]}}
FAULTS = {
    "a decoder is killed": lambda server: hit(decoders(server)[:1], signal.SIGKILL),
    "all decoders are killed": lambda server: hit(decoders(server), signal.SIGKILL),
    "the decoders' parent is killed": lambda server: hit(
        [one for one in family(server.process.pid)[1:] if one not in decoders(server)],
        signal.SIGKILL,
    ),
    "decoders are stopped": stop_decoders,
    "a decoder gets a signal to end": lambda server: hit(
        decoders(server)[:1], signal.SIGTERM
    ),
    "keys are read again": lambda server: hit([server.process.pid], signal.SIGHUP),
    "a client leaves within headers": lambda server: send(server, b"POST /v1/chat/comp"),
    "a client leaves within a body": lambda server: send(server, request(GOOD, length=9000)),
    "a client leaves while it decodes": lambda server: send(server, request(PICTURE), wait=0.1),
    "a client leaves within a stream": lambda server: send(server, request(LONG), wait=1),
    "a client closes its half": lambda server: send(server, request(GOOD)[:-5], reset=False),
    "400 connections": flood,
    "bytes that are no HTTP": lambda server: send(server, b"\x16\x03\x01\x02\0\1\0\1\xfc" * 400),
    "many requests in one piece": lambda server: send(server, request(GOOD) * 60),
    "a WebSocket": lambda server: send(
        server, f"GET {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\n"
        f"connection: upgrade\r\nauthorization: Bearer {KEY}\r\n\r\n".encode()
    ),
    "HTTP/2": lambda server: send(server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(90)),
    "chunks that lie": lambda server: send(
        server, request(GOOD).replace(b"content-length:", b"transfer-encoding: chunked\r\nx:")
    ),
    "lists nested 100,000 deep": lambda server: httpx2.post(
        f"{server.url}{CHAT}", headers=JSON | bearer(), content=b"[" * 100_000, timeout=60
    ),
    "a form with ever new ends": lambda server: [
        post(server, GOOD | FORM | {"stop_token_ids": [number], "n": 4}) for number in range(9)
    ],
    "end ids beyond the vocabulary": lambda server: [
        post(server, GOOD | {"max_tokens": 4, "min_tokens": 1, "stop_token_ids": [999_999]})
        for _ in range(4)
    ],
    "temperatures near zero": lambda server: post(server, GOOD | {"temperature": 1e-40}),
    "a form that must go on": lambda server: post(
        server, GOOD | FORM | {"min_tokens": 4, "max_tokens": 6, "temperature": 1}
    ),
    "a form that may not end": lambda server: post(server, GOOD | FORM | {"ignore_eos": True}),
    "half a pair of surrogates": lambda server: httpx2.post(
        f"{server.url}/v1/responses", headers=JSON | bearer(), timeout=60,
        content=b'{"model":"tiny","input":"Hi","instructions":"\\ud800","max_output_tokens":2}',
    ),
}  # fmt: skip


def is_well(server):
    """Whether it lives, is ready, and answers words and a picture."""
    picture = user(image_part(encoded(square())), text_part())
    deadline = time.monotonic() + SECONDS
    while server.process.poll() is None and time.monotonic() < deadline:
        with suppress(httpx2.HTTPError, AssertionError):
            paths = (httpx2.get(f"{server.url}/{one}", headers=bearer(), timeout=20)
                     for one in ("health", "ready"))  # fmt: skip
            if all(answer.status_code == 200 for answer in paths):
                ask(server)
                ask(server, messages=picture)
                return True
        time.sleep(0.2)
    return False


def test_faults(server, table):
    failed = []
    for name, fault in FAULTS.items():
        with suppress(httpx2.HTTPError):
            fault(server)
        if not is_well(server):
            failed.append(name)
    good = len(FAULTS) - len(failed)
    table("counts", "faults survived", {"good": good, "all": len(FAULTS)})
    assert not failed


def wrong_inputs():
    """Yields the name of each input, its body, and the status and code that refuse it."""
    for name, messages, code in MESSAGES:
        body = json.dumps(GOOD | {"messages": messages()}).encode()
        yield name, body, 403 if code == FORBIDDEN else 400, code
    for name, fields, code in FIELDS:
        yield f"{name} {fields}"[:60], json.dumps(GOOD | fields).encode(), 400, code
    yield from ((name, body, status, code) for name, body, status, code in BODIES)
    for name, (data, _) in IMAGE_BOMBS.items():
        body = GOOD | {"messages": user(image_part(data), text_part())}
        yield name, json.dumps(body).encode(), 400, None
    for name, data, _ in video_bombs():
        body = GOOD | {"messages": user(video_part(data), text_part())}
        yield name, json.dumps(body).encode(), 400, None


def test_bad_inputs(server, table):
    cases = list(wrong_inputs())

    def is_refused(case):
        _, body, status, code = case
        answer = httpx2.post(
            f"{server.url}{CHAT}", content=body, headers=JSON | bearer(), timeout=120
        )
        found = answer.json().get("error", {}).get("code")
        return answer.status_code == status and code in (None, found)

    with ThreadPoolExecutor(3) as threads:
        refused = list(threads.map(is_refused, cases))
    table("counts", "bad inputs refused rightly", {"good": sum(refused), "all": len(cases)})
    assert not [case[0] for case, good in zip(cases, refused, strict=True) if not good]
    assert is_well(server)
