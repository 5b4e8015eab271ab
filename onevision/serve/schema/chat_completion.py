"""Answers -> ChatCompletion, or the ChatChunks of a stream."""

from collections.abc import Iterator, Sequence
from typing import Literal

from onevision.conversation import Usage
from onevision.generate.request import AnswerDelta, Request
from onevision.generate.sampler import Token
from onevision.inputs.tokenizer import Tokenizer
from onevision.serve.schema.body import Out
from onevision.serve.schema.logprobs import TokenLogprob, format_logprobs


class PromptDetails(Out):
    """The prompt's tokens by kind; `cached_tokens` were taken from the prefix cache."""

    cached_tokens: int
    text_tokens: int
    image_tokens: int
    video_tokens: int


class UsageOut(Out):
    """Token counts. The prompt of several answers counts once."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class Logprobs(Out):
    """Log-probabilities of every token, control tokens included."""

    content: list[TokenLogprob]
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
    """Formats the answers to one request, all with the same id, time and model."""

    def __init__(
        self, *, number: str, created: int, model: str, fingerprint: str, tokenizer: Tokenizer
    ) -> None:
        self.number, self.created, self.model = f"chatcmpl-{number}", created, model
        self.fingerprint, self.tokenizer = fingerprint, tokenizer

    def completion(self, request: Request, usage: UsageOut) -> ChatCompletion:
        """Formats all answers of a finished request."""
        return ChatCompletion(
            id=self.number,
            created=self.created,
            model=self.model,
            system_fingerprint=self.fingerprint,
            choices=[
                Choice(
                    index=answer.number,
                    message=AnswerMessage(content=answer.text),
                    logprobs=self._logprobs(request, answer.tokens),
                    finish_reason=answer.finish_reason or "stop",
                )
                for answer in request.answers
            ],
            usage=usage,
        )

    def begin(self, index: int) -> ChatChunk:
        """Formats the first chunk of an answer."""
        return self._chunk(ChunkChoice(index=index, delta={"role": "assistant", "content": ""}))

    def chunks(self, delta: AnswerDelta, request: Request) -> Iterator[ChatChunk]:
        """Formats a delta: its text and tokens, then why the answer ended, if it did."""
        index = delta.answer
        logprobs = self._logprobs(request, delta.tokens) if delta.tokens else None
        if delta.text or logprobs is not None:
            content = {"content": delta.text}
            yield self._chunk(ChunkChoice(index=index, delta=content, logprobs=logprobs))
        if (reason := delta.finish_reason) is not None:
            yield self._chunk(ChunkChoice(index=index, delta={}, finish_reason=reason))

    def usage(self, usage: UsageOut) -> ChatChunk:
        """Formats the token counts at the end of a stream."""
        return self._chunk(usage=usage)

    def _chunk(self, *choices: ChunkChoice, usage: UsageOut | None = None) -> ChatChunk:
        return ChatChunk(
            id=self.number,
            created=self.created,
            model=self.model,
            system_fingerprint=self.fingerprint,
            choices=list(choices),
            usage=usage,
        )

    def _logprobs(self, request: Request, tokens: Sequence[Token]) -> Logprobs | None:
        if request.sampling.logprobs is None:
            return None
        return Logprobs(content=format_logprobs(tokens, self.tokenizer))


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
        ),
    )
