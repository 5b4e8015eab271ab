"""What a server survives: an engine that fails, a signal under load, clients of all kinds."""

import asyncio
import json
import os
import random
import shutil
import signal
import time

import httpx2
import numpy as np
import pytest

from onevision import load
from onevision.checkpoint.hub import BUNDLED
from onevision.serve.app import create_app
from onevision.serve.service import Service
from onevision.serve.settings import ServerSettings
from tests.serve.conftest import image_part, start, stop, text_part, user, video_part
from tests.serve.memory import resident

CHAT = "/v1/chat/completions"
GOOD = {"model": "tiny", "messages": user("Hi"), "max_tokens": 2}
LONG = {"model": "tiny", "messages": user("Hi"), "max_tokens": 3000, "min_tokens": 3000,
        "ignore_eos": True, "stream": True}  # fmt: skip


def test_26_an_engine_that_fails_is_restarted(monkeypatch):
    service = Service(load("tiny"), ServerSettings(name="tiny"))

    def break_down():
        raise KeyError("a fault of ours")

    async def talk():
        transport = httpx2.ASGITransport(create_app(service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            monkeypatch.setattr(service.supervisor.engine.scheduler, "admit", break_down)
            failed = await http.post(CHAT, json=GOOD)
            assert failed.status_code == 500
            assert "fault of ours" not in failed.text
            down = await http.get("/health")
            assert (down.status_code, down.json()["error"]["code"]) == (503, "not_ready")
            assert (await http.post(CHAT, json=GOOD)).status_code == 200
            assert (await http.get("/health")).status_code == 200
            for _ in range(6):  # it is not restarted for ever
                monkeypatch.setattr(service.supervisor.engine.scheduler, "admit", break_down)
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
        # Overwritten in place, which would change a memory-mapped file.
        shutil.copyfile(BUNDLED["tiny"] / "config.json", model / "model.safetensors")
        other = GOOD | {"cache_salt": "read anew"}
        assert http.post(CHAT, json=other).json()["choices"] == before
        asked = LONG | {"max_tokens": 500, "min_tokens": 500}  # a second at least
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


# Requests after which threads, caches and arenas have reached their size.
WARM = 4_000


@pytest.mark.slow
def test_28_a_thousand_requests_of_all_kinds(tmp_path):
    """Good, bad and abandoned requests: memory is stable, no place is lost, counters add up."""
    running = start(tmp_path, "--limit", f"kv_bytes={2**26}")  # cached prefixes fill it early
    num_requests, rng = int(os.environ.get("ONEVISION_SOAK", "1000")), random.Random(0)
    kinds = rng.choices(["text", "image", "video", "bad", "left"], [4, 3, 1, 1, 1], k=num_requests)
    memory, minutes, statuses = [], [], []

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
                memory.append(resident(running.process.pid) / 2**20)
                minutes.append(time.monotonic() / 60)

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
    assert metrics["onevision:requests_failed_total"] == 0
    for held in ("kv_cache_usage_perc", "num_requests_running", "num_requests_waiting"):
        assert metrics[f"onevision:{held}"] == 0
    is_long = num_requests >= 3 * WARM
    warm = WARM // 20 if is_long else len(memory) // 3
    slope, _ = np.polyfit(minutes[warm:], memory[warm:], 1)
    report = {
        "requests": num_requests, "minutes": round(minutes[-1] - minutes[0], 2),
        "MiB": [round(held) for held in memory], "MiB_per_minute": round(float(slope), 3),
    }  # fmt: skip
    (tmp_path / "soak.json").write_text(json.dumps(report))
    assert memory[-1] < 1.1 * memory[warm], report
    if is_long:
        assert slope < 1, report
