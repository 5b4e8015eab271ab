"""What a request may ask and what it needs, told before anything is computed for it."""

from dataclasses import replace

import torch

from onevision.batch import ModelInputs
from onevision.config import LanguageConfig
from onevision.errors import CapacityError, ContextLengthError, InputError
from onevision.generate.sampler import Sampling


def fitted(prompt: ModelInputs, sampling: Sampling, config: LanguageConfig) -> Sampling:
    """Return `sampling` with no more new tokens than the context has room for.

    Raises ContextLengthError where the prompt alone has no room, InputError for a bias of a token
    that there is not.
    """
    length, most = prompt.input_ids.shape[1], config.max_positions - 1
    if length > most:
        raise ContextLengthError(f"the prompt has {length} tokens; the model reads {most} at most")
    beyond = [i for i in sampling.logit_bias if not 0 <= i < config.vocab_size]
    if beyond:
        raise InputError(
            f"logit_bias names token {beyond[0]}; expected 0 to {config.vocab_size - 1}"
        )
    most = min(sampling.max_new_tokens, most + 1 - length)
    least = min(sampling.min_new_tokens, most)
    return replace(sampling, max_new_tokens=most, min_new_tokens=least)


def num_positions(prompt: ModelInputs, sampling: Sampling) -> int:
    """Return the most positions that one answer comes to hold, with its prompt."""
    return prompt.input_ids.shape[1] + sampling.max_new_tokens


def kv_bytes_of(
    prompt: ModelInputs,
    sampling: Sampling,
    config: LanguageConfig,
    *,
    dtype: torch.dtype,
    limit: int,
) -> int:
    """Return the bytes of keys and values of all answers. Raises CapacityError beyond `limit`."""
    per_token = 2 * config.num_layers * config.num_kv_heads * config.head_size
    positions = num_positions(prompt, sampling)
    needed = sampling.num_answers * positions * per_token * dtype.itemsize
    if needed > limit:
        raise CapacityError(
            f"the request needs {needed / 2**20:,.0f} MiB for the keys and values of "
            f"{sampling.num_answers} x {positions:,} tokens; the engine has "
            f"{limit / 2**20:,.0f} MiB: give fewer or smaller images or frames, or "
            "ask for fewer tokens or answers"
        )
    return needed
