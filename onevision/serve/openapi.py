"""The routes -> their OpenAPI description.

Routes read their bodies themselves, for the sake of limits and error messages, so the schemas of
the bodies are added here.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from onevision.serve.events import EVENT_STREAM
from onevision.serve.schema.chat_request import ChatRequest
from onevision.serve.schema.problems import ErrorEnvelope
from onevision.serve.schema.response_request import ResponsesRequest

BODIES: tuple[type[BaseModel], ...] = (ChatRequest, ResponsesRequest)


def describe_errors() -> dict[int | str, dict[str, Any]]:  # Any: FastAPI's own type
    """Returns the description of responses that are not a success."""
    response = {"model": ErrorEnvelope, "description": "Refused or failed, and why."}
    return dict.fromkeys(("4XX", "5XX"), response)


def describe_route(
    body: type[BaseModel], response: type[BaseModel], *, stream: bool = False
) -> dict[str, Any]:  # Any: FastAPI's own arguments
    """Returns the arguments for a FastAPI route that reads its body itself."""
    form = {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}
    content: dict[str, Any] = {EVENT_STREAM: {"schema": {"type": "string"}}} if stream else {}
    return {
        "response_model": response,
        "responses": {200: {"content": content}, **describe_errors()},
        "openapi_extra": {"requestBody": {"required": True, "content": {"application/json": form}}},
    }


def build_openapi(app: FastAPI) -> dict[str, Any]:  # Any: JSON
    """Returns the description of all routes, built once."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes,
                                summary=app.summary)  # fmt: skip
        _, bodies = models_json_schema(
            [(body, "validation") for body in BODIES],
            ref_template="#/components/schemas/{model}",
        )
        schema["components"]["schemas"].update(bodies.get("$defs", {}))
        app.openapi_schema = schema
    return app.openapi_schema
