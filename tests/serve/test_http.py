"""HTTP as RFC 9112 has it: HEAD, framing, headers and codings that clients and proxies send."""

import gzip
import json
import socket

import pytest

from tests.serve.conftest import CHAT, GOOD, JSON, check


def exchange(server, data: bytes) -> bytes:
    """Sends bytes on a new connection; returns all that is answered until it is closed."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(data)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    return received


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "//", "http://a]b"])
def test_an_origin_that_is_no_url_is_refused(http, origin):
    check(http.get("/v1/models", headers={"origin": origin}), 403, "origin_not_allowed")


@pytest.mark.parametrize("path", ["/version", "/health", "/v1/models", "/metrics", "/nothing"])
def test_head_has_the_headers_of_get_and_no_body(http, path):
    head, get = http.head(path), http.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


def test_head_of_a_route_for_posts_is_refused(http):
    answer = http.head(CHAT)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


CHUNKED, LENGTH = b"transfer-encoding: chunked\r\n", b"content-length: %d\r\n"


@pytest.mark.parametrize("lengths", [
    LENGTH + CHUNKED, CHUNKED + LENGTH, b"content-length: 0\r\n" + CHUNKED,
    b"content-length: 4\r\n" + LENGTH, b"transfer-encoding: gzip, chunked\r\n" + LENGTH,
    b"transfer-encoding: identity\r\n" + LENGTH, b"content-length: +%d\r\n",
])  # fmt: skip
def test_two_lengths_of_a_body_close_the_connection(server, lengths):
    body = json.dumps(GOOD).encode()
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    if b"%d" in lengths:
        lengths %= len(chunked)
    request = (
        b"POST %s HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n%s\r\n"
    ) % (CHAT.encode(), lengths)
    answered = exchange(server, request + chunked + b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
    assert answered.startswith(b"HTTP/1.1 400")
    assert answered.count(b"HTTP/1.1") == 1
    assert b"connection: close" in answered.lower()


@pytest.mark.parametrize("num_bytes", [33_000, 40_000, 60_000])
def test_long_headers_are_refused(http, num_bytes):
    answer = http.get("/health", headers={"x-long": "a" * num_bytes})
    assert answer.status_code in (400, 431)
    assert answer.json()["error"]["code"] in ("invalid_http", "headers_too_large")
    assert http.get("/health", headers={"x-long": "a" * 20_000}).status_code == 200


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "nonsense"])
def test_a_coding_of_the_body_is_refused(http, coding):
    body = gzip.compress(json.dumps(GOOD).encode())
    answer = http.post(CHAT, content=body, headers=JSON | {"content-encoding": coding})
    check(answer, 415, "unsupported_media_type")
    plain = http.post(CHAT, json=GOOD, headers={"content-encoding": "identity"})
    assert plain.status_code == 200
