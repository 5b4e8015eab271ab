"""Servers as users start them: `onevision serve` with `tiny`, in a separate process."""

import base64
import io
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from PIL import Image as PIL

from onevision.cli.demo import DEMO
from tests.serve.memory import resident

KEY, OTHER_KEY = "a-key-of-the-tests", "another-key-of-them"
CLIP = (DEMO / "clip.mp4").read_bytes()
CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}


@dataclass
class Running:
    """A server process."""

    process: subprocess.Popen
    log: Path
    url: str

    @property
    def metrics(self) -> dict[str, float]:
        text = httpx2.get(f"{self.url}/metrics", headers=bearer()).text
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
        return {name: float(value) for name, value in lines}

    @property
    def held_bytes(self) -> int:
        """Resident memory without cached prefixes, which are kept on purpose."""
        known = self.metrics["onevision:prefix_cache_bytes"]
        return resident(self.process.pid) - int(known)

    def wait_until_idle(self, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while self.metrics["onevision:num_requests_running"]:
            assert time.monotonic() < deadline, "a request still holds its place"
            time.sleep(0.05)


def bearer(key: str = KEY) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def start(
    directory: Path, *options: str, key: str | None = None, files: int | None = None
) -> Running:
    """Starts a server; `files` is how many it may have open."""
    log = directory / "server.log"
    environment = os.environ | ({"ONEVISION_API_KEY": key} if key else {})
    with log.open("wb") as out:
        own = [sys.executable, "-m", "onevision", "serve", "--port", "0", *options]
        if files is not None:
            own = ["/bin/sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *own]
        process = subprocess.Popen(
            own,
            stdout=out, stderr=out, env=environment,
        )  # fmt: skip
    deadline = time.monotonic() + 120
    while (found := re.search(r"running on (http://\S+:\d+)", log.read_text())) is None:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    return Running(process, log, found[1])


def stop(running: Running) -> int:
    running.process.send_signal(signal.SIGTERM)
    return running.process.wait(timeout=60)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A server with default settings."""
    running = start(tmp_path_factory.mktemp("server"))
    yield running
    assert stop(running) == 0
    assert "Traceback" not in running.log.read_text()


@pytest.fixture(scope="module")
def http(server):
    with httpx2.Client(base_url=server.url, timeout=120) as client:
        yield client


@pytest.fixture(scope="session")
def settled(server):
    """A server whose threads have all handled every kind of media, and long text.

    Allocators keep the memory that this takes.
    """
    kinds = [[], [image_part()], [image_part()] * 3, [video_part()], [text_part("a b " * 1500)]]

    def ask(media):
        asked = GOOD | {"messages": user(*media, text_part())}
        return httpx2.post(f"{server.url}{CHAT}", json=asked, timeout=120).status_code

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(ask, kinds * 5)) == {200}
    return server


@pytest.fixture
def harmless(settled, http):
    """Checks afterwards that a valid request is answered, and that memory is back within 10 %."""
    before = settled.held_bytes
    yield
    assert http.post(CHAT, json=GOOD).status_code == 200
    deadline = time.monotonic() + 5
    while (after := settled.held_bytes) > 1.1 * before:
        assert time.monotonic() < deadline, f"{before >> 20} MiB became {after >> 20} MiB"
        time.sleep(0.2)


def check(answer: httpx2.Response, status: int, code: str) -> None:
    """Checks a refusal: its code, and that it reveals nothing of the payload or the server."""
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), error
    assert len(error["message"]) < 400
    for secret in ("0x7f", "BytesIO", "Traceback", "passwd", "/work", "<script>"):
        assert secret not in error["message"]


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A strict server: two keys, one request at a time, no queue, short timeouts, small bodies."""
    limits = (
        "running=1", "queue=0", "request_seconds=4", "body_bytes=100000", "bodies_bytes=150000",
        "body_seconds=2",
    )  # fmt: skip
    options = [word for limit in limits for word in ("--limit", limit)]
    directory = tmp_path_factory.mktemp("narrow")
    admins = directory / "admins"
    admins.touch(mode=0o600)
    admins.write_text(KEY)
    options += ["--admin-key-file", str(admins)]
    running = start(directory, "--strict", *options, key=f"{KEY}\n{OTHER_KEY}")
    yield running
    assert stop(running) == 0


def encoded(image: PIL.Image, form: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def square(colour: str = "red", side: int = 98) -> PIL.Image:
    image = PIL.new("RGB", (side, side), "black")
    image.paste(colour, (20, 20, 70, 70))
    return image


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def image_part(data: bytes | None = None, kind: str = "image/png", **options) -> dict:
    url = data_url(encoded(square()) if data is None else data, kind)
    return {"type": "image_url", "image_url": {"url": url, **options}}


def video_part(data: bytes = CLIP, **options) -> dict:
    return {"type": "video_url", "video_url": {"url": data_url(data, "video/mp4")}, **options}


def text_part(text: str = "What is this?") -> dict:
    return {"type": "text", "text": text}


def user(*content) -> list[dict]:
    only = content[0] if len(content) == 1 and isinstance(content[0], str) else list(content)
    return [{"role": "user", "content": only}]


GOOD = {"model": "tiny", "messages": user("Hi"), "max_tokens": 1}
