"""Answers -> a Response of OpenAI's Responses API, whole or as the events of a stream."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from onevision.conversation import Usage
from onevision.generate.request import AnswerDelta
from onevision.generate.sampler import Token
from onevision.inputs.tokenizer import Tokenizer
from onevision.serve.schema.body import Out
from onevision.serve.schema.logprobs import TokenLogprob, format_logprobs
from onevision.serve.schema.problems import ApiError
from onevision.serve.schema.response_request import ResponsesRequest


class InputDetails(BaseModel):
    """The prompt's tokens by kind; `cached_tokens` were taken from the prefix cache."""

    cached_tokens: int
    cache_write_tokens: int = 0
    text_tokens: int
    image_tokens: int
    video_tokens: int


class OutputDetails(BaseModel):
    """The answer's tokens by kind."""

    reasoning_tokens: int = 0


class ResponseUsage(BaseModel):
    """Token counts."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails = OutputDetails()
    total_tokens: int


class OutputText(BaseModel):
    """The text of an answer."""

    type: Literal["output_text"] = "output_text"
    text: str = ""
    annotations: list[str] = Field(default_factory=list)
    logprobs: list[TokenLogprob] = Field(default_factory=list)


class OutputMessage(BaseModel):
    """The answer."""

    type: Literal["message"] = "message"
    id: str
    role: Literal["assistant"] = "assistant"
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]


class IncompleteDetails(BaseModel):
    """Why an answer was cut off."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class ResponseFault(BaseModel):
    """What failed during generation."""

    code: str
    message: str


class ResponseOut(Out):
    """A response, complete or in progress."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    model: str
    status: Literal["in_progress", "completed", "incomplete", "failed"] = "in_progress"
    output: list[OutputMessage] = Field(default_factory=list)
    error: ResponseFault | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    max_output_tokens: int | None = None
    parallel_tool_calls: bool = False
    tool_choice: str = "none"
    tools: list[str] = Field(default_factory=list)
    store: bool = False
    usage: ResponseUsage | None = None


class ResponseWriter:
    """Formats one response: whole, or as events in the order that OpenAI's clients expect."""

    def __init__(
        self, request: ResponsesRequest, *, number: str, created: int, tokenizer: Tokenizer
    ) -> None:
        self._message_id, self._text, self._sequence = f"msg_{number}", "", 0
        self._tokenizer, self._tokens = tokenizer, list[Token]()
        self._response = ResponseOut(
            id=f"resp_{number}",
            created_at=created,
            model=request.model,
            instructions=request.instructions,
            metadata=request.metadata or {},
            temperature=request.temperature,
            top_p=request.top_p,
            top_logprobs=request.top_logprobs,
            max_output_tokens=request.max_output_tokens,
        )

    def response(
        self,
        text: str,
        *,
        tokens: Sequence[Token],
        reason: str | None,
        usage: Usage,
        cached_tokens: int,
    ) -> ResponseOut:
        """Formats a whole response."""
        is_cut_off = reason == "length"
        status = "incomplete" if is_cut_off else "completed"
        return self._response.model_copy(
            update={
                "status": status,
                "output": [self._message(status, text, tokens)],
                "incomplete_details": IncompleteDetails() if is_cut_off else None,
                "usage": ResponseUsage(
                    input_tokens=usage.prompt_tokens,
                    input_tokens_details=InputDetails(
                        cached_tokens=cached_tokens,
                        text_tokens=usage.text_tokens,
                        image_tokens=usage.image_tokens,
                        video_tokens=usage.video_tokens,
                    ),
                    output_tokens=usage.completion_tokens,
                    total_tokens=usage.total_tokens,
                ),
            }
        )

    def begin(self) -> Iterator[bytes]:
        """Formats the events before the text."""
        yield self._event("response.created", response=self._response)
        yield self._event("response.in_progress", response=self._response)
        item = OutputMessage(id=self._message_id, status="in_progress", content=[])
        yield self._event("response.output_item.added", output_index=0, item=item)
        yield self._event("response.content_part.added", **self._place, part=OutputText())

    def delta(self, delta: AnswerDelta) -> Iterator[bytes]:
        """Formats a delta."""
        self._text += delta.text
        self._tokens += delta.tokens
        logprobs = self._logprobs(delta.tokens)
        if delta.text or logprobs:
            kind = "response.output_text.delta"
            yield self._event(kind, **self._place, delta=delta.text, logprobs=logprobs)

    def end(self, *, reason: str | None, usage: Usage, cached_tokens: int) -> Iterator[bytes]:
        """Formats the events after the text: it is complete, or cut off at its limit."""
        whole = self.response(
            self._text,
            tokens=self._tokens,
            reason=reason,
            usage=usage,
            cached_tokens=cached_tokens,
        )
        message = whole.output[0]
        part = message.content[0]
        kind = "response.output_text.done"
        yield self._event(kind, **self._place, text=part.text, logprobs=part.logprobs)
        yield self._event("response.content_part.done", **self._place, part=part)
        yield self._event("response.output_item.done", output_index=0, item=message)
        yield self._event(f"response.{whole.status}", response=whole)

    def failure(self, problem: ApiError) -> bytes:
        """Formats the event of a response that failed."""
        fault = ResponseFault(code=problem.code, message=problem.message)
        failed = self._response.model_copy(update={"status": "failed", "error": fault})
        return self._event("response.failed", response=failed)

    @property
    def _place(self) -> dict[str, Any]:  # Any: strings and numbers
        return {"item_id": self._message_id, "output_index": 0, "content_index": 0}

    def _message(
        self, status: Literal["completed", "incomplete"], text: str, tokens: Sequence[Token]
    ) -> OutputMessage:
        content = [OutputText(text=text, logprobs=self._logprobs(tokens))]
        return OutputMessage(id=self._message_id, status=status, content=content)

    def _logprobs(self, tokens: Sequence[Token]) -> list[TokenLogprob]:
        requested = [token for token in tokens if token.logprob is not None]
        return format_logprobs(requested, self._tokenizer)

    def _event(self, kind: str, **values: Any) -> bytes:  # Any: parts of an event
        event = EventOut(type=kind, sequence_number=self._sequence, **values)
        self._sequence += 1
        return f"event: {kind}\ndata: {event.model_dump_json()}\n\n".encode()


class EventOut(Out):
    """An event of a stream; its other fields depend on its type."""

    type: str
    sequence_number: int
