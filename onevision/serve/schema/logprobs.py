"""Tokens -> their log-probabilities and the likeliest in their places, as OpenAI has them."""

from collections.abc import Sequence

from onevision.generate.sampler import Token
from onevision.inputs.tokenizer import Tokenizer
from onevision.serve.schema.body import Out

# What stands for a probability of 0, which JSON cannot write as a logarithm.
LEAST = -9999.0


class TopLogprob(Out):
    """A token that might have stood here."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A token of the answer, and the likeliest in its place."""

    top_logprobs: list[TopLogprob]


def logprobs_of(tokens: Sequence[Token], tokenizer: Tokenizer) -> list[TokenLogprob]:
    """Write tokens that were drawn with their log-probabilities."""
    return [_told(token, tokenizer) for token in tokens]


def _told(token: Token, tokenizer: Tokenizer) -> TokenLogprob:
    assert token.logprob is not None, "asked for"
    own = _likely(token.id, token.logprob, tokenizer)
    top = [_likely(token_id, logprob, tokenizer) for token_id, logprob in token.top]
    return TokenLogprob(token=own.token, logprob=own.logprob, bytes=own.bytes, top_logprobs=top)


def _likely(token_id: int, logprob: float, tokenizer: Tokenizer) -> TopLogprob:
    spelled = tokenizer.bytes_of(token_id)
    text = spelled.decode("utf-8", errors="replace")
    return TopLogprob(token=text, logprob=max(logprob, LEAST), bytes=list(spelled))
