"""Answers -> a Response of OpenAI's Responses API, whole or as the events of a stream."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from onevision.conversation import Usage
from onevision.generate.request import AnswerDelta
from onevision.generate.sampler import Token
from onevision.serve.schema.body import Out
from onevision.serve.schema.logprobs import LogprobWriter, TokenLogprob
from onevision.serve.schema.problems import ApiError
from onevision.serve.schema.response_request import ResponsesRequest

# What an answer's parts leave to a LogprobWriter.
LOGPROBS = '"logprobs":[]'


class InputDetails(BaseModel):
    """The prompt's tokens by kind; `cached_tokens` were taken from the prefix cache.

    `dropped_tokens` are visual tokens that `keep` left out of the prompt.
    """

    cached_tokens: int
    cache_write_tokens: int = 0
    text_tokens: int
    image_tokens: int
    video_tokens: int
    dropped_tokens: int


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
    logprobs: list[TokenLogprob] = Field(default_factory=list)  # a LogprobWriter fills it


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
    """Writes one response: whole, or as events in the order that OpenAI's clients expect."""

    def __init__(
        self, request: ResponsesRequest, *, number: str, created: int, logprobs: LogprobWriter
    ) -> None:
        self._message_id, self._text, self._sequence = f"msg_{number}", "", 0
        self._logprobs, self._tokens = logprobs, list[Token]()
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
    ) -> Iterator[bytes]:
        """Writes a whole response, in pieces."""
        whole = self._whole(text, reason=reason, usage=usage, cached_tokens=cached_tokens)
        yield from self._fill(whole.model_dump_json(), self._elements(tokens))

    def begin(self) -> Iterator[bytes]:
        """Writes the events before the text."""
        yield from self._event("response.created", response=self._response)
        yield from self._event("response.in_progress", response=self._response)
        item = OutputMessage(id=self._message_id, status="in_progress", content=[])
        yield from self._event("response.output_item.added", output_index=0, item=item)
        yield from self._event("response.content_part.added", **self._place, part=OutputText())

    def delta(self, delta: AnswerDelta) -> Iterator[bytes]:
        """Writes a delta."""
        self._text += delta.text
        self._tokens += delta.tokens
        elements = list(self._elements(delta.tokens))
        if delta.text or elements:
            kind = "response.output_text.delta"
            event = self._event(kind, elements, **self._place, delta=delta.text, logprobs=[])
            yield b"".join(event)

    def end(self, *, reason: str | None, usage: Usage, cached_tokens: int) -> Iterator[bytes]:
        """Writes the events after the text, in pieces: it is complete, or cut off at its limit."""
        whole = self._whole(self._text, reason=reason, usage=usage, cached_tokens=cached_tokens)
        elements = list(self._elements(self._tokens))
        message = whole.output[0]
        part = message.content[0]
        kind = "response.output_text.done"
        yield from self._event(kind, elements, **self._place, text=part.text, logprobs=[])
        yield from self._event("response.content_part.done", elements, **self._place, part=part)
        yield from self._event("response.output_item.done", elements, output_index=0, item=message)
        yield from self._event(f"response.{whole.status}", elements, response=whole)

    def failure(self, problem: ApiError) -> bytes:
        """Writes the event of a response that failed."""
        fault = ResponseFault(code=problem.code, message=problem.message)
        failed = self._response.model_copy(update={"status": "failed", "error": fault})
        return b"".join(self._event("response.failed", response=failed))

    @property
    def _place(self) -> dict[str, Any]:  # Any: strings and numbers
        return {"item_id": self._message_id, "output_index": 0, "content_index": 0}

    def _whole(
        self, text: str, *, reason: str | None, usage: Usage, cached_tokens: int
    ) -> ResponseOut:
        is_cut_off = reason == "length"
        status = "incomplete" if is_cut_off else "completed"
        message = OutputMessage(id=self._message_id, status=status, content=[OutputText(text=text)])
        return self._response.model_copy(
            update={
                "status": status,
                "output": [message],
                "incomplete_details": IncompleteDetails() if is_cut_off else None,
                "usage": ResponseUsage(
                    input_tokens=usage.prompt_tokens,
                    input_tokens_details=InputDetails(
                        cached_tokens=cached_tokens,
                        text_tokens=usage.text_tokens,
                        image_tokens=usage.image_tokens,
                        video_tokens=usage.video_tokens,
                        dropped_tokens=usage.dropped_tokens,
                    ),
                    output_tokens=usage.completion_tokens,
                    total_tokens=usage.total_tokens,
                ),
            }
        )

    def _elements(self, tokens: Sequence[Token]) -> Iterator[str]:
        return self._logprobs.write([token for token in tokens if token.logprob is not None])

    def _fill(self, text: str, elements: Iterable[str]) -> Iterator[bytes]:
        """Puts log-probabilities where a text has an empty list of them, if it has one."""
        lists = [elements] if LOGPROBS in text else []
        return self._logprobs.fill(text, LOGPROBS, lists)

    def _event(
        self,
        kind: str,
        elements: Iterable[str] = (),
        **values: Any,  # Any: parts of an event
    ) -> Iterator[bytes]:
        event = EventOut(type=kind, sequence_number=self._sequence, **values)
        self._sequence += 1
        yield f"event: {kind}\ndata: ".encode()
        yield from self._fill(event.model_dump_json(), elements)
        yield b"\n\n"


class EventOut(Out):
    """An event of a stream; its other fields depend on its type."""

    type: str
    sequence_number: int
