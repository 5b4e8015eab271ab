"""A dataset repository of the hub, on this machine: the few requests with which files are read.

Written by hand after the hub's documentation and its client, as there is no server to be had.
"""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, unquote

REPO, COMMIT = "owner/charts", "c" * 40
COMMITTED = {"id": COMMIT, "title": "a", "date": "2026-01-01T00:00:00.000Z"}


class Hub:
    """Serves `files`, by their paths in the repository, to those who have the token."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.token: str | None = None

    def __enter__(self) -> Self:
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.hub = self
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def port(self) -> int:
        return self.server.server_address[1]

    def tree(self, folder: str) -> list[dict[str, object]]:
        """What lies right below a folder."""
        begin = f"{folder}/" if folder else ""
        inside = sorted(path for path in self.files if path.startswith(begin))
        files = [path for path in inside if "/" not in path.removeprefix(begin)]
        folders = {begin + path.removeprefix(begin).split("/")[0] for path in inside}
        return [self.describe(path) for path in (*files, *sorted(folders.difference(files)))]

    def describe(self, path: str) -> dict[str, object]:
        if path not in self.files:
            return {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}
        content = self.files[path]
        oid = hashlib.sha1(content).hexdigest()
        return {
            "type": "file", "path": path, "size": len(content), "oid": oid,
            "lastCommit": COMMITTED, "securityFileStatus": None,
        }  # fmt: skip


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: Hub


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        hub, path = self.server.hub, unquote(self.path.partition("?")[0])
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        api, file = f"/api/datasets/{REPO}", f"/datasets/{REPO}/resolve/main/"
        if hub.token is not None and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self.answer(401, {"error": "Invalid username or password."}, "RepoNotFound")
        elif path in (api, f"{api}/revision/main"):
            self.answer(200, {"id": REPO, "sha": COMMIT, "tags": [], "siblings": []})
        elif path.startswith(f"{api}/tree/main"):
            found = hub.tree(path.removeprefix(f"{api}/tree/main").strip("/"))
            said = {"error": "The path does not exist"}
            self.answer(*((200, found) if found else (404, said, "EntryNotFound")))
        elif path == f"{api}/paths-info/main":
            self.answer(200, [hub.describe(one) for one in _paths(body) if one in hub.files])
        elif path.startswith(file) and path.removeprefix(file) in hub.files:
            self.send_range(hub.files[path.removeprefix(file)])
        else:
            kind = "EntryNotFound" if path.startswith(file) else "RepoNotFound"
            self.answer(404, {"error": "Not found"}, kind)

    do_HEAD = do_POST = do_GET

    def send_range(self, content: bytes) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            self.send(200, content, {"X-Repo-Commit": COMMIT})
            return
        first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        place = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
        self.send(206, content[first : last + 1], place)

    def answer(self, status: int, content: object, kind: str | None = None) -> None:
        told = {"Content-Type": "application/json"} | ({"X-Error-Code": kind} if kind else {})
        self.send(status, json.dumps(content).encode(), told)

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def _paths(body: bytes) -> list[str]:
    """The paths that a form or JSON asks for."""
    if body.startswith(b"{"):
        return json.loads(body)["paths"]
    return parse_qs(body.decode())["paths"]
