"""The published OpenAPI, tested by schemathesis: no generated request makes a route fail."""

import httpx2
import pytest

schemathesis = pytest.importorskip("schemathesis")
from hypothesis import HealthCheck, Phase, settings  # noqa: E402
from schemathesis.checks import not_a_server_error  # noqa: E402

from tests.serve.conftest import user  # noqa: E402

POSTS = ("/v1/chat/completions", "/v1/responses", "/v1/tokenize")


@pytest.fixture(scope="module")
def described(server):
    return httpx2.get(f"{server.url}/openapi.json").json()


def test_all_routes_are_described(described):
    paths = {*POSTS, "/v1/models", "/v1/models/{name}", "/health", "/ready", "/version", "/metrics"}
    assert set(described["paths"]) == paths
    chat = described["components"]["schemas"]["ChatRequest"]
    assert {"model", "messages"} <= set(chat["required"])


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", POSTS)
def test_requests_generated_from_the_description_never_fail(described, server, path):
    schema = schemathesis.openapi.from_dict(described)
    schema.config.update(base_url=server.url)
    operation = schema[path]["POST"]

    @settings(
        max_examples=12, deadline=None, database=None, derandomize=True,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def try_all(case):
        response = case.call()
        case.validate_response(response, checks=[not_a_server_error])
        if response.status_code != 200:
            assert set(response.json()["error"]) == {"message", "type", "param", "code"}
        good = {"model": "tiny", "messages": user("Hi"), "max_tokens": 1}
        assert httpx2.post(f"{server.url}{POSTS[0]}", json=good, timeout=60).status_code == 200

    from hypothesis import given

    given(case=operation.as_strategy())(try_all)()
