"""EngineStats: the numbers of an engine at one moment."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EngineStats:
    """How busy an engine is, and what its caches have saved."""

    running: int  # requests
    waiting: int
    kv_bytes: int  # reserved by running requests,
    kv_limit: int  # of so many
    prefix_bytes: int  # of KV caches that are kept for later prompts alone
    prefix_hits: int
    prefix_misses: int
    prefix_tokens: int  # of prompts, that were not prefilled again
    encoder_hits: int
    encoder_misses: int
    drafted_tokens: int  # guessed,
    accepted_tokens: int  # of which the model generated so many itself
    steps: int
    graphed_steps: int  # decoding passes in the fixed shapes of CUDA graphs
