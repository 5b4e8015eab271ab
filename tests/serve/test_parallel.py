"""A server on two devices answers as on one, and ends cleanly when a device is lost."""

import os
import signal
from pathlib import Path

import httpx2
import pytest

from tests.serve.conftest import CHAT, GOOD, KEY, bearer, image_part, start, text_part, user
from tests.serve.memory import family

pytestmark = pytest.mark.slow


def ask(running):
    asked = GOOD | {"messages": user(image_part(), text_part()), "max_tokens": 8}
    return httpx2.post(f"{running.url}{CHAT}", json=asked, headers=bearer(), timeout=60)


def test_a_server_on_two_devices_answers_as_on_one_until_a_device_is_lost(server, tmp_path):
    expected = ask(server).json()["choices"][0]["message"]["content"]
    running = start(tmp_path, "--devices", "2", "--drain-seconds", "5", key=KEY)
    for _ in range(2):  # the second prompt begins with what is cached of the first
        assert ask(running).json()["choices"][0]["message"]["content"] == expected
    os.kill(find_follower(running.process.pid), signal.SIGKILL)
    assert running.process.wait(timeout=60) == 1
    told = running.log.read_text()
    assert "the process of device 1 ended (signal 9)" in told and "Traceback" not in told


def find_follower(process_id):
    for one in family(process_id)[1:]:
        if b"parallel.follower" in Path(f"/proc/{one}/cmdline").read_bytes():
            return one
    raise AssertionError("no follower runs")


def test_adapters_by_name_need_one_device(tmp_path):
    with pytest.raises(AssertionError, match="--devices 2 serves one model; --adapter mine="):
        start(tmp_path, "--devices", "2", "--adapter", "mine=/no")
