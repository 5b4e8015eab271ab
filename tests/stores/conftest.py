"""Servers of stores, and the environment in which clients find them."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest

from tests.stores.front import Front
from tests.stores.hub import Hub
from tests.train.conftest import small  # noqa: F401

ROOT = Path(__file__).parents[2]


@contextmanager
def server(kind: str) -> Iterator[Front]:
    """Starts the server of a store; yields the one before it."""
    command = [sys.executable, "-m", "tests.stores.servers", kind]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        try:
            with Front(int(process.stdout.readline())) as front:
                yield front
        finally:
            process.kill()


@pytest.fixture(scope="module")
def s3_server():
    with server("s3") as front:
        yield front


@pytest.fixture(scope="module")
def gs_server():
    with server("gs") as front:
        yield front


@pytest.fixture
def s3(s3_server, monkeypatch, tmp_path):
    """An empty bucket `bucket` of a server that speaks S3, whose clients are told by variables."""
    for name in (
        "AWS_PROFILE",
        "AWS_SESSION_TOKEN",
        "AWS_DEFAULT_REGION",
        "HTTP_PROXY",
        "http_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    yield from with_bucket(s3_server, "s3")


@pytest.fixture
def gs(gs_server, monkeypatch):
    """An empty bucket `bucket` of a server that speaks Google's JSON API."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gs_server.url)
    yield from with_bucket(gs_server, "gs")


@pytest.fixture
def hf(monkeypatch, tmp_path):
    """An empty dataset repository; `files` of its `hub` are what it holds."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with Hub() as hub, Front(hub.port) as front:
        front.hub = hub
        monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": front.url})
        forget_clients("hf")
        yield front
    forget_clients("hf")


def with_bucket(front, protocol):
    fs = forget_clients(protocol)
    front.heal()
    if fs.exists("bucket"):
        for one in fs.find("bucket"):
            fs.rm(one)
    else:
        fs.mkdir("bucket")
    front.heal()
    yield front
    front.heal()
    forget_clients(protocol)


def forget_clients(protocol):
    """Returns a new client, since fsspec keeps those of an earlier environment."""
    fsspec.get_filesystem_class(protocol).clear_instance_cache()
    return fsspec.filesystem(protocol)
