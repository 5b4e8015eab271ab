"""A small server that speaks the chat API and judges by rules: a peer to talk to, over HTTP.

It reads what a judge reads, the words of the prompt, and grades by which words of the truth the
answer has. Around that, it can be told to misbehave as real endpoints do.
"""

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Rule = Callable[[str], str]


@dataclass
class JudgeServer:
    """What the server was asked, and how it is to behave."""

    rule: Rule
    # Status codes (and headers) to answer the next requests with, before it behaves.
    failures: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    # Bytes to answer the next requests with, in place of a completion.
    garbage: list[bytes] = field(default_factory=list)
    delay_seconds: float = 0.0
    # What it lists under /v1/models.
    models: list[str] = field(default_factory=list)
    tells_usage: bool = True
    # Answers in place of `rule`, from the whole request; then why it ended may follow: (text, why).
    writes: Callable[[dict], tuple[str, str]] | None = None
    requests: list[dict] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    url: str = ""
    most_at_once: int = 0
    now: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def serve(rule: Rule, **behaviour) -> Iterator[JudgeServer]:
    state = JudgeServer(rule=rule, **behaviour)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            with state.lock:
                state.now += 1
                state.most_at_once = max(state.most_at_once, state.now)
            self.answer()

        def do_GET(self):
            listed = json.dumps({"data": [{"id": name} for name in state.models]}).encode()
            self.send_response(200 if self.path == "/v1/models" else 404)
            self.send_header("Content-Length", str(len(listed)))
            self.end_headers()
            self.wfile.write(listed)

        def answer(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            time.sleep(state.delay_seconds)
            with state.lock:
                state.requests.append(body)
                state.keys.append(self.headers.get("Authorization"))
                failure = state.failures.pop(0) if state.failures else None
                garbage = state.garbage.pop(0) if state.garbage else None
            if self.path != "/v1/chat/completions":
                failure = (404, {})
            if failure:
                code, headers = failure
                return self.send(code, b'{"error": {"message": "not now"}}', headers)
            return self.send(200, garbage or json.dumps(completion(body)).encode(), {})

        def send(self, code, content, headers):
            with state.lock:  # before whoever waits can ask again
                state.now -= 1
            self.send_response(code)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            with contextlib.suppress(ConnectionError):  # the client was killed
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    def completion(body):
        words = said(body)
        text, why = state.writes(body) if state.writes else (state.rule(words), "stop")
        usage = {"prompt_tokens": len(words.split()), "completion_tokens": len(text.split())}
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": why}
        return {"choices": [choice], **({"usage": usage} if state.tells_usage else {})}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def said(body: dict) -> str:
    """Return all words of a request."""
    words = []
    for message in body["messages"]:
        content = message["content"]
        parts = [{"text": content}] if isinstance(content, str) else content
        words += [part.get("text", "") for part in parts]
    return "\n".join(words)


def between(words: str, begin: str, end: str) -> str:
    """Return what stands between two marks."""
    found = re.search(re.escape(begin) + "(.*?)" + re.escape(end), words, re.DOTALL)
    assert found, f"no {begin!r} … {end!r} in {words!r}"
    return found[1].strip()
