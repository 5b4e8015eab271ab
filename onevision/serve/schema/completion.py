"""Answers -> a chat completion, or the chunks of a stream."""

from collections.abc import Sequence
from typing import Literal

from onevision.conversation import Usage
from onevision.generate.request import Piece, Request
from onevision.generate.sampler import Token
from onevision.inputs.tokenizer import Tokenizer
from onevision.serve.schema.body import Out
from onevision.serve.schema.logprobs import TokenLogprob, logprobs_of


class PromptDetails(Out):
    """Of the prompt's tokens, how many are what; `cached` were not read again."""

    cached_tokens: int
    text_tokens: int
    image_tokens: int
    video_tokens: int


class UsageOut(Out):
    """What an answer cost, in tokens. A prompt of several answers counts once."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class Logprobs(Out):
    """Of every token, control tokens included."""

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
    """All answers to a question."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: UsageOut


class ChunkChoice(Out):
    """What is new of one of the answers."""

    index: int
    delta: dict[str, str]  # role at the beginning, then content; empty at the end
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
    """Writes the answers to one request; all it writes has the same id, time and model."""

    def __init__(
        self, *, number: str, created: int, model: str, fingerprint: str, tokenizer: Tokenizer
    ) -> None:
        self.number, self.created, self.model = f"chatcmpl-{number}", created, model
        self.fingerprint, self.tokenizer = fingerprint, tokenizer

    def completion(self, request: Request, usage: UsageOut) -> ChatCompletion:
        """Write all answers of a request that has ended."""
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
        """Write that an answer begins."""
        return self._chunk(ChunkChoice(index=index, delta={"role": "assistant", "content": ""}))

    def chunks(self, piece: Piece, request: Request) -> list[ChatChunk]:
        """Write a piece: its text and tokens, then why the answer ended, if it did."""
        written = list[ChatChunk]()
        tells = self._logprobs(request, piece.tokens) if piece.tokens else None
        if piece.text or tells is not None:
            delta = {"content": piece.text}
            written.append(
                self._chunk(ChunkChoice(index=piece.answer, delta=delta, logprobs=tells))
            )
        if piece.finish_reason is not None:
            reason = piece.finish_reason
            end = ChunkChoice(index=piece.answer, delta={}, finish_reason=reason)
            written.append(self._chunk(end))
        return written

    def usage(self, usage: UsageOut) -> ChatChunk:
        """Write what the answers cost."""
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
        return Logprobs(content=logprobs_of(tokens, self.tokenizer))


def usage_out(usage: Usage, *, cached_tokens: int) -> UsageOut:
    """Write what an answer cost."""
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
