"""Tokens -> OpenAI's log-probabilities: of each token, and of the likeliest in its place.

They may be a hundred megabytes of an answer's JSON, so they are written as text, a few tokens at a
time, into the place that an answer's model leaves empty.
"""

import json
from collections.abc import Iterable, Iterator, Sequence

from onevision.generate.sampler import Token
from onevision.inputs.tokenizer import Tokenizer
from onevision.serve.schema.body import Out

# In place of log 0, which JSON cannot express.
LEAST = -9999.0
# Tokens written at a time: a few milliseconds of work.
GROUP = 32


class TopLogprob(Out):
    """A candidate for this place."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A token of the answer, and the likeliest candidates for its place."""

    top_logprobs: list[TopLogprob]


class LogprobWriter:
    """Writes tokens as the JSON of TokenLogprob; keeps how each is spelled."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._spelled: dict[int, tuple[str, str]] = {}  # before and after the number

    def write(self, tokens: Sequence[Token]) -> Iterator[str]:
        """Yields the elements of a list, a group at a time, for tokens with log-probabilities."""
        for begin in range(0, len(tokens), GROUP):
            group = ",".join(map(self._write, tokens[begin : begin + GROUP]))
            yield f",{group}" if begin else group

    def fill(self, text: str, mark: str, lists: Sequence[Iterable[str]]) -> Iterator[bytes]:
        """Yields JSON with elements put into its empty lists.

        `mark` is a key with an empty list, as in '"content":[]'. It cannot be part of a string,
        where its quotes would be escaped.
        """
        head, *tails = text.split(mark)
        yield head.encode()
        for elements, tail in zip(lists, tails, strict=True):
            yield mark[:-1].encode()
            for group in elements:
                yield group.encode()
            yield f"]{tail}".encode()

    def _write(self, token: Token) -> str:
        assert token.logprob is not None, "requested"
        top = ",".join(f"{self._candidate(one, logprob)}}}" for one, logprob in token.top)
        return f'{self._candidate(token.id, token.logprob)},"top_logprobs":[{top}]}}'

    def _candidate(self, token_id: int, logprob: float) -> str:
        """Returns the JSON of a TopLogprob without its last brace."""
        if token_id not in self._spelled:
            spelled = self._tokenizer.bytes_of(token_id)
            text = json.dumps(spelled.decode("utf-8", errors="replace"), ensure_ascii=False)
            numbers = ",".join(map(str, spelled))
            self._spelled[token_id] = (f'{{"token":{text},"logprob":', f',"bytes":[{numbers}]')
        before, after = self._spelled[token_id]
        return f"{before}{logprob if logprob > LEAST else LEAST!r}{after}"
