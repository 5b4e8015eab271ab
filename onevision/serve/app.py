"""HTTP routes: the body of a request -> the service -> JSON, or a stream of events."""

import asyncio
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from dataclasses import asdict
from typing import TypeVar

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from onevision import __version__
from onevision.generate.request import Request as EngineRequest
from onevision.inputs.processor import Processor
from onevision.inputs.templates import coordinates_of
from onevision.inputs.text_processor import TextProcessor
from onevision.serve.answering import AnswerStream
from onevision.serve.bodies import BodyReader
from onevision.serve.events import (
    EventResponse,
    chat_events,
    response_events,
    taking_turns,
)
from onevision.serve.generation_request import GenerationRequest
from onevision.serve.guard import Guard, internal_error, problem_response
from onevision.serve.openapi import build_openapi, describe_errors, describe_route
from onevision.serve.page import PAGE_HEADERS, add_page
from onevision.serve.reference import write_reference
from onevision.serve.schema.chat_completion import ChatCompletion, format_usage
from onevision.serve.schema.chat_request import ChatRequest
from onevision.serve.schema.models import MediaCount, ModelCard, ModelList, TokenCount
from onevision.serve.schema.problems import ApiError, client_gone
from onevision.serve.schema.response import ResponseOut
from onevision.serve.schema.response_request import ResponsesRequest
from onevision.serve.served import ServedModel
from onevision.serve.service import Service
from onevision.serve.settings import Limits
from onevision.serve.threads import in_thread

Value = TypeVar("Value")
Body = TypeVar("Body", ChatRequest, ResponsesRequest)
CODES = {404: "not_found", 405: "method_not_allowed"}


def create_app(service: Service) -> Guard:
    """Returns the ASGI application of a service."""
    app = FastAPI(
        title="onevision", version=__version__, docs_url=None, redoc_url=None, openapi_url=None,
        redirect_slashes=False,
        summary="Questions about images and videos, in the manner of OpenAI's API.",
    )  # fmt: skip
    guard = Guard(app, service.settings, keys=service.keys, metrics=service.metrics)
    app.add_exception_handler(ApiError, _handle_api_error)
    app.add_exception_handler(HTTPException, _handle_http_error)
    app.add_exception_handler(Exception, _handle_fault)
    reader = BodyReader(service.settings.limits, service.bodies)
    _add_answers(app, service, reader)
    _add_count(app, service, reader)
    _add_models(app, service)
    _add_health(app, service, guard)
    add_page(app)
    app.openapi = lambda: build_openapi(app)  # type: ignore[method-assign] as FastAPI documents it

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        return JSONResponse(app.openapi())

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        page = write_reference(
            app.openapi(),
            model=service.settings.name,
            limits=service.settings.limits,
            base_url=str(request.base_url).rstrip("/"),
            needs_key=service.keys.are_required,
        )
        return HTMLResponse(page, headers=PAGE_HEADERS)

    return guard


def _add_answers(app: FastAPI, service: Service, reader: BodyReader) -> None:
    limits = service.settings.limits

    async def start(
        request: Request, form: type[Body]
    ) -> tuple[Body, AnswerStream, dict[str, str]]:
        """Reads a body and submits its request; returns both, and the headers of the response."""
        async with reader.read(request) as data:
            key: str = request.scope["api_key"]
            body, wanted = await service.parse(lambda: _parse(form, data, limits), key=key)
            answers = await unless_disconnected(request, service.answer(wanted, key=key))
        return body, answers, _note_ignored(wanted, service)

    @app.post("/v1/chat/completions", **describe_route(ChatRequest, ChatCompletion, stream=True))
    async def chat(request: Request) -> Response:
        """Answer a conversation, at once or as a stream of chunks."""
        body, answers, headers = await start(request, ChatRequest)
        writer = service.new_chat_writer(body.model)
        if body.stream:
            events = chat_events(answers, writer, includes_usage=body.includes_usage)
            return EventResponse(answers, events, headers)
        finished = await _finish(request, answers)
        usage = format_usage(answers.usage, cached_tokens=finished.cached_tokens)
        return _whole(writer.completion(finished, usage), headers, finished)

    @app.post("/v1/responses", **describe_route(ResponsesRequest, ResponseOut, stream=True))
    async def responses(request: Request) -> Response:
        """Answer in the manner of the Responses API; nothing is stored."""
        body, answers, headers = await start(request, ResponsesRequest)
        writer = service.new_response_writer(body)
        if body.stream:
            return EventResponse(answers, response_events(answers, writer), headers)
        finished = await _finish(request, answers)
        answer = finished.answers[0]
        whole = writer.response(
            answer.text, tokens=answer.tokens, reason=answer.finish_reason,
            usage=answers.usage, cached_tokens=finished.cached_tokens,
        )  # fmt: skip
        return _whole(whole, headers, finished)


def _add_count(app: FastAPI, service: Service, reader: BodyReader) -> None:
    limits = service.settings.limits

    @app.post("/v1/tokenize", **describe_route(ChatRequest, TokenCount))
    async def tokenize(request: Request) -> Response:
        """Count the tokens of a chat request before it is run, by kind and by medium."""
        async with reader.read(request) as data:
            key: str = request.scope["api_key"]
            _, wanted = await service.parse(lambda: _parse(ChatRequest, data, limits), key=key)
            cost = await unless_disconnected(request, service.count(wanted, key=key))
        count = TokenCount(
            prompt_tokens=cost.usage.prompt_tokens,
            text_tokens=cost.usage.text_tokens,
            image_tokens=cost.usage.image_tokens,
            video_tokens=cost.usage.video_tokens,
            dropped_tokens=cost.usage.dropped_tokens,
            max_tokens=cost.max_tokens,
            media=list(map(MediaCount.of, cost.layouts, cost.facts)),
        )
        headers = _note_ignored(wanted, service)
        return Response(count.model_dump_json(), headers=headers, media_type="application/json")


def _modalities(processor: Processor) -> list[str]:
    return ["text"] if isinstance(processor, TextProcessor) else ["text", "image", "video"]


def _add_models(app: FastAPI, service: Service) -> None:
    settings = service.settings

    def describe(served: ServedModel) -> ModelCard:
        return ModelCard(
            id=served.name,
            created=service.created,
            max_model_len=served.model.config.language.max_positions,
            modalities=_modalities(served.model.processor),
            temperature=settings.temperature,
            coordinates=coordinates_of(served.model.config.inputs.template),
            limits=asdict(settings.limits),
            fetches=list(settings.media_hosts),
        )

    @app.get("/v1/models", responses=describe_errors(), response_model=ModelList)
    async def models() -> ModelList:
        """List the models that are served, and the limits of a request."""
        return ModelList(data=list(map(describe, service.served)))

    @app.get("/v1/models/{name:path}", responses=describe_errors(), response_model=ModelCard)
    async def model_card(name: str) -> ModelCard:
        """Describe a model."""
        return describe(service.find(name))


def _add_health(app: FastAPI, service: Service, guard: Guard) -> None:
    engines, limits = service.engines, service.settings.limits

    @app.get("/health", responses=describe_errors())
    async def health() -> dict[str, str]:
        """Report whether the engine runs; one that failed is restarted."""
        if not engines.is_alive:
            engines.check()
            raise ApiError("the engine does not answer", status=503, code="not_ready")
        return {"status": "ok"}

    @app.get("/ready", responses=describe_errors())
    async def ready() -> dict[str, str]:
        """Report whether a request would be accepted now."""
        if guard.draining:
            raise ApiError("shutting down", status=503, code="shutting_down", retry_after=5)
        if not service.sandbox.alive:
            raise ApiError("no media decoder runs", status=503, code="decoders_busy", retry_after=5)
        waiting = await in_thread(lambda: engines.longest_queue)
        if not engines.is_alive or (waiting and waiting >= limits.queue):
            raise ApiError("not ready", status=503, code="not_ready", retry_after=5)
        return {"status": "ready"}

    @app.get("/version", responses=describe_errors())
    async def version() -> dict[str, str]:
        """Report which code and weights answer, and what they compute in."""
        return {
            "version": __version__,
            "system_fingerprint": service.fingerprint,
            "arithmetic": service.model.arithmetic,
        }

    @app.get("/metrics", responses=describe_errors(), response_class=Response)
    async def metrics() -> Response:
        """Return all metrics in the format of Prometheus."""
        text = await in_thread(service.metrics.text)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


async def _finish(request: Request, answers: AnswerStream) -> EngineRequest:
    """Waits for all answers; cancels generation if the client disconnects."""
    try:
        return await unless_disconnected(request, answers.finish())
    finally:
        answers.cancel()


async def unless_disconnected(request: Request, work: Awaitable[Value]) -> Value:
    """Waits for `work`; cancels it and raises ApiError if the client disconnects."""
    working = asyncio.ensure_future(work)
    disconnecting = asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait({working, disconnecting}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise client_gone()
        return await working
    finally:
        disconnecting.cancel()
        if not working.done():
            working.cancel()
            with suppress(asyncio.CancelledError, ApiError):
                await working
        # An error knows this frame, and the task the error: without the task, nothing is a circle
        # that would keep a whole request until Python looks for garbage.
        del working, disconnecting


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _handle_api_error(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, ApiError)
    return problem_response(problem)


def _handle_fault(request: Request, _: Exception) -> Response:
    """Answers for a bug; the exception is raised again, and logged by the guard."""
    return problem_response(internal_error(request.scope["request_id"]))


def _handle_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = CODES.get(error.status_code, "invalid_request")
    message = str(error.detail)
    if code == "not_found":
        message = "there is no such route; /openapi.json lists all"
    elif code == "method_not_allowed":
        allowed = (error.headers or {}).get("allow", "POST")
        message = f"this route does not accept that method; expected {allowed}"
    problem = ApiError(message, status=error.status_code, code=code)
    response = problem_response(problem)
    response.headers.update(error.headers or {})
    return response


def _whole(pieces: Iterable[bytes], headers: dict[str, str], finished: EngineRequest) -> Response:
    """Sends a whole answer; one with log-probabilities, which may be long, as it is written."""
    if finished.sampling.logprobs is None:
        return Response(b"".join(pieces), headers=headers, media_type="application/json")
    return StreamingResponse(taking_turns(pieces), headers=headers, media_type="application/json")


def _parse(form: type[Body], data: bytearray, limits: Limits) -> tuple[Body, GenerationRequest]:
    """Parses a body, and clears it to save memory. Raises ApiError."""
    body = form.parse(data, limits)
    data.clear()
    return body, body.to_generation(limits)


def _note_ignored(wanted: GenerationRequest, service: Service) -> dict[str, str]:
    """Counts the fields that are ignored; returns a header that names them."""
    fields = wanted.ignored_fields
    service.metrics.ignored_fields.inc(len(fields))
    names = [name[:64] for name in fields[:16] if name.isascii() and name.isprintable()]
    return {"x-ignored-params": ",".join(names)} if names else {}
