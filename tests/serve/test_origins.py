"""CORS: pages of the server and of allowed origins may use the API, as browsers check it."""

import asyncio

import httpx2
import pytest

from onevision import load
from onevision.serve.app import create_app
from onevision.serve.run import add_cors
from onevision.serve.service import Service
from onevision.serve.settings import Limits, ServerSettings
from tests.serve.conftest import CHAT, GOOD, KEY, bearer, check

OURS, OTHER = "https://app.example", "https://evil.example"
ALLOWED = "access-control-allow-origin"


@pytest.fixture(scope="module")
def service():
    settings = ServerSettings(
        name="tiny", keys=(KEY,), allowed_origins=(OURS,), allowed_hosts=("api.example",),
        limits=Limits(kv_bytes=2**24, encoder_bytes=2**20),
    )  # fmt: skip
    opened = Service(load("tiny"), settings)
    yield opened
    opened.close()


@pytest.fixture
def ask(service):
    app = add_cors(create_app(service), service.settings.allowed_origins)

    def ask(method, path, **options):
        async def talk():
            transport = httpx2.ASGITransport(app)
            async with httpx2.AsyncClient(
                transport=transport, base_url="http://api.example"
            ) as http:
                return await http.request(method, path, **options)

        return asyncio.run(talk())

    return ask


def preflight(origin):
    return {
        "origin": origin, "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-lang",
    }  # fmt: skip


def test_preflight_allows_a_known_origin(ask):
    told = ask("OPTIONS", CHAT, headers=preflight(OURS))
    assert (told.status_code, told.headers[ALLOWED]) == (200, OURS)
    assert "x-stainless-lang" in told.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in told.headers


def test_a_known_origin_can_read_answers_and_errors(ask):
    answer = ask("POST", CHAT, json=GOOD, headers={"origin": OURS, **bearer()})
    assert (answer.status_code, answer.headers[ALLOWED]) == (200, OURS)
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    refused = ask("POST", CHAT, json=GOOD, headers={"origin": OURS})
    check(refused, 401, "invalid_api_key")
    assert refused.headers[ALLOWED] == OURS


@pytest.mark.parametrize("origin", [OTHER, "null", "https://app.example.evil.example",
                                    "https://app.example:8443"])  # fmt: skip
def test_other_origins_are_refused_even_with_a_key(ask, origin):
    asked_before = ask("OPTIONS", CHAT, headers=preflight(origin))
    check(asked_before, 403, "origin_not_allowed")
    assert ALLOWED not in asked_before.headers
    refused = ask("POST", CHAT, json=GOOD, headers={"origin": origin, **bearer()})
    check(refused, 403, "origin_not_allowed")
    assert ALLOWED not in refused.headers


def test_the_servers_own_page_works_under_its_own_host_names_only(ask):
    own = {"origin": "http://api.example", **bearer()}
    assert ask("POST", CHAT, json=GOOD, headers=own).status_code == 200
    rebound = {"origin": OTHER, "host": "evil.example", **bearer()}
    check(ask("POST", CHAT, json=GOOD, headers=rebound), 403, "host_not_allowed")


def test_cached_prefixes_stay_within_the_published_limit(ask, service):
    card = ask("GET", "/v1/models", headers=bearer()).json()["data"][0]
    assert (card["limits"]["kv_bytes"], card["limits"]["encoder_bytes"]) == (2**24, 2**20)
    engine = service.supervisor.engine
    assert engine.stats.kv_limit == 2**24
    for number in range(12):  # together more than the limit
        words = f"{number} " + "a b " * 600
        asked = GOOD | {"messages": [{"role": "user", "content": words}]}
        assert ask("POST", CHAT, json=asked, headers=bearer()).status_code == 200
    assert 0 < engine.stats.prefix_bytes <= 2**24
