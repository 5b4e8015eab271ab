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
from onevision.extras import imports_of_extra
from onevision.generate.sampler import Sampling
from onevision.inputs.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

# llguidance itself limits the work of compiling and following a grammar (tens of milliseconds).
MAX_FORM_CHARACTERS = 100_000
# Spaces as json.dumps writes them: if any were allowed, a small model would write nothing else.
JSON_FORM = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
# The additional token that marks the end of a form.
FORM_END = {"content": "<|end of form|>", "special": True, "normalized": False,
            "single_word": False, "lstrip": False, "rstrip": False}  # fmt: skip


def compile_constraint(
    sampling: Sampling, tokenizer: Tokenizer, *, vocab_size: int
) -> "Grammar | None":
    """Compiles what an answer must match, if anything. Raises InputError if it cannot be."""
    if not sampling.is_constrained:
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
    matcher = _compile(kind, form, _tokenizer(tokenizer, vocab_size))
    return Grammar(
        matcher, end_ids=sampling.end_ids, form_end=tokenizer.size, vocab_size=vocab_size
    )


class Grammar:
    """Follows an answer token by token; a `Constraint` of its sampler.

    The grammar marks the end of a form with `form_end`, an id of its own. The ids that end an
    answer take its place here, so one tokenizer serves requests with any end ids, or none.
    """

    def __init__(
        self, matcher: "LLMatcher", *, end_ids: tuple[int, ...], form_end: int, vocab_size: int
    ) -> None:
        self.matcher, self.form_end, self.vocab_size = matcher, form_end, vocab_size
        self.end_ids = torch.tensor(end_ids, dtype=torch.int64)

    def copy(self) -> "Grammar":
        """Returns a grammar in the same state, which is not compiled again."""
        return Grammar(
            self.matcher.deep_copy(),
            end_ids=tuple(self.end_ids.tolist()),
            form_end=self.form_end,
            vocab_size=self.vocab_size,
        )

    @property
    def is_complete(self) -> bool:
        """Whether the answer matches and nothing may follow."""
        return self.matcher.is_stopped() and self.matcher.is_accepting()

    def allowed(self) -> Tensor:
        """Returns a mask [vocab] of the ids that may come next: the end ids if it matches."""
        packed = np.frombuffer(self.matcher.compute_bitmask(), dtype=np.uint8)
        bits = np.unpackbits(packed, bitorder="little").astype(bool)
        bits[self.form_end] = False
        allowed = torch.zeros(self.vocab_size, dtype=torch.bool)
        own = bits[: self.vocab_size]
        allowed[: len(own)] = torch.from_numpy(own)
        allowed[self.end_ids] = self.matcher.is_accepting()
        if not allowed.any():
            raise InputError(f"the answer's constraint cannot continue: {self.matcher.get_error()}")
        return allowed

    def accept(self, token_id: int) -> None:
        """Advances past a token of the answer."""
        if not (self.matcher.is_stopped() or token_id in self.end_ids):
            self.matcher.consume_token(token_id)


def _compile(kind: str, form: str, tokenizer: "LLTokenizer") -> "LLMatcher":
    """Compiles a form. Raises InputError."""
    from llguidance import LLMatcher

    matcher = None
    try:
        if kind == "json_schema":
            grammar = LLMatcher.grammar_from_json_schema(json.loads(form), overrides=JSON_FORM)
        else:
            grammar = LLMatcher.grammar_from_regex(form)
        matcher = LLMatcher(tokenizer, grammar, log_level=0)
        fault = matcher.get_error()
    except (ValueError, RecursionError) as error:
        fault = str(error)
    if matcher is None or fault:
        raise InputError(f"{kind} cannot be compiled: {' '.join(fault.split())[:300]}")
    return matcher


@lru_cache(maxsize=4)
def _tokenizer(tokenizer: Tokenizer, vocab_size: int) -> "LLTokenizer":
    """Returns the tokenizer of all grammars of a model; building it takes up to a second.

    It has one token more than the model, the end of a form. None of the model's own tokens would
    do: any of them may be text in one request and end the answer to another.
    """
    message = (
        "choices, regex and json_schema need llguidance; run: pip install 'onevision[constrain]'"
    )
    with imports_of_extra("constrain", message):
        from llguidance import LLTokenizer
    values = json.loads(tokenizer.definition)
    form_end = FORM_END | {"id": tokenizer.size}
    values["added_tokens"] = [*values.get("added_tokens", ()), form_end]
    most = max(vocab_size, tokenizer.size + 1)
    return LLTokenizer(json.dumps(values), n_vocab=most, eos_token=[tokenizer.size])
