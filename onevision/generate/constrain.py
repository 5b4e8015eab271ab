"""Choices, a regular expression or a JSON schema -> which tokens may come next.

The grammar engine is llguidance (the extra `constrain`). A form that does not compile within its
limits is an InputError of the request that asked for it.
"""

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from onevision.errors import InputError
from onevision.generate.sampler import Sampling
from onevision.inputs.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLTokenizer

# llguidance itself limits the work of compiling and following a grammar (tens of milliseconds).
MAX_FORM_CHARACTERS = 100_000
# Spaces as json.dumps writes them: if any were allowed, a small model would write nothing else.
JSON_FORM = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def compile_constraint(
    sampling: Sampling, tokenizer: Tokenizer, *, vocab_size: int
) -> "Grammar | None":
    """Compiles what an answer must match, if anything. Raises InputError if it cannot be."""
    if not (sampling.choices or sampling.regex or sampling.json_schema):
        return None
    if sampling.json_schema is not None:
        kind, form = "json_schema", sampling.json_schema
    elif sampling.regex is not None:
        kind, form = "regex", sampling.regex
    else:
        kind, form = "choices", "|".join(map(re.escape, sampling.choices))
    if len(form) > MAX_FORM_CHARACTERS:
        raise InputError(
            f"{kind} has {len(form):,} characters; expected at most {MAX_FORM_CHARACTERS:,}"
        )
    ends = tuple(sampling.end_ids)
    return Grammar(kind, form, _tokenizer(tokenizer, vocab_size, ends), vocab_size=vocab_size)


class Grammar:
    """Follows an answer token by token; a `Constraint` of its sampler."""

    def __init__(self, kind: str, form: str, tokenizer: "LLTokenizer", *, vocab_size: int) -> None:
        from llguidance import LLMatcher

        try:
            if kind == "json_schema":
                grammar = LLMatcher.grammar_from_json_schema(json.loads(form), overrides=JSON_FORM)
            else:
                grammar = LLMatcher.grammar_from_regex(form)
            self.matcher = LLMatcher(tokenizer, grammar, log_level=0)
            fault = self.matcher.get_error()
        except ValueError as error:
            fault = str(error)
        if fault:
            raise InputError(f"{kind} cannot be compiled: {' '.join(fault.split())[:300]}")
        self.vocab_size = vocab_size

    def allowed(self) -> Tensor:
        """Returns a mask [vocab] of the ids that may come next: the end ids if it is complete."""
        packed = np.frombuffer(self.matcher.compute_bitmask(), dtype=np.uint8)
        bits = np.unpackbits(packed, bitorder="little")[: self.vocab_size]
        allowed = torch.zeros(self.vocab_size, dtype=torch.bool)
        allowed[: len(bits)] = torch.from_numpy(bits.astype(bool))
        if not allowed.any():
            raise InputError(f"the answer's constraint cannot continue: {self.matcher.get_error()}")
        return allowed

    def accept(self, token_id: int) -> None:
        """Advances past a token of the answer."""
        if not self.matcher.is_stopped():
            self.matcher.consume_token(token_id)


@lru_cache(maxsize=4)
def _tokenizer(tokenizer: Tokenizer, vocab_size: int, ends: tuple[int, ...]) -> "LLTokenizer":
    try:
        from llguidance import LLTokenizer
    except ImportError as error:
        raise InputError(
            "choices, regex and json_schema need llguidance; run: "
            "pip install 'onevision[constrain]'"
        ) from error
    return LLTokenizer(tokenizer.definition, n_vocab=vocab_size, eos_token=list(ends))
