"""AnswerStream -> the server-sent events (SSE) of a stream, in the order that clients expect."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from onevision.serve.answering import AnswerStream
from onevision.serve.schema.chat_completion import ChatWriter, format_usage
from onevision.serve.schema.problems import ApiError
from onevision.serve.schema.response import ResponseWriter

logger = logging.getLogger(__name__)

EVENT_STREAM = "text/event-stream"
FAILED = ApiError("internal error", status=500, code="internal")
STREAM_HEADERS = {"x-accel-buffering": "no", "cache-control": "no-cache"}


class EventResponse(StreamingResponse):
    """Sends a stream; cancels generation if the client disconnects, even before the first event."""

    def __init__(
        self, answers: AnswerStream, events: AsyncIterator[bytes], headers: dict[str, str]
    ) -> None:
        super().__init__(events, media_type=EVENT_STREAM, headers=headers | STREAM_HEADERS)
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends all events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answers.cancel()


async def chat_events(
    answers: AnswerStream, writer: ChatWriter, *, includes_usage: bool
) -> AsyncIterator[bytes]:
    """Yields the start of every answer, its deltas and end, the usage if requested, and [DONE]."""
    request = answers.request
    for index in range(request.sampling.num_answers):
        yield _data(writer.begin(index))
    try:
        async for delta in answers.deltas():
            if delta is None:
                yield b": ping\n\n"
                continue
            for chunk in writer.chunks(delta, request):
                yield _data(chunk)
    except ApiError as problem:
        yield _data(problem.envelope.model_dump_json().encode())
        return
    except Exception:
        logger.exception("a stream failed")
        yield _data(FAILED.envelope.model_dump_json().encode())
        return
    if includes_usage:
        usage = format_usage(answers.usage, cached_tokens=request.cached_tokens)
        yield _data(writer.usage(usage))
    yield b"data: [DONE]\n\n"


async def response_events(answers: AnswerStream, writer: ResponseWriter) -> AsyncIterator[bytes]:
    """Yields the events of a response in order."""
    for event in writer.begin():
        yield event
    reason = None
    try:
        async for delta in answers.deltas():
            for event in (b": ping\n\n",) if delta is None else writer.delta(delta):
                yield event
            reason = delta.finish_reason if delta else reason
    except ApiError as problem:
        yield writer.failure(problem)
        return
    except Exception:
        logger.exception("a stream failed")
        yield writer.failure(FAILED)
        return
    cached = answers.request.cached_tokens
    end = writer.end(reason=reason, usage=answers.usage, cached_tokens=cached)
    async for piece in taking_turns(end):
        yield piece


async def taking_turns(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Yields pieces that take time to make; others use the event loop in between."""
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)


def _data(text: bytes) -> bytes:
    return b"data: " + text + b"\n\n"
