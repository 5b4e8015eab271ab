"""`--image` and `--video` take files, standard input, and addresses where they are allowed."""

import http.server
import json
import shutil
import socket
import ssl
import subprocess
import threading

import pytest
from typer.testing import CliRunner

from onevision.cli import app
from onevision.cli.demo import DEMO
from onevision.errors import InputError

FILE, CLIP = DEMO / "single.png", DEMO / "clip.mp4"
HOST, PUBLIC = "media.example", "93.184.216.34"


def ask(*arguments, stdin=b""):
    told = ["ask", "What is it?", "--json", "--max-new-tokens", "3", *map(str, arguments)]
    return CliRunner().invoke(app, told, input=stdin)


def reply(*arguments, stdin=b""):
    done = ask(*arguments, stdin=stdin)
    assert done.exit_code == 0, done.exception or done.output
    return json.loads(done.stdout)


def test_standard_input_is_an_image_or_a_video():
    assert reply("-i", "-", stdin=FILE.read_bytes()) == reply("-i", FILE)
    assert reply("-v", "-", stdin=CLIP.read_bytes()) == reply("-v", CLIP)


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (("-i", "-"), b"", "standard input, which is empty"),
        (("-i", "-"), b"no image", "standard input: not an image"),
        (("-v", "-"), b"no video at all", "standard input: not a video"),
        (("-i", "-", "-v", "-"), b"x", "'-' is given more than once"),
        (("-i", "https://media.example/a.png"), b"", "only with --allow-urls"),
        (("-v", "http://media.example/a.mp4"), b"", "only with --allow-urls"),
        (("--allow-urls", "-i", "http://media.example/a.png"), b"", "only https URLs"),
        (("--allow-urls", "-i", "https://127.0.0.1/a.png"), b"", "not on the public internet"),
        (("--allow-urls", "-i", "https://u:p@media.example/a.png"), b"", "user name"),
        (("-i", "ftp://media.example/a.png"), b"", "URLs are not fetched"),
    ],
)
def test_what_cannot_be_read_is_named(arguments, stdin, message):
    done = ask(*arguments, stdin=stdin)
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """An https server that is called media.example, and that the system trusts."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj",
         f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-keyout", key, "-out",
         certificate], check=True, capture_output=True,
    )  # fmt: skip

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            data = FILE.read_bytes() if self.path == "/a.png" else b"a page"
            self.send_response(404 if self.path == "/missing" else 200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    trusting = ssl.create_default_context(cafile=certificate)

    def connect(address, timeout):
        assert address == (PUBLIC, 443)
        connection = socket.socket()
        connection.settimeout(timeout)
        connection.connect(server.server_address)
        return connection

    monkeypatch.setattr(ssl, "create_default_context", lambda: trusting)
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (PUBLIC, 443))]
    )  # fmt: skip
    monkeypatch.setattr(socket, "create_connection", connect)
    yield server
    server.shutdown()
    server.server_close()


def test_an_address_is_fetched_where_it_is_allowed(site):
    url = f"https://{HOST}/a.png"
    assert reply("--allow-urls", "-i", url) == reply("-i", FILE)
    for path, message in (("page", "page: not an image"), ("missing", "cannot be downloaded")):
        done = ask("--allow-urls", "-i", f"https://{HOST}/{path}")
        assert message in str(done.exception)
