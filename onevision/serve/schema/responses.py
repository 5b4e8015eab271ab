"""/v1/responses without memory: a request -> a Question; pieces -> a response or its events."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from onevision.conversation import Usage
from onevision.generate.request import Piece
from onevision.generate.sampler import SamplingOptions, Token
from onevision.inputs.tokenizer import Tokenizer
from onevision.serve.question import Question, Turn
from onevision.serve.schema.body import Out, parse_object
from onevision.serve.schema.chat import (
    Count,
    JsonFormat,
    JsonSchema,
    SchemaFormat,
    Temperature,
    TextFormat,
    TopP,
    form_of,
    refuse,
    unknown_of,
)
from onevision.serve.schema.content import Message, Wire, turns_of
from onevision.serve.schema.logprobs import TokenLogprob, logprobs_of
from onevision.serve.schema.problems import ApiError, first_problem
from onevision.serve.settings import Limits

# What a request includes where it wants the log-probabilities of the answer's own tokens.
LOGPROBS = "message.output_text.logprobs"


class FlatSchemaFormat(JsonSchema):
    """JSON of a schema, written without the level that Chat Completions has."""

    type: Literal["json_schema"]


class TextOptions(Wire):
    """How the text of an answer looks."""

    format: Annotated[
        TextFormat | JsonFormat | FlatSchemaFormat | None, Field(discriminator="type")
    ] = None


class ResponsesRequest(Wire):
    """A question as the Responses API writes it. Nothing is stored."""

    model: str
    input: str | Annotated[list[Message], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    include: list[str] | None = None
    text: TextOptions | None = None
    stream: bool | None = None
    metadata: dict[str, str] | None = None
    prompt_cache_key: Annotated[str, Field(max_length=256)] | None = None

    @classmethod
    def parse(cls, body: bytes) -> "ResponsesRequest":
        """Read a request. Raises ApiError."""
        value = parse_object(body)
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise first_problem(error, value) from None

    def question(self, limits: Limits) -> Question:
        """Return what is asked. Raises ApiError for what cannot be had."""
        extra = self.model_extra or {}
        refuse(extra)
        if isinstance(self.input, list) and len(self.input) > limits.messages:
            raise ApiError(f"input: more than {limits.messages} messages", param="input")
        options: SamplingOptions = {}
        if self.temperature is not None:
            options["temperature"] = self.temperature
        if self.top_p is not None:
            options["top_p"] = self.top_p
        form = self.text.format if self.text else None
        if isinstance(form, FlatSchemaFormat):
            form = SchemaFormat(type="json_schema", json_schema=form)
        options.update(form_of(form, None, limits))
        options["logprobs"] = self.top_logprobs
        if self.top_logprobs is None and LOGPROBS in (self.include or ()):
            options["logprobs"] = 0
        return Question(
            model=self.model,
            turns=self._turns(),
            options=options,
            max_tokens=self.max_output_tokens,
            salt=self.prompt_cache_key or "",
            unknown=unknown_of(extra),
        )

    def _turns(self) -> tuple[Turn, ...]:
        messages = self.input
        if isinstance(messages, str):
            messages = [Message(role="user", content=messages)]
        turns = turns_of(messages, param="input")
        if self.instructions is None:
            return turns
        told: tuple[str, ...] = (self.instructions,)
        if turns[0].role == "system":
            first, *turns = turns
            told = (*told, "\n", *(part for part in first.parts if isinstance(part, str)))
        return (Turn(role="system", parts=told, param="instructions"), *turns)


class InputDetails(BaseModel):
    """Of the prompt's tokens, how many are what; `cached` were not read again."""

    cached_tokens: int
    cache_write_tokens: int = 0
    text_tokens: int
    image_tokens: int
    video_tokens: int


class OutputDetails(BaseModel):
    """Of the answer's tokens."""

    reasoning_tokens: int = 0


class ResponseUsage(BaseModel):
    """What an answer cost, in tokens."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails = OutputDetails()
    total_tokens: int


class OutputText(BaseModel):
    """The words of an answer."""

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
    """Why an answer ends early."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class ResponseFault(BaseModel):
    """What went wrong while answering."""

    code: str
    message: str


class ResponseOut(Out):
    """A response, whole or on its way."""

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
    """Writes one response: whole, or as events in the order that OpenAI's clients need."""

    def __init__(
        self, asked: ResponsesRequest, *, number: str, created: int, tokenizer: Tokenizer
    ) -> None:
        self._message_id, self._text, self._sequence = f"msg_{number}", "", 0
        self._tokenizer, self._tokens = tokenizer, list[Token]()
        self._response = ResponseOut(
            id=f"resp_{number}",
            created_at=created,
            model=asked.model,
            instructions=asked.instructions,
            metadata=asked.metadata or {},
            temperature=asked.temperature,
            top_p=asked.top_p,
            top_logprobs=asked.top_logprobs,
            max_output_tokens=asked.max_output_tokens,
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
        """Write a whole response."""
        cut = reason == "length"
        status = "incomplete" if cut else "completed"
        return self._response.model_copy(
            update={
                "status": status,
                "output": [self._message(status, text, tokens)],
                "incomplete_details": IncompleteDetails() if cut else None,
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
        """Write that the response begins."""
        yield self._event("response.created", response=self._response)
        yield self._event("response.in_progress", response=self._response)
        item = OutputMessage(id=self._message_id, status="in_progress", content=[])
        yield self._event("response.output_item.added", output_index=0, item=item)
        yield self._event("response.content_part.added", **self._place, part=OutputText())

    def piece(self, piece: Piece) -> Iterator[bytes]:
        """Write what is new."""
        self._text += piece.text
        self._tokens += piece.tokens
        told = self._logprobs(piece.tokens)
        if piece.text or told:
            kind = "response.output_text.delta"
            yield self._event(kind, **self._place, delta=piece.text, logprobs=told)

    def end(self, *, reason: str | None, usage: Usage, cached_tokens: int) -> Iterator[bytes]:
        """Write that the response is whole, or was cut at its limit."""
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
        """Write that the response failed."""
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
        """Write what was asked to be told of tokens."""
        asked = [token for token in tokens if token.logprob is not None]
        return logprobs_of(asked, self._tokenizer)

    def _event(self, kind: str, **values: Any) -> bytes:  # Any: parts of an event
        event = EventOut(type=kind, sequence_number=self._sequence, **values)
        self._sequence += 1
        return f"event: {kind}\ndata: {event.model_dump_json()}\n\n".encode()


class EventOut(Out):
    """An event of a stream; what else it holds depends on its type."""

    type: str
    sequence_number: int
