"""Hub ids, against a hub served on loopback by the test itself."""

import json
import os
import re
import subprocess
import sys
import threading
from functools import partial
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from onevision.checkpoint.hub import BUNDLED, resolve
from onevision.errors import ModelNotFoundError

REVISION = "0" * 40


class Hub(BaseHTTPRequestHandler):
    """Serves one directory as the repository someone/tiny."""

    def __init__(self, *args, root, seen, **kwargs):
        self.root, self.seen = root, seen
        super().__init__(*args, **kwargs)

    def do_HEAD(self):
        self.respond(with_body=False)

    def do_GET(self):
        self.respond(with_body=True)

    def respond(self, *, with_body):
        self.seen.append(self.path)
        info = re.match(r"/api/models/someone/tiny(/revision/\w+)?(\?.*)?$", self.path)
        file = re.match(rf"/someone/tiny/resolve/(?:main|{REVISION})/(.+)$", self.path)
        tree = re.match(rf"/api/models/someone/tiny/tree/{REVISION}(\?.*)?$", self.path)
        headers = {}
        if tree:
            files = [
                {"type": "file", "path": p.name, "size": p.stat().st_size, "oid": "0" * 40}
                for p in sorted(self.root.iterdir())
            ]
            body = json.dumps(files).encode()
        elif info:
            siblings = [{"rfilename": p.name} for p in sorted(self.root.iterdir())]
            body = json.dumps(
                {"id": "someone/tiny", "sha": REVISION, "siblings": siblings, "tags": [],
                 "private": False, "downloads": 0, "likes": 0}
            ).encode()  # fmt: skip
        elif file and (self.root / file[1]).is_file():
            body = (self.root / file[1]).read_bytes()
            headers = {"ETag": f'"{sha1(body).hexdigest()}"', "X-Repo-Commit": REVISION}
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(tmp_path):
    seen = []
    handler = partial(Hub, root=BUNDLED["tiny"], seen=seen)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "hub"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "0",
    }

    def ask(model):
        command = [sys.executable, "-m", "onevision", "ask", "How many?", "--model", model]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    yield ask, seen
    server.shutdown()
    server.server_close()


def test_a_hub_id_is_fetched_and_answers(hub):
    ask, seen = hub
    done = ask("someone/tiny")
    assert done.returncode == 0, (done.stderr, seen)
    assert done.stdout.strip()
    assert any(path.endswith("model.safetensors") for path in seen)


def test_an_unknown_hub_id_is_one_clear_line(hub):
    ask, _ = hub
    done = ask("someone/nothing")
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith("error: someone/nothing: not available from the hub")


def test_a_bare_name_never_touches_the_network(hub):
    ask, seen = hub
    done = ask("nosuchmodel")
    assert done.returncode == 1
    assert "no model 'nosuchmodel'" in done.stderr
    assert seen == []


def test_names_are_found_in_order(tmp_path):
    assert resolve("tiny") == BUNDLED["tiny"]
    assert resolve(tmp_path) == tmp_path
    with pytest.raises(ModelNotFoundError, match="use 'lmms-lab/llava-onevision-qwen2-7b-ov'"):
        resolve("7b")
    with pytest.raises(ModelNotFoundError, match="did you mean 'tiny'"):
        resolve("tiy")
    with pytest.raises(ModelNotFoundError, match="no model './elsewhere'"):
        resolve("./elsewhere")
