"""Key files: read again on SIGHUP, checked, and apart from those that may read the metrics."""

import logging
import os
import signal
import sys
import time

import httpx2
import pytest

from onevision.cli import main
from onevision.errors import InputError
from onevision.serve.keys import KeyRing, read_key_file
from onevision.serve.settings import ServerSettings
from tests.serve.conftest import CHAT, GOOD, KEY, OTHER_KEY, bearer, check, start, stop, user

ADMIN_KEY = "a-key-of-the-admins"
LONG = {"model": "tiny", "messages": user("Hi"), "max_tokens": 150, "min_tokens": 150,
        "ignore_eos": True, "stream": True}  # fmt: skip


def written(path, text, mode=0o600):
    path.touch()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def ring(**settings):
    return KeyRing(ServerSettings(name="tiny", **settings))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x80\x81\xfe\xff" * 9, "not a text file"),
        (b"\x89PNG\r\n\x1a\n", "not a text file"),
        (b"", "no key in the file"),
        (b"\n \n", "no key in the file"),
        (b"short", "8 or more printable"),
        (b"a-long-enough-key\x00", "8 or more printable"),
        ("schl\u00fcssel-aus-worten".encode(), "8 or more printable"),
        (b"k" * 9 + b"\n" * 2**20, "more than 1 MiB"),
    ],
)
def test_a_file_of_no_keys_is_one_line(tmp_path, content, reason):
    path = written(tmp_path / "keys", content)
    with pytest.raises(InputError, match=reason) as caught:
        read_key_file(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        read_key_file(tmp_path)


@pytest.mark.parametrize(
    ("mode", "verb"),
    [(0o600, None), (0o400, None), (0o644, "read"), (0o640, "read"), (0o666, "change"),
     (0o602, "change"), (0o660, "change")],
)  # fmt: skip
def test_a_file_that_others_can_read_or_change_brings_a_warning(tmp_path, caplog, mode, verb):
    with caplog.at_level(logging.WARNING):
        assert read_key_file(written(tmp_path / "keys", f"{KEY}\n", mode)) == (KEY,)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (verb is not None)
    if verb:
        assert f"can {verb} the keys" in said[0]
        assert "chmod 600" in said[0]


def test_a_bad_file_is_told_before_a_model_is_loaded(tmp_path, capsys, monkeypatch):
    path = written(tmp_path / "keys", b"\xff\xfe\x00")
    options = ["serve", "--model", "no-such-model", "--api-key-file", str(path)]
    monkeypatch.setattr(sys, "argv", ["onevision", *options])
    with pytest.raises(SystemExit):
        main()
    assert "expected one key per line" in capsys.readouterr().err


def test_who_may_read_the_metrics(tmp_path):
    admins = written(tmp_path / "admins", ADMIN_KEY)
    for settings, users in (
        ({}, {"": True}),
        ({"keys": (KEY,)}, {KEY: True, "": None}),
        ({"keys": (KEY, KEY)}, {KEY: True}),
        ({"keys": (KEY, OTHER_KEY)}, {KEY: False, OTHER_KEY: False}),
        ({"keys": (KEY,), "admin_key_file": admins}, {KEY: False, ADMIN_KEY: True}),
        ({"admin_key_file": admins}, {ADMIN_KEY: True, KEY: None}),
    ):
        keys = ring(**settings)
        for key, may in users.items():
            name = keys.check(f"Bearer {key}")
            assert (None if name is None else keys.may_read_metrics(name)) == may, settings


def test_a_reload_that_fails_keeps_the_keys(tmp_path):
    path = written(tmp_path / "keys", KEY)
    keys = ring(key_file=path)
    for bad in (b"", b"short", b"\xff"):
        written(path, bad)
        with pytest.raises(InputError):
            keys.reload()
        assert keys.check(f"Bearer {KEY}") is not None
    assert not keys.are_several
    written(path, f"{KEY}\n{OTHER_KEY}\n")
    keys.reload()
    assert keys.are_several


def test_a_signal_reads_the_keys_again_and_cuts_no_stream(tmp_path):
    path = written(tmp_path / "keys", KEY)
    admins = written(tmp_path / "admins", ADMIN_KEY)
    running = start(tmp_path, "--api-key-file", str(path), "--admin-key-file", str(admins))
    with httpx2.Client(base_url=running.url, timeout=60) as http:

        def status(key):
            return http.get("/version", headers=bearer(key)).status_code

        def reload_until(key, expected):
            running.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 10
            while status(key) != expected:
                assert time.monotonic() < deadline
                time.sleep(0.05)

        check(http.get("/metrics", headers=bearer(KEY)), 403, "admin_key_required")
        assert http.get("/metrics", headers=bearer(ADMIN_KEY)).status_code == 200
        with http.stream("POST", CHAT, json=LONG, headers=bearer(KEY)) as stream:
            lines = stream.iter_lines()
            next(lines)
            written(path, OTHER_KEY)
            reload_until(OTHER_KEY, 200)
            assert status(KEY) == 401
            assert [line for line in lines if line][-1] == "data: [DONE]"
        written(path, b"\xff")
        os.kill(running.process.pid, signal.SIGHUP)
        assert http.post(CHAT, json=GOOD, headers=bearer(OTHER_KEY)).status_code == 200
    assert stop(running) == 0
    assert "the keys stay as they were" in running.log.read_text()
