"""SSRF: URLs are fetched from allowed hosts on the public internet, and from nowhere else."""

import base64
import http.server
import random
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest

from onevision.errors import InputError
from onevision.serve.fetch import Fetcher, is_public, read_media
from onevision.serve.generation_request import MediaReference
from onevision.serve.schema.problems import ApiError
from onevision.serve.settings import Limits, ServerSettings

HOST = "media.example"
PUBLIC = "93.184.216.34"


class Handler(http.server.BaseHTTPRequestHandler):
    """Responds as its path says."""

    def do_GET(self):
        self.server.asked.append((self.headers["host"], self.path))
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("location", self.path.removeprefix("/to/"))
            self.send_header("content-length", "0")
            self.end_headers()
            return
        if self.path == "/dripping-head":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nx-a: ")
            self.drip()
            return
        self.send_response(404 if self.path == "/no" else 200)
        if self.path == "/packed":
            self.send_header("content-encoding", "gzip")
        if self.path not in ("/endless", "/dripping"):
            lengths = {"/short": 9, "/huge": 10_000_000_000}
            self.send_header("content-length", str(lengths.get(self.path, 4)))
        self.end_headers()
        if self.path == "/dripping":
            self.drip()
        if self.path == "/slow":
            time.sleep(3)
        self.wfile.write(b"data" if self.path != "/endless" else bytes(10_000_000))

    def drip(self):
        """Sends a byte every 0.2 s, so that no single read times out."""
        for _ in range(25):
            self.wfile.write(b"a")
            time.sleep(0.2)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """An https server for media.example, and an SSL context that trusts it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    directory = tmp_path_factory.mktemp("tls")
    key, certificate = directory / "key.pem", directory / "cert.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj",
         f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-keyout", key, "-out",
         certificate], check=True, capture_output=True,
    )  # fmt: skip
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.asked, server.trusting = [], ssl.create_default_context(cafile=certificate)
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def fetch(site):
    """fetch(url): `dialled` lists the addresses connected to; host names resolve to `answers`."""
    site.asked.clear()
    dialled, answers = [], [[PUBLIC]]

    def dial(address, port, seconds):
        dialled.append((address, port))
        return socket.create_connection(site.server_address, timeout=seconds)

    def resolve(host):
        return answers[0] if len(answers) == 1 else answers.pop(0)

    fetcher = Fetcher([HOST], seconds=1.5, resolve=resolve, dial=dial, context=site.trusting)

    def fetch(address):
        return fetcher.fetch(address, most=1000, kind="image", param="here")

    fetch.dialled, fetch.answers = dialled, answers
    return fetch


def refused(fetch, address):
    with pytest.raises(ApiError) as caught:
        fetch(address)
    return caught.value.status, caught.value.code


def test_the_connection_goes_to_the_address_that_was_checked(fetch, site):
    assert fetch(f"https://{HOST}/a.png?b=c") == b"data"
    assert fetch.dialled == [(PUBLIC, 443)]
    assert site.asked == [(HOST, "/a.png?b=c")]
    assert fetch(f"https://{HOST}/to/https://{HOST}/b") == b"data"


@pytest.mark.parametrize("address", [
    f"http://{HOST}/", "https://127.0.0.1/", "https://[::1]/", "https://0.0.0.0/",
    "https://169.254.169.254/", "https://2130706433/", "https://0x7f.1/", "https://localhost./",
    "https://localtest/", f"https://{HOST}:8443/", f"https://user@{HOST}/", f"https://{HOST}\\@evil/",
    f"https://evil\\@{HOST}/", f"https://evil.example#@{HOST}", f"https://{HOST}/a\r\nHost: evil",
    f"https://{HOST}.evil.example/", "https://med\u0131a.example/", f"https://{HOST}%00/",
])  # fmt: skip
def test_20_21_23_other_urls_are_refused_without_connecting(fetch, address):
    assert refused(fetch, address) == (403, "url_not_allowed")
    assert fetch.dialled == []


@pytest.mark.parametrize("answer", [
    ["127.0.0.1"], ["10.0.0.1"], ["100.64.0.1"], ["::1"], ["::ffff:127.0.0.1"],
    ["64:ff9b::7f00:1"], ["2002:7f00:1::"], ["fe80::1%eth0"], ["224.0.0.1"], [PUBLIC, "10.0.0.1"],
    [],
])  # fmt: skip
def test_21_24_hosts_with_private_addresses_are_refused(fetch, answer):
    fetch.answers[:] = [answer]
    assert refused(fetch, f"https://{HOST}/") == (403, "url_not_allowed")
    assert fetch.dialled == []
    assert not all(map(is_public, answer)) or not answer


@pytest.mark.parametrize(
    "address",
    [
        "64:ff9b::a00:1", "64:ff9b:1::a00:1", "64:ff9b:1:ffff::1", "fec0::1", "feff::1",
        "::ffff:0:a00:1", "::ffff:0:5db8:d822", "::ffff:10.0.0.1", "::ffff:93.184.216.34",
        "::10.0.0.1", "::93.184.216.34", "::", "::1", "2002:a00:1::", "2002:5db8:d822::1",
        "2001::5db8:d822", "2001:0:5db8:d822::1", "2001:db8::1", "3fff::1", "fe80::5efe:a00:1",
        "2600::5efe:a00:1", "2600::200:5efe:10.0.0.1", "100::1", "5f00::1", "fd00::1", "ff0e::1",
        "192.88.99.1", "100.64.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "198.18.0.1",
        "fe80::1%eth0", "2600::5efe:a00:1%1", "nonsense", "",
    ],
)  # fmt: skip
def test_addresses_that_are_special_or_embed_others_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("num_bytes", [0, 1, 2, 3, 3_145_727, 3_145_728, 3_145_729, 7_000_001])
def test_data_urls_of_any_length_are_decoded(num_bytes):
    data = random.Random(0).randbytes(num_bytes)
    for escape in (str, lambda text: text.replace("+", "%2b").replace("=", "%3D")):
        url = "data:image/png;base64," + escape(base64.b64encode(data).decode())
        assert read(url) == (data,)


@pytest.mark.parametrize(
    "text",
    ["AA==AAAA", "A", "AAA", "AA=A", "====", "AAAA=", "AA%41A", "AA A", "QUJD" * 2**20 + "="],
)
def test_what_is_not_base64_is_refused(text):
    with pytest.raises(ApiError) as caught:
        read("data:image/png;base64," + text)
    assert caught.value.code == "invalid_base64_image"


def test_data_that_are_too_long_are_not_decoded():
    for most in (2, 3, 100):
        with pytest.raises(ApiError) as caught:
            read("data:image/png;base64," + "AAAA" * 34, image_bytes=most)
        assert caught.value.code == "image_file_too_large"


def read(url, **limits):
    reference = MediaReference(kind="image", urls=(url,), param="here")
    return read_media(reference, fetcher=Fetcher(), limits=Limits(**limits))


@pytest.mark.parametrize("address", [PUBLIC, "2600::1", "2a00:1450:4001:81b::200e", "2606:4700::"])
def test_addresses_of_the_public_internet(address):
    assert is_public(address)


def test_22_24_every_redirect_is_checked_anew(fetch):
    for place in ("https://127.0.0.1/", "https://evil.example/", "file:///etc/passwd",
                  f"http://{HOST}/"):  # fmt: skip
        fetch.dialled.clear()
        assert refused(fetch, f"https://{HOST}/to/{place}") == (403, "url_not_allowed")
        assert len(fetch.dialled) == 1
    many = "/to/".join([f"https://{HOST}"] * 6)
    assert refused(fetch, many)[0] == 400
    fetch.dialled.clear()
    fetch.answers[:] = [[PUBLIC], ["127.0.0.1"]]
    assert refused(fetch, f"https://{HOST}/to/https://{HOST}/b") == (403, "url_not_allowed")
    assert len(fetch.dialled) == 1


@pytest.mark.parametrize(("path", "code"), [
    ("/endless", "image_file_too_large"), ("/short", "failed_to_download_image"),
    ("/slow", "failed_to_download_image"), ("/no", "failed_to_download_image"),
    ("/huge", "image_file_too_large"), ("/packed", "failed_to_download_image"),
    ("/dripping", "failed_to_download_image"), ("/dripping-head", "failed_to_download_image"),
])  # fmt: skip
def test_25_bodies_that_are_too_large_truncated_or_late(fetch, path, code):
    began = time.monotonic()
    assert refused(fetch, f"https://{HOST}{path}") == (400, code)
    assert time.monotonic() - began < 3


def test_without_hosts_nothing_is_fetched():
    assert refused(lambda a: Fetcher().fetch(a, most=9, kind="image", param="x"),
                   f"https://{HOST}/") == (403, "url_not_allowed")  # fmt: skip


def test_a_server_without_a_key_stays_on_this_machine():
    with pytest.raises(InputError, match="API key"):
        ServerSettings(name="tiny", host="0.0.0.0")
    ServerSettings(name="tiny", host="0.0.0.0", keys=("a-long-key",))
    ServerSettings(name="tiny", host="0.0.0.0", insecure=True)
    with pytest.raises(InputError, match="8 or more"):
        ServerSettings(name="tiny", keys=("short",))
    with pytest.raises(InputError, match="--limit: no key 'imagse'; did you mean 'images'"):
        Limits.parse(["imagse=3"])
    assert Limits.parse(["images=3", "body_seconds=0.5"]).images == 3
