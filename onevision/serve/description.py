"""The routes -> OpenAPI.

Bodies are read by hand, within limits and with our own words for what is wrong, so their forms are
written into the description here.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from onevision.serve.schema.chat import ChatRequest
from onevision.serve.schema.problems import ErrorEnvelope
from onevision.serve.schema.responses import ResponsesRequest

EVENT_STREAM = "text/event-stream"
FORMS: tuple[type[BaseModel], ...] = (ChatRequest, ResponsesRequest)


def problems() -> dict[int | str, dict[str, Any]]:  # Any: FastAPI's own type
    """Return how refusals are described."""
    form = {"model": ErrorEnvelope, "description": "Refused or failed, and why."}
    return dict.fromkeys(("4XX", "5XX"), form)


def described(asked: type[BaseModel], told: type[BaseModel], *, stream: bool = False) -> Any:
    """Return FastAPI's description of a route that reads its body by hand."""
    form = {"schema": {"$ref": f"#/components/schemas/{asked.__name__}"}}
    content: dict[str, Any] = {EVENT_STREAM: {"schema": {"type": "string"}}} if stream else {}
    return {
        "response_model": told,
        "responses": {200: {"content": content}, **problems()},
        "openapi_extra": {"requestBody": {"required": True, "content": {"application/json": form}}},
    }


def openapi_of(app: FastAPI) -> dict[str, Any]:  # Any: JSON
    """Return the description of all routes; it is made once."""
    if app.openapi_schema is None:
        described = get_openapi(title=app.title, version=app.version, routes=app.routes,
                                summary=app.summary)  # fmt: skip
        _, forms = models_json_schema(
            [(form, "validation") for form in FORMS],
            ref_template="#/components/schemas/{model}",
        )
        described["components"]["schemas"].update(forms.get("$defs", {}))
        app.openapi_schema = described
    return app.openapi_schema
