"""Tokens -> OpenAI's log-probabilities: of each token, and of the likeliest in its place."""

from collections.abc import Sequence

from onevision.generate.sampler import Token
from onevision.inputs.tokenizer import Tokenizer
from onevision.serve.schema.body import Out

# In place of log 0, which JSON cannot express.
LEAST = -9999.0


class TopLogprob(Out):
    """A candidate for this place."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A token of the answer, and the likeliest candidates for its place."""

    top_logprobs: list[TopLogprob]


def format_logprobs(tokens: Sequence[Token], tokenizer: Tokenizer) -> list[TokenLogprob]:
    """Formats tokens that were sampled with log-probabilities."""
    formatted = list[TokenLogprob]()
    for token in tokens:
        assert token.logprob is not None, "requested"
        own = _format_token(token.id, token.logprob, tokenizer)
        top = [_format_token(token_id, logprob, tokenizer) for token_id, logprob in token.top]
        formatted.append(TokenLogprob(**own.model_dump(), top_logprobs=top))
    return formatted


def _format_token(token_id: int, logprob: float, tokenizer: Tokenizer) -> TopLogprob:
    spelled = tokenizer.bytes_of(token_id)
    text = spelled.decode("utf-8", errors="replace")
    return TopLogprob(token=text, logprob=max(logprob, LEAST), bytes=list(spelled))
