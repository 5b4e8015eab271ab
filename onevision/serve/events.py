"""Pieces of answers -> the events of a stream, in the order that clients need."""

from collections.abc import AsyncIterator

from pydantic import BaseModel

from onevision.serve.answering import Answering
from onevision.serve.schema.completion import ChatWriter, usage_out
from onevision.serve.schema.problems import ApiError
from onevision.serve.schema.responses import ResponseWriter


async def chat_events(
    answering: Answering, writer: ChatWriter, *, includes_usage: bool
) -> AsyncIterator[bytes]:
    """Write a stream: beginnings, pieces, ends, the cost if asked for, and [DONE]."""
    request = answering.request
    assert request is not None, "submitted"
    for index in range(request.sampling.num_answers):
        yield _event(writer.begin(index))
    try:
        async for piece in answering.pieces():
            if piece is None:
                yield b": ping\n\n"
                continue
            for chunk in writer.chunks(piece, request):
                yield _event(chunk)
    except ApiError as problem:
        yield _event(problem.envelope)
        return
    if includes_usage:
        cost = usage_out(answering.usage, cached_tokens=request.cached_tokens)
        yield _event(writer.usage(cost))
    yield b"data: [DONE]\n\n"


async def response_events(answering: Answering, writer: ResponseWriter) -> AsyncIterator[bytes]:
    """Write the events of a response, in their order."""
    for event in writer.begin():
        yield event
    reason = None
    try:
        async for piece in answering.pieces():
            for event in (b": ping\n\n",) if piece is None else writer.piece(piece):
                yield event
            reason = piece.finish_reason if piece else reason
    except ApiError as problem:
        yield writer.failure(problem)
        return
    assert answering.request is not None, "submitted"
    cached = answering.request.cached_tokens
    for event in writer.end(reason=reason, usage=answering.usage, cached_tokens=cached):
        yield event


def _event(value: BaseModel) -> bytes:
    return b"data: " + value.model_dump_json().encode() + b"\n\n"
