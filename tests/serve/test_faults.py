"""What a server survives: an engine that breaks down, a signal under load, clients of all kinds."""

import asyncio
import json
import os
import random
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import httpx2
import pytest

from onevision import load
from onevision.checkpoint.hub import BUNDLED
from onevision.serve.app import create_app
from onevision.serve.service import Service
from onevision.serve.settings import ServerSettings
from tests.serve.conftest import bearer, image_part, start, stop, text_part, user, video_part

CHAT = "/v1/chat/completions"
GOOD = {"model": "tiny", "messages": user("Hi"), "max_tokens": 2}
LONG = {"model": "tiny", "messages": user("Hi"), "max_tokens": 3000, "min_tokens": 3000,
        "ignore_eos": True, "stream": True}  # fmt: skip


def test_26_an_engine_that_breaks_down_is_started_again(monkeypatch):
    service = Service(load("tiny"), ServerSettings(name="tiny"))

    def break_down(prompts):
        raise KeyError("a fault of ours")

    async def talk():
        transport = httpx2.ASGITransport(create_app(service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            monkeypatch.setattr(service.supervisor.engine.reader, "read", break_down)
            failed = await http.post(CHAT, json=GOOD)
            assert failed.status_code == 500
            assert "fault of ours" not in failed.text
            down = await http.get("/health")
            assert (down.status_code, down.json()["error"]["code"]) == (503, "not_ready")
            assert (await http.post(CHAT, json=GOOD)).status_code == 200
            assert (await http.get("/health")).status_code == 200
            for _ in range(6):  # it is not started again for ever
                monkeypatch.setattr(service.supervisor.engine.reader, "read", break_down)
                last = await http.post(CHAT, json=GOOD)
            assert last.status_code == 503
            assert service.supervisor.num_restarts == 3
            assert (await http.get("/ready")).status_code == 503

    asyncio.run(talk())
    service.close()


def test_27_29_a_signal_lets_answers_finish_and_new_weights_change_nothing(tmp_path):
    model = shutil.copytree(BUNDLED["tiny"], tmp_path / "tiny")
    running = start(tmp_path, "--model", str(model))
    with httpx2.Client(base_url=running.url, timeout=60) as http:
        before = http.post(CHAT, json=GOOD).json()["choices"]
        (model / "model.safetensors").unlink()
        shutil.copy(BUNDLED["tiny"] / "config.json", model / "model.safetensors")
        other = GOOD | {"cache_salt": "read anew"}
        assert http.post(CHAT, json=other).json()["choices"] == before
        asked = LONG | {"max_tokens": 150, "min_tokens": 150}
        with http.stream("POST", CHAT, json=asked) as stream:
            lines = stream.iter_lines()
            next(lines)
            running.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            late = http.post(CHAT, json=GOOD)
            assert (late.status_code, late.json()["error"]["code"]) == (503, "shutting_down")
            assert int(late.headers["retry-after"]) > 0
            assert [line for line in lines if line][-1] == "data: [DONE]"
    assert running.process.wait(timeout=30) == 0


def test_51_a_slow_body_ends_and_idle_connections_hold_nobody_up(narrow):
    host, port = narrow.url.removeprefix("http://").split(":")
    idle = [socket.create_connection((host, int(port))) for _ in range(200)]
    with socket.create_connection((host, int(port))) as slow:
        head = (
            f"POST {CHAT} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
            f"authorization: {bearer()['authorization']}\r\ncontent-length: 90\r\n\r\n"
        )
        slow.sendall(head.encode() + b"{")
        good = httpx2.post(f"{narrow.url}{CHAT}", json=GOOD, headers=bearer(), timeout=60)
        assert good.status_code == 200
        slow.settimeout(20)
        assert b" 408 " in slow.recv(1000)
    for connection in idle:
        connection.close()


def test_52_whoever_leaves_within_a_prompt_frees_its_place(server):
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps(LONG | {"messages": user(image_part(), text_part("a b " * 1500))})
    with socket.create_connection((host, int(port))) as leaving:
        head = f"POST {CHAT} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        leaving.sendall(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
        time.sleep(0.5)
    server.wait_until_idle()


def test_53_many_large_images_queue_up(server):
    """Sixteen pictures of 4 megapixels at a time: all are answered, by two workers."""
    from PIL import Image as PIL

    from tests.serve.conftest import encoded

    data = encoded(PIL.new("RGB", (2000, 2000), "navy"))
    asked = GOOD | {"messages": user(image_part(data), text_part()), "max_tokens": 1}
    told = []

    def ask():
        told.append(httpx2.post(f"{server.url}{CHAT}", json=asked, timeout=120).status_code)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == [200] * 16


@pytest.mark.slow
def test_28_a_thousand_requests_of_all_kinds(tmp_path):
    """Good, bad and abandoned requests: memory stays, no place is lost, the counters add up."""
    running = start(tmp_path)
    num_requests, rng = int(os.environ.get("ONEVISION_SOAK", "1000")), random.Random(0)
    kinds = rng.choices(["text", "image", "video", "bad", "left"], [4, 3, 1, 1, 1], k=num_requests)
    memory, statuses = [], []

    async def ask(http, kind):
        if kind == "left":
            async with http.stream("POST", CHAT, json=LONG) as stream:
                await anext(stream.aiter_lines())
            return
        media = {"image": [image_part()], "video": [video_part(num_frames=2)]}.get(kind, [])
        fields = {"temperature": -1} if kind == "bad" else {}
        messages = user(*media, text_part(str(rng.random())))
        answer = await http.post(CHAT, json=GOOD | {"messages": messages} | fields)
        statuses.append(answer.status_code)

    async def soak():
        async with httpx2.AsyncClient(base_url=running.url, timeout=300) as http:
            for begin in range(0, num_requests, 20):
                await asyncio.gather(*(ask(http, kind) for kind in kinds[begin : begin + 20]))
                known = running.metrics["onevision:prefix_cache_bytes"]  # kept on purpose
                memory.append(resident_bytes(running.process.pid) - known)

    try:
        asyncio.run(soak())
        running.wait_until_idle()
        metrics = running.metrics
    finally:
        code = stop(running)
    assert code == 0
    good = sum(kind in ("text", "image", "video") for kind in kinds)
    assert (statuses.count(200), statuses.count(400)) == (good, kinds.count("bad"))
    ended = 'onevision:request_success_total{finished_reason="%s"}'
    assert sum(metrics.get(ended % reason, 0) for reason in ("stop", "length")) == good
    assert metrics["onevision:requests_aborted_total"] == kinds.count("left")
    assert metrics["onevision:kv_cache_usage_perc"] == 0
    quarter = len(memory) // 4
    assert memory[-1] < memory[quarter] * 1.25 + 2**26, [m >> 20 for m in memory]


def resident_bytes(process_id: int) -> int:
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
