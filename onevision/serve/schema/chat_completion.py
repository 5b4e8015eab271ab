"""Answers -> ChatCompletion, or the ChatChunks of a stream, as JSON."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from onevision.conversation import Usage
from onevision.generate.request import AnswerDelta, Request
from onevision.serve.schema.body import Out
from onevision.serve.schema.logprobs import LogprobWriter, TokenLogprob

# What `Logprobs` leaves to a LogprobWriter.
LOGPROBS = '"content":[]'


class PromptDetails(Out):
    """The prompt's tokens by kind; `cached_tokens` were taken from the prefix cache.

    `dropped_tokens` are visual tokens that `keep` left out of the prompt.
    """

    cached_tokens: int
    text_tokens: int
    image_tokens: int
    video_tokens: int
    dropped_tokens: int


class UsageOut(Out):
    """Token counts. The prompt of several answers counts once."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class Logprobs(Out):
    """Log-probabilities of every token, control tokens included."""

    content: list[TokenLogprob] = Field(default_factory=list)  # a LogprobWriter fills it
    refusal: None = None


class AnswerMessage(Out):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(Out):
    """One of the answers."""

    index: int
    message: AnswerMessage
    logprobs: Logprobs | None
    finish_reason: str


class ChatCompletion(Out):
    """All answers to a chat request."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: UsageOut


class ChunkChoice(Out):
    """What is new in one of the answers."""

    index: int
    delta: dict[str, str]  # the role first, then content; empty at the end
    logprobs: Logprobs | None = None
    finish_reason: str | None = None


class ChatChunk(Out):
    """An event of a stream."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: UsageOut | None = None


class ChatWriter:
    """Writes the answers to one request, all with the same id, time and model."""

    def __init__(
        self, *, number: str, created: int, model: str, fingerprint: str, logprobs: LogprobWriter
    ) -> None:
        self.number, self.created, self.model = f"chatcmpl-{number}", created, model
        self.fingerprint, self._logprobs = fingerprint, logprobs

    def completion(self, request: Request, usage: UsageOut) -> Iterator[bytes]:
        """Writes all answers of a finished request, in pieces."""
        has_logprobs = request.sampling.logprobs is not None
        whole = ChatCompletion(
            id=self.number,
            created=self.created,
            model=self.model,
            system_fingerprint=self.fingerprint,
            choices=[
                Choice(
                    index=answer.number,
                    message=AnswerMessage(content=answer.text),
                    logprobs=Logprobs() if has_logprobs else None,
                    finish_reason=answer.finish_reason or "stop",
                )
                for answer in request.answers
            ],
            usage=usage,
        )
        lists = [self._logprobs.write(answer.tokens) for answer in request.answers]
        text = whole.model_dump_json()
        yield from self._logprobs.fill(text, LOGPROBS, lists if has_logprobs else [])

    def begin(self, index: int) -> bytes:
        """Writes the first chunk of an answer."""
        return self._chunk(ChunkChoice(index=index, delta={"role": "assistant", "content": ""}))

    def chunks(self, delta: AnswerDelta, request: Request) -> Iterator[bytes]:
        """Writes a delta: its text and tokens, then why the answer ended, if it did."""
        index, tokens = delta.answer, delta.tokens
        has_logprobs = request.sampling.logprobs is not None and bool(tokens)
        if delta.text or has_logprobs:
            choice = ChunkChoice(
                index=index,
                delta={"content": delta.text},
                logprobs=Logprobs() if has_logprobs else None,
            )
            text = self._chunk(choice).decode()
            lists = [self._logprobs.write(tokens)] if has_logprobs else []
            yield b"".join(self._logprobs.fill(text, LOGPROBS, lists))
        if (reason := delta.finish_reason) is not None:
            yield self._chunk(ChunkChoice(index=index, delta={}, finish_reason=reason))

    def usage(self, usage: UsageOut) -> bytes:
        """Writes the token counts at the end of a stream."""
        return self._chunk(usage=usage)

    def _chunk(self, *choices: ChunkChoice, usage: UsageOut | None = None) -> bytes:
        chunk = ChatChunk(
            id=self.number,
            created=self.created,
            model=self.model,
            system_fingerprint=self.fingerprint,
            choices=list(choices),
            usage=usage,
        )
        return chunk.model_dump_json().encode()


def format_usage(usage: Usage, *, cached_tokens: int) -> UsageOut:
    """Formats token counts."""
    return UsageOut(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        prompt_tokens_details=PromptDetails(
            cached_tokens=cached_tokens,
            text_tokens=usage.text_tokens,
            image_tokens=usage.image_tokens,
            video_tokens=usage.video_tokens,
            dropped_tokens=usage.dropped_tokens,
        ),
    )
