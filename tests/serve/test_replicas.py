"""Replicas behind nginx: keys of conversations, what nginx passes on and refuses, a load test."""

import base64
import json
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from benchmarks.replicas_nginx import (
    DEPLOY,
    MISSING,
    find_nginx,
    on_loopback,
    proxying,
    read_places,
    write_around,
    write_config,
)
from benchmarks.serving import free_port
from onevision.serve.schema.problems import ApiError
from tests.serve.conftest import (
    CHAT,
    GOOD,
    JSON,
    KEY,
    bearer,
    check,
    encoded,
    image_part,
    square,
    start,
    stop,
    text_part,
    user,
    video_part,
)

TELL_BY_NODE = """
import affinity from "./affinity.mjs";
import { readFileSync } from "fs";
const { bodies, authorization, spread } = JSON.parse(readFileSync(0));
const keys = bodies.map((b) => affinity.keyOf(Buffer.from(b, "base64"), authorization, spread));
console.log(JSON.stringify(keys));
"""
TELL_BY_NGINX = """
import affinity from "%s";
function tell(r) {
    const key = affinity.keyOf(r.requestBuffer, r.headersIn.Authorization || "", +r.args.spread);
    r.return(200, key);
}
export default {tell};
"""
TELLING = """
js_var $affinity;
js_import tell from %s;
client_max_body_size 64m;
client_body_buffer_size 64m;
client_body_in_single_buffer on;
server { listen 127.0.0.1:%d; location / { js_content tell.tell; } }
"""
RED, BLUE = image_part(), image_part(encoded(square("blue")))


@pytest.fixture(scope="session")
def nginx():
    found = find_nginx()
    if found is None:
        pytest.skip(MISSING)
    return found


def keys_by_node(directory):
    if shutil.which("node") is None:
        pytest.skip("node is absent")
    shutil.copy(DEPLOY / "affinity.js", directory / "affinity.mjs")
    (directory / "tell.mjs").write_text(TELL_BY_NODE)

    def keys_of(*bodies, authorization="", spread=1):
        given = {
            "bodies": [base64.b64encode(body).decode() for body in bodies],
            "authorization": authorization, "spread": spread,
        }  # fmt: skip
        done = subprocess.run(
            ["node", "tell.mjs"], cwd=directory, input=json.dumps(given), capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        return json.loads(done.stdout)

    yield keys_of


def keys_by_nginx(directory, nginx):
    port = free_port()
    (directory / "tell.js").write_text(TELL_BY_NGINX % (DEPLOY / "affinity.js"))
    (directory / "replicas.conf").write_text(TELLING % (directory / "tell.js", port))

    def keys_of(*bodies, authorization="", spread=1):
        headers = {"authorization": authorization} if authorization else {}
        asked = {"params": {"spread": spread}, "headers": headers, "timeout": 60}
        return [httpx2.post(f"http://127.0.0.1:{port}/", content=b, **asked).text for b in bodies]

    with proxying(write_around(directory, nginx), port, nginx):
        yield keys_of


@pytest.fixture(scope="module", params=["node", pytest.param("nginx", marks=pytest.mark.nginx)])
def keys_of(request, tmp_path_factory):
    """Returns the keys of bodies, as node or nginx itself find them."""
    directory = tmp_path_factory.mktemp(request.param)
    if request.param == "node":
        yield from keys_by_node(directory)
    else:
        yield from keys_by_nginx(directory, request.getfixturevalue("nginx"))


def body_of(*messages, **fields) -> bytes:
    return json.dumps({"model": "tiny", "messages": [*messages], **fields}).encode()


def said(words: str, role: str = "assistant") -> dict:
    return {"role": role, "content": words}


def test_questions_about_a_picture_have_its_key(keys_of):
    one, other, later, blue = keys_of(
        body_of(*user(RED, text_part("What is it?")), max_tokens=4),
        body_of(said("Be brief.", "system"), *user(text_part('A "square"?\\'), RED, BLUE)),
        body_of(*user(RED, text_part("What is it?")), said("red"), *user("And now?")),
        body_of(*user(BLUE, text_part("What is it?")), max_tokens=4),
    )
    assert one == other == later != blue
    assert len(one) == len(blue) == 64


def test_turns_of_a_conversation_of_words_have_one_key(keys_of):
    long = "Tell me a story. " * 50
    for words in ("Hi", long):
        first, second, other, prompted = keys_of(
            body_of(*user(words)),
            body_of(*user(words), said("Hello."), *user("Go ahead.")),
            body_of(*user(words + "!")),
            body_of(said("Be brief.", "system"), *user(words)),
        )
        assert first == second
        assert len({first, other, prompted}) == 3
        assert first == keys_of(json.dumps({"input": words, "model": "tiny"}).encode())[0]


def test_what_separates_caches_separates_keys(keys_of):
    asked = body_of(*user(RED))
    salts = ({"cache_salt": "a"}, {"cache_salt": "b" * 200}, {"prompt_cache_key": "c"})
    salted = keys_of(*(body_of(*user(RED), **salt) for salt in salts))
    keyed = keys_of(asked, authorization="Bearer one") + keys_of(asked, authorization="Bearer two")
    assert len({*keys_of(asked), *salted, *keyed}) == 6


def test_a_medium_has_one_key_however_it_is_written(keys_of):
    url = RED["image_url"]["url"]
    parts = (
        RED,
        {"image_url": url, "type": "image_url"},
        {"type": "input_image", "image_url": url},
        {"type": "video", "video": [url, BLUE["image_url"]["url"]]},
        {"type": "video", "video": [RED, BLUE]},
        {"type": "video_url", "video_url": {"url": url}},
        {"type": "video_url", "video_url": url},
    )
    bodies = [body_of(*user(part, text_part())) for part in parts]
    bodies.append(json.dumps({"input": user(parts[2])}, indent=2).encode())
    bodies.append(json.dumps({"messages": [{"content": [RED], "role": "user"}]}).encode())
    assert len({*keys_of(*bodies)}) == 1
    assert keys_of(body_of(*user(video_part()))) != keys_of(bodies[0])


def test_bodies_that_ask_nothing_have_no_key(keys_of):
    bodies = (
        b"", b"[", b'"', b'"\\"', b"null", b"3", b"[]", b"{}", b'{"messages": 5}', b"\xff\xfe",
        b'{"messages": [null, 3, {"content": [null, 3, {"image_url": []}, {"video": [null]}]}]}',
        b'{"input": {"url": "data:"}}', body_of(*user(RED))[:-1], body_of() + b"}",
    )  # fmt: skip
    assert keys_of(*bodies) == [""] * len(bodies)


def test_hostile_bodies_cost_little(keys_of):
    size = 4 << 20
    bodies = [
        (unit * (size // len(unit)))[:size]
        for unit in (b"[", b'[""],', b'\\"', b"\\", b'"', b'"a', b" ", b'{"a":')
    ]
    began = time.process_time()
    assert keys_of(*bodies) == [""] * len(bodies)
    assert time.process_time() - began < 20


def test_words_that_look_like_a_mark_are_words(keys_of):
    odd = [body_of(*user(f"\u0001{n}"), cache_salt="s" * 300) for n in (0, 1, "x", -1)]
    assert all(keys_of(*odd))
    assert len({*keys_of(*odd)}) == 4


def test_a_picture_may_be_spread(keys_of):
    asked = [body_of(*user(RED, text_part(f"Question {n}"))) for n in range(12)]
    later = [
        body_of(*user(RED, text_part(f"Question {n}")), said("red"), *user("And?"))
        for n in range(12)
    ]
    keys = keys_of(*asked, spread=2)
    assert len({*keys}) == 2
    assert keys_of(*later, spread=2) == keys


@pytest.mark.nginx
def test_nginx_reads_the_file_as_it_is(nginx, tmp_path):
    own, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=example"]
    subprocess.run([*command, "-keyout", own, "-out", certificate], check=True, capture_output=True)
    changes = {
        "/etc/ssl/certs/vision.example.org.pem": str(certificate),
        "/etc/ssl/private/vision.example.org.key": str(own),
        "/etc/nginx/affinity.js": str(DEPLOY / "affinity.js"),
    }
    config = write_config(tmp_path, changes, nginx)
    done = subprocess.run(
        [nginx.program, "-t", "-e", "stderr", "-c", config], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def test_refusals_of_nginx_have_the_envelope_of_the_server():
    text = (DEPLOY / "nginx-replicas.conf").read_text()
    written = re.findall(r"return (\d+) '(.*)';", text)
    assert len(written) == 5
    for status, envelope in written:
        error = json.loads(envelope)["error"]
        own = ApiError(error["message"], status=int(status), code=error["code"]).envelope
        assert {"error": error} == own.model_dump()


@pytest.fixture(scope="module")
def cluster(nginx, tmp_path_factory):
    """A client of nginx in front of a server with a key, and of a replica that is gone."""
    directory = tmp_path_factory.mktemp("cluster")
    running = start(directory, key=KEY)
    port, alive = free_port(), int(running.url.rsplit(":", 1)[1])
    config = write_config(directory, on_loopback(port, (alive, free_port())), nginx)
    with (
        proxying(config, port, nginx),
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as http,
    ):
        yield http, config, running
    assert stop(running) == 0


@pytest.mark.nginx
def test_a_lost_replica_is_passed_by(cluster):
    http, config, _ = cluster
    for n in range(8):
        body = GOOD | {"messages": user(f"Hi {n}")}
        assert http.post(CHAT, json=body, headers=bearer()).status_code == 200
    assert http.get("/v1/models", headers=bearer()).json()["data"][0]["id"] == "tiny"
    assert http.get("/health").json() == {"status": "ok"}
    places = [place for place in read_places(config) if place.path == CHAT]
    assert len({place.key for place in places}) == 8
    assert {place.asked[-1] for place in places} == {places[0].asked[-1]}


@pytest.mark.nginx
def test_answers_are_those_of_the_server(cluster):
    http, _, running = cluster
    bodies = (
        GOOD, GOOD | {"messages": user(RED, text_part())}, GOOD | {"n": 9}, GOOD | {"images": []},
    )  # fmt: skip
    for body in bodies:
        own = httpx2.post(f"{running.url}{CHAT}", json=body, headers=bearer(), timeout=120)
        given = http.post(CHAT, json=body, headers=bearer())
        assert given.status_code == own.status_code
        for name in ("choices", "error"):
            assert given.json().get(name) == own.json().get(name)
    for malformed in (b"", b"{"):
        refused = http.post(CHAT, content=malformed, headers=bearer() | JSON)
        check(refused, 400, "invalid_json")
    count = http.post("/v1/tokenize", json=bodies[1], headers=bearer()).json()
    assert count["image_tokens"] > 0
    told = http.post("/v1/responses", json={"model": "tiny", "input": "Hi"}, headers=bearer())
    assert told.json()["object"] == "response"


@pytest.mark.nginx
def test_large_bodies_reach_the_server_and_larger_ones_do_not(cluster):
    http = cluster[0]
    noise = encoded(square(side=98), "BMP") + random.Random(0).randbytes(14 << 20)
    body = GOOD | {"messages": user(image_part(noise), text_part())}
    assert http.post(CHAT, json=body, headers=bearer()).status_code == 200
    long = b'{"model": "' + b"a" * (64 << 20) + b'"}'
    refused = http.post(CHAT, content=long, headers=bearer() | JSON)
    check(refused, 413, "request_too_large")


@pytest.mark.nginx
def test_streams_arrive_as_they_are_written(cluster):
    http = cluster[0]
    body = GOOD | {"max_tokens": 40, "ignore_eos": True, "stream": True}
    with http.stream("POST", CHAT, json=body, headers=bearer()) as answer:
        pieces = [piece for piece in answer.iter_raw() if piece]
    assert len(pieces) > 3
    assert pieces[-1].endswith(b"data: [DONE]\n\n")


@pytest.mark.nginx
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_its_request(cluster, stream):
    http, _, running = cluster
    aborted = running.metrics["onevision:requests_aborted_total"]
    body = GOOD | {"max_tokens": 2000, "min_tokens": 2000, "ignore_eos": True, "stream": stream}
    if stream:
        with http.stream("POST", CHAT, json=body, headers=bearer()) as answer:
            assert next(answer.iter_raw())
    else:
        with pytest.raises(httpx2.ReadTimeout):
            http.post(CHAT, json=body, headers=bearer(), timeout=2)
    running.wait_until_idle()
    assert running.metrics["onevision:requests_aborted_total"] == aborted + 1


def socket_to(http) -> socket.socket:
    return socket.create_connection((http.base_url.host, http.base_url.port), timeout=30)


@pytest.mark.nginx
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", CHAT, 401),
        ("PUT", CHAT, 401),
        ("POST", "/v1/models", 401),
        ("POST", "/health", 405),
    ],
)
def test_without_a_valid_key_no_body_is_read(cluster, method, path, status):
    """The answer comes although the body does not."""
    http = cluster[0]
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 60000000\r\n"
    with socket_to(http) as connection:
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode())
        assert connection.recv(12) == f"HTTP/1.1 {status}".encode()


@pytest.mark.nginx
def test_few_large_bodies_are_held_at_a_time(cluster):
    http = cluster[0]
    head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n"
    with ExitStack() as stack:
        for _ in range(8):
            connection = stack.enter_context(socket_to(http))
            connection.sendall(f"{head}Content-Length: 20000000\r\n\r\n".encode())
        time.sleep(1)
        large = http.post(CHAT, content=b"a" * 10_000_000, headers=bearer() | JSON)
        assert http.post(CHAT, json=GOOD, headers=bearer()).status_code == 200
    check(large, 429, "rate_limited")
    assert large.headers["retry-after"] == "1"


@pytest.mark.nginx
def test_a_wrong_key_is_refused_as_by_the_server(cluster):
    refused = cluster[0].post(CHAT, json=GOOD, headers=bearer("a-wrong-key"))
    check(refused, 401, "invalid_api_key")
    assert refused.headers["www-authenticate"]


@pytest.mark.nginx
def test_other_methods_hosts_and_metrics(cluster):
    http = cluster[0]
    check(http.get(CHAT, headers=bearer()), 405, "method_not_allowed")
    assert http.get("/metrics", headers=bearer()).status_code == 404
    assert http.get("/replica/key", headers=bearer()).status_code == 404
    preflight = {"origin": "https://other.example", "access-control-request-method": "POST"}
    assert http.options(CHAT, headers=preflight).status_code == 403  # by the server
    foreign = http.post(CHAT, json=GOOD, headers=bearer() | {"host": "other.example"})
    check(foreign, 403, "not_allowed")


@pytest.mark.nginx
def test_without_replicas_the_answer_says_so(nginx, tmp_path):
    port = free_port()
    config = write_config(tmp_path, on_loopback(port, (free_port(), free_port())), nginx)
    with proxying(config, port, nginx):
        refused = httpx2.post(f"http://127.0.0.1:{port}{CHAT}", json=GOOD)
    check(refused, 503, "not_ready")
    assert refused.headers["retry-after"] == "5"


@pytest.mark.slow
@pytest.mark.nginx
def test_a_full_replica_passes_a_hot_picture_on(nginx, tmp_path):
    port, limits = free_port(), ("--limit", "running=1", "--limit", "queue=0")
    body = GOOD | {"messages": user(RED), "max_tokens": 200, "ignore_eos": True, "min_tokens": 200}
    with ExitStack() as stack:
        ports = []
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            running = start(tmp_path / name, *limits)
            stack.callback(stop, running)
            ports.append(int(running.url.rsplit(":", 1)[1]))
        config = write_config(tmp_path, on_loopback(port, ports), nginx)
        stack.enter_context(proxying(config, port, nginx))
        url = f"http://127.0.0.1:{port}{CHAT}"
        with ThreadPoolExecutor(3) as threads:
            asked = [threads.submit(httpx2.post, url, json=body, timeout=200) for _ in range(3)]
        answers = [one.result() for one in asked]
    assert sorted(answer.status_code for answer in answers) == [200, 200, 429]
    refused = next(answer for answer in answers if answer.status_code == 429)
    check(refused, 429, "queue_full")
    asked = sorted(len(place.asked) for place in read_places(config))
    assert asked == [1, 2, 2]


@pytest.mark.slow
@pytest.mark.nginx
def test_two_replicas_under_load(nginx, tmp_path):
    """The benchmark itself says what fails: errors, other answers, keys that moved."""
    output = tmp_path / "replicas.json"
    words = ["--pictures", "2", "--each", "2", "--output", str(output)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.replicas", *words], cwd=Path(DEPLOY).parent,
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = {row["phase"]: row for row in json.loads(output.read_text())["phases"]}
    assert found["affinity"]["pictures_encoded"] == found["one"]["pictures_encoded"] == 2
    assert found["killed"]["asked_again"] > 0
    assert found["killed"]["failed_later"] == 0
    assert found["returned"]["errors"] == {}
