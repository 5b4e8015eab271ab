"""`onevision list` and `remove` on a cache in the hub's own layout; `pull` without a connection."""

import os
import subprocess
import sys
from hashlib import sha256

import pytest

from onevision.checkpoint.hub import BUNDLED

REVISION = "1" * 40


def put(cache, repo_id, files):
    """Writes a repository as the hub's client does: blobs by digest, links by name."""
    home = cache / f"models--{repo_id.replace('/', '--')}"
    (home / "snapshots" / REVISION).mkdir(parents=True)
    for folder in ("blobs", "refs"):
        (home / folder).mkdir()
    (home / "refs" / "main").write_text(REVISION)
    for name, content in files.items():
        digest = sha256(content).hexdigest()
        (home / "blobs" / digest).write_bytes(content)
        (home / "snapshots" / REVISION / name).symlink_to(f"../../blobs/{digest}")
    return home


@pytest.fixture
def hub(tmp_path):
    """A cache with a model and an adapter, and a function that runs a command on it."""
    cache = tmp_path / "hub"
    tiny = {path.name: path.read_bytes() for path in BUNDLED["tiny"].iterdir() if path.is_file()}
    homes = [
        put(cache, "someone/tiny", tiny),
        put(cache, "someone/lora", {"adapter_config.json": b"{}", "a.safetensors": bytes(9)}),
    ]
    environment = os.environ | {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}

    def run(*words, stdin=""):
        command = [sys.executable, "-m", "onevision", *words]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, input=stdin, check=False
        )

    return homes, run


def test_cached_models_are_listed_asked_and_removed(hub):
    (tiny, lora), run = hub
    listed = run("list").stdout.splitlines()
    assert [line.split()[0] for line in listed[:-1]] == ["tiny", "someone/lora", "someone/tiny"]
    assert " adapter " in listed[1] and " model " in listed[2]
    assert listed[-1].startswith("2 in ")
    assert run("ask", "Hi", "--model", "someone/tiny").returncode == 0
    kept = run("remove", "someone/tiny", stdin="n\n")
    assert "someone/tiny: kept" in kept.stdout and tiny.is_dir()
    silent = run("remove", "someone/tiny")
    assert silent.returncode == 1 and "give --yes" in silent.stderr and tiny.is_dir()
    done = run("remove", "someone/tiny", "--yes")
    assert done.stdout.startswith("someone/tiny: removed") and not tiny.exists()
    assert lora.is_dir()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("pull", "someone/other"), "error: someone/other: "),
        (("pull", "tiny"), "error: 'tiny' is no hub id; expected owner/name"),
        (("remove", "someone/other", "--yes"), "which holds someone/lora, someone/tiny"),
    ],
)
def test_what_cannot_be_done_is_one_line(hub, words, message):
    _, run = hub
    done = run(*words)
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (1, 1, "")
    assert message in done.stderr
