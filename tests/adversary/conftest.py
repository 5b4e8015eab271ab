"""The server that is attacked, who watches it, and the table of figures at the end."""

import json
import os
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path

import httpx2
import pytest

from tests.adversary.attacks import Attackers
from tests.adversary.figures import Figures
from tests.serve.conftest import (
    CHAT,
    GOOD,
    JSON,
    KEY,
    OTHER_KEY,
    bearer,
    image_part,
    start,
    stop,
    text_part,
    user,
    video_part,
)
from tests.serve.memory import family, resident

TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="session")
def table():
    """Adds a row to a table of figures; all are shown at the end, and written if asked for."""
    figures = Figures()
    yield figures.add
    sys.stdout.write(f"\n\n{figures.text()}\n")
    if path := os.environ.get("ONEVISION_FIGURES"):
        figures.write(Path(path))


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("adversary")
    admins = directory / "admins"
    admins.touch(mode=0o600)
    admins.write_text(KEY)
    limits = os.environ.get("ONEVISION_ATTACK_LIMITS", "").split()
    running = start(
        directory, "--admin-key-file", str(admins), "--limit", "body_seconds=20",
        "--limit", "write_seconds=5", "--limit", f"kv_bytes={2**28}",
        *(word for limit in limits for word in ("--limit", limit)),
        key=f"{KEY}\n{OTHER_KEY}", files=256,
    )  # fmt: skip
    with httpx2.Client(base_url=running.url, timeout=120) as http:
        for asked in ([text_part()], [image_part(), text_part()], [video_part(num_frames=2)]):
            http.post(CHAT, json=GOOD | {"messages": user(*asked)}, headers=bearer())
    yield running
    assert stop(running) == 0
    assert "Traceback" not in running.log.read_text()


@pytest.fixture(scope="session")
def attackers(server):
    """A process that attacks the server."""
    ready = Attackers(server.url)
    yield ready
    ready.close()


def processor_seconds(server):
    """Returns the processor time of a server and its decoders so far."""
    total = 0
    for one in family(server.process.pid):
        with suppress(OSError):  # it has ended
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def ask(server, key=OTHER_KEY, timeout=120, **fields):
    """Returns the seconds that a question takes on a new connection; it must be answered."""
    asked = json.dumps(GOOD | {"cache_salt": str(random.random())} | fields)
    began = time.monotonic()
    with closing(HTTPConnection(server.url.removeprefix("http://"), timeout=timeout)) as connection:
        connection.request("POST", CHAT, asked, JSON | bearer(key))
        answer = connection.getresponse()
        text = answer.read()
    assert answer.status == 200, text[:300]
    return time.monotonic() - began


class Watch:
    """What a server does while the context is open: the worst wait of /health, its peak of memory.

    `cores` is what it used of the processor, with its decoders.
    """

    def __init__(self, server):
        self.server, self.worst, self.before = server, 0.0, resident(server.process.pid)
        self.peak, self.cores, self._ended = self.before, 0.0, threading.Event()
        self._threads = ThreadPoolExecutor(2)

    def __enter__(self):
        self._began, self._used = time.monotonic(), processor_seconds(self.server)
        self._watching = [self._threads.submit(one) for one in (self._ask, self._weigh)]
        return self

    def __exit__(self, *_):
        self.cores = (processor_seconds(self.server) - self._used) / self.seconds
        self._ended.set()
        for one in self._watching:
            one.result()

    @property
    def seconds(self):
        return time.monotonic() - self._began

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
