"""OpenAI's client for Node, which parses streams differently. Skipped without node and npm."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.serve.conftest import data_url, encoded, square

VERSION = "6"


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A directory with npm's `openai`."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are absent")
    directory = tmp_path_factory.mktemp("node")
    (directory / "package.json").write_text('{"type": "module"}')
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", f"openai@{VERSION}"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=200)
    if done.returncode:
        pytest.skip(f"npm cannot install openai: {done.stderr[-200:]}")
    return directory


def test_the_client_for_node(package, server):
    shutil.copy(Path(__file__).parent / "node_client.mjs", package)
    environment = os.environ | {"URL": server.url, "PICTURE": data_url(encoded(square()))}
    told = subprocess.run(
        ["node", "node_client.mjs"], cwd=package, env=environment, capture_output=True, text=True,
        timeout=200,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert found["said"] == found["whole"] != ""
    assert found["tokens"] == found["total"] > 0
    assert found["events"][0] == "response.created"
    assert found["events"][-1] == "response.incomplete"
    assert found["output"]
    assert found["refused"] == ["BadRequestError", "invalid_value", "n"]
    assert found["models"] == ["tiny"]
    assert found["request"]
