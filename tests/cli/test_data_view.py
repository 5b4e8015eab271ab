"""`data view --port`: one page, for this machine's own names."""

import socket
import threading

import httpx2
import pytest

from onevision.cli.data.commands import _serve


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    directory = tmp_path_factory.mktemp("view")
    (directory / "secret.txt").write_text("secret")
    (directory / "report.html").write_text("<p>a page</p>")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page = directory / "report.html"
    threading.Thread(target=_serve, args=(page, port), daemon=True).start()
    return f"http://127.0.0.1:{port}"


def get(address, path="/", method="GET", **headers):
    transport = httpx2.HTTPTransport(retries=20)
    with httpx2.Client(transport=transport) as http:
        return http.request(method, address + path, headers=headers)


def test_the_page_is_served_to_this_machine(address):
    assert get(address).text == "<p>a page</p>"
    assert get(address, host="localhost:8000").text == "<p>a page</p>"
    assert get(address, "/secret.txt").text == "<p>a page</p>"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_page_of_another_name_cannot_read_it(address, host, method):
    answer = get(address, method=method, host=host)
    assert answer.status_code == 403
    assert "a page" not in answer.text
