"""An HTTP server before a store's server: it passes requests on, or fails as it is told."""

import http.client
import re
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from tests.stores.hub import Hub

# Headers that belong to one connection; the rest are passed on.
OF_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "date", "server"}
SLOW_DOWN = (
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)


@dataclass
class Fault:
    """What happens to the next requests whose "GET /path?query" fits an expression.

    `does` is "hang", "cut" (half of the body, then the connection ends), or a status to answer.
    """

    fits: str
    does: str | int
    body: bytes = b""
    times: int = 10**9


@dataclass
class Front:
    """Listens on a port of this machine; `port` is that of the server behind it."""

    port: int
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    hub: Hub | None = None  # the server behind it, if it runs in this process

    def __enter__(self) -> Self:
        self.healed = threading.Event()
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.front = self
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.heal()
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def fail(self, fits: str, does: str | int, body: bytes = b"", *, times: int = 10**9) -> None:
        """Fails the next requests that fit."""
        self.healed.clear()
        self.faults.append(Fault(fits, does, body, times))

    def heal(self) -> None:
        """Passes everything on from now on; those that hang are cut off."""
        self.faults.clear()
        self.requests.clear()
        self.healed.set()

    def find_fault(self, line: str) -> Fault | None:
        self.requests.append(line)
        for fault in self.faults:
            if fault.times and re.search(fault.fits, line):
                fault.times -= 1
                return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    front: Front

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing of clients that have left."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle_request(self) -> None:
        front = self.server.front
        body = self._read_body()
        fault = front.find_fault(f"{self.command} {self.path}")
        if fault is not None and fault.does == "hang":
            front.healed.wait(600)
            self.close_connection = True
        elif fault is not None and isinstance(fault.does, int):
            self._answer(fault.does, [("Content-Type", "application/xml")], fault.body)
        else:
            status, headers, content = self._pass_on(body)
            self._answer(status, headers, content, cut=fault is not None)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = handle_request

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def _pass_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        behind = http.client.HTTPConnection("127.0.0.1", self.server.front.port, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in OF_CONNECTION}
        headers["Content-Length"] = str(len(body))
        behind.request(self.command, self.path, body=body, headers=headers)
        answer = behind.getresponse()
        content = answer.read()
        kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in OF_CONNECTION]
        behind.close()
        return answer.status, kept, content

    def _answer(
        self, status: int, headers: list[tuple[str, str]], content: bytes, *, cut: bool = False
    ) -> None:
        self.send_response(status)
        names = {name.lower() for name, _ in headers}
        for name, value in headers:
            self.send_header(name, value)
        if "content-length" not in names:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            with suppress(OSError):
                self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.wfile.flush()
            time.sleep(0.05)
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""
