"""The routes: bytes of a request -> the service -> bytes of an answer or a stream."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from dataclasses import asdict
from typing import TypeVar

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from onevision import __version__
from onevision.serve.answering import Answering
from onevision.serve.bodies import Bodies
from onevision.serve.description import EVENT_STREAM, described, openapi_of, problems
from onevision.serve.events import chat_events, response_events
from onevision.serve.guard import Guard, problem_response
from onevision.serve.identity import new_number
from onevision.serve.page import add_page
from onevision.serve.schema.chat import ChatRequest
from onevision.serve.schema.completion import ChatCompletion, ChatWriter, usage_out
from onevision.serve.schema.models import MediaCount, ModelCard, ModelList, TokenCount
from onevision.serve.schema.problems import ApiError, client_gone
from onevision.serve.schema.responses import ResponseOut, ResponsesRequest, ResponseWriter
from onevision.serve.service import Service
from onevision.serve.threads import in_thread

Value = TypeVar("Value")
STREAM_HEADERS = {"x-accel-buffering": "no", "cache-control": "no-cache"}
CODES = {404: "not_found", 405: "method_not_allowed"}


def create_app(service: Service) -> Guard:
    """Return the ASGI application of a service."""
    app = FastAPI(
        title="onevision", version=__version__, docs_url=None, redoc_url=None, openapi_url=None,
        summary="Questions about images and videos, in the manner of OpenAI's API.",
    )  # fmt: skip
    guard = Guard(app, service.settings, service.metrics)
    bodies = Bodies(service.settings.limits)
    app.add_exception_handler(ApiError, _tell)
    app.add_exception_handler(HTTPException, _tell_http)
    _add_chat(app, service, bodies)
    _add_responses(app, service, bodies)
    _add_count(app, service, bodies)
    _add_models(app, service)
    _add_health(app, service, guard)
    add_page(app)
    app.openapi = lambda: openapi_of(app)  # type: ignore[method-assign] as FastAPI documents it

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        return JSONResponse(app.openapi())

    return guard


def _add_chat(app: FastAPI, service: Service, bodies: Bodies) -> None:
    limits = service.settings.limits

    @app.post("/v1/chat/completions", **described(ChatRequest, ChatCompletion, stream=True))
    async def chat(request: Request) -> Response:
        """Answer a conversation, at once or as a stream of chunks."""
        async with bodies.body(request) as body:
            asked = await in_thread(lambda: ChatRequest.parse(body))
            question = asked.question(limits)
            answering = await unless_gone(request, service.ask(question, key=_key(request)))
        writer = ChatWriter(
            number=new_number(), created=service.created_now(), model=service.settings.name,
            fingerprint=service.fingerprint, tokenizer=service.model.processor.tokenizer,
        )  # fmt: skip
        headers = _ignored(question.unknown)
        if asked.stream:
            events = chat_events(answering, writer, includes_usage=asked.includes_usage)
            return EventResponse(answering, events, headers)
        try:
            done = await unless_gone(request, answering.finish())
        finally:
            answering.leave()
        usage = usage_out(answering.usage, cached_tokens=done.cached_tokens)
        return _json(writer.completion(done, usage), headers)


def _add_responses(app: FastAPI, service: Service, bodies: Bodies) -> None:
    limits = service.settings.limits

    @app.post("/v1/responses", **described(ResponsesRequest, ResponseOut, stream=True))
    async def responses(request: Request) -> Response:
        """Answer in the manner of the Responses API; nothing is stored."""
        async with bodies.body(request) as body:
            asked = await in_thread(lambda: ResponsesRequest.parse(body))
            question = asked.question(limits)
            answering = await unless_gone(request, service.ask(question, key=_key(request)))
        writer = ResponseWriter(
            asked, number=new_number(), created=service.created_now(),
            tokenizer=service.model.processor.tokenizer,
        )  # fmt: skip
        headers = _ignored(question.unknown)
        if asked.stream:
            events = response_events(answering, writer)
            return EventResponse(answering, events, headers)
        try:
            done = await unless_gone(request, answering.finish())
        finally:
            answering.leave()
        answer = done.answers[0]
        whole = writer.response(
            answer.text, tokens=answer.tokens, reason=answer.finish_reason,
            usage=answering.usage, cached_tokens=done.cached_tokens,
        )  # fmt: skip
        return _json(whole, headers)


def _add_count(app: FastAPI, service: Service, bodies: Bodies) -> None:
    limits = service.settings.limits

    @app.post("/v1/tokenize", **described(ChatRequest, TokenCount))
    async def tokenize(request: Request) -> Response:
        """Count the tokens of a chat request before it is run, by kind and by medium."""
        async with bodies.body(request) as body:
            asked = await in_thread(lambda: ChatRequest.parse(body))
            question = asked.question(limits)
            counted = await unless_gone(request, service.count(question))
        count = TokenCount(
            prompt_tokens=counted.usage.prompt_tokens,
            text_tokens=counted.usage.text_tokens,
            image_tokens=counted.usage.image_tokens,
            video_tokens=counted.usage.video_tokens,
            max_tokens=counted.max_tokens,
            media=list(map(MediaCount.of, counted.layouts, counted.facts)),
        )
        return _json(count, _ignored(question.unknown))


def _add_models(app: FastAPI, service: Service) -> None:
    settings, model = service.settings, service.model
    card = ModelCard(
        id=settings.name,
        created=service.created,
        max_model_len=model.config.language.max_positions,
        modalities=["text", "image", "video"],
        temperature=settings.temperature,
        limits=asdict(settings.limits),
        fetches=list(settings.media_hosts),
    )

    @app.get("/v1/models", responses=problems(), response_model=ModelList)
    async def models() -> ModelList:
        """List the model that is served, and what a request may cost."""
        return ModelList(data=[card])

    @app.get("/v1/models/{name:path}", responses=problems(), response_model=ModelCard)
    async def model_card(name: str) -> ModelCard:
        """Describe the model."""
        if name != card.id:
            raise ApiError(
                f"model {name[:80]!r} is not served; ask for {card.id!r}",
                status=404, code="model_not_found", param="model",
            )  # fmt: skip
        return card


def _add_health(app: FastAPI, service: Service, guard: Guard) -> None:
    supervisor, limits = service.supervisor, service.settings.limits

    @app.get("/health", responses=problems())
    async def health() -> dict[str, str]:
        """Say whether the engine takes steps; one that broke down is started again."""
        if not supervisor.is_alive:
            supervisor.check()
            raise ApiError("the engine does not answer", status=503, code="not_ready")
        return {"status": "ok"}

    @app.get("/ready", responses=problems())
    async def ready() -> dict[str, str]:
        """Say whether a question would be taken on now."""
        if guard.draining:
            raise ApiError("shutting down", status=503, code="shutting_down", retry_after=5)
        load = await in_thread(lambda: supervisor.engine.load)
        if not supervisor.is_alive or (load.waiting and load.waiting >= limits.queue):
            raise ApiError("not ready", status=503, code="not_ready", retry_after=5)
        return {"status": "ready"}

    @app.get("/version", responses=problems())
    async def version() -> dict[str, str]:
        """Say which code and weights answer."""
        return {"version": __version__, "system_fingerprint": service.fingerprint}

    @app.get("/metrics", responses=problems(), response_class=Response)
    async def metrics() -> Response:
        """Tell Prometheus."""
        text = await in_thread(service.metrics.text)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


class EventResponse(StreamingResponse):
    """A stream; whoever leaves, even before it begins, is no longer answered."""

    def __init__(
        self, answering: Answering, events: AsyncIterator[bytes], headers: dict[str, str]
    ) -> None:
        super().__init__(events, media_type=EVENT_STREAM, headers=headers | STREAM_HEADERS)
        self._answering = answering

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answering.leave()


async def unless_gone(request: Request, work: Awaitable[Value]) -> Value:
    """Wait for `work`, and cancel it where the client goes away. Raises ApiError then."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise client_gone()
        return await working
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            with suppress(asyncio.CancelledError, ApiError):
                await working


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _tell(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, ApiError)
    return problem_response(problem)


def _tell_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = CODES.get(error.status_code, "invalid_request")
    words = str(error.detail)
    if code == "not_found":
        words = "there is no such route; /openapi.json lists all"
    elif code == "method_not_allowed":
        words = (
            f"this route is asked otherwise; expected {(error.headers or {}).get('allow', 'POST')}"
        )
    problem = ApiError(words, status=error.status_code, code=code)
    response = problem_response(problem)
    response.headers.update(error.headers or {})
    return response


def _key(request: Request) -> str:
    key: str = request.scope["api_key"]
    return key


def _json(value: BaseModel, headers: dict[str, str]) -> Response:
    return Response(value.model_dump_json(), headers=headers, media_type="application/json")


def _ignored(unknown: tuple[str, ...]) -> dict[str, str]:
    """Name the fields that meant nothing: a mistyped one is the commonest mistake."""
    names = [name[:64] for name in unknown[:16] if name.isascii() and name.isprintable()]
    return {"x-ignored-params": ",".join(names)} if names else {}
