"""EngineSettings: what an engine may use, and what it guarantees."""

import os
from dataclasses import dataclass

from onevision.errors import InputError
from onevision.generate.prefix_cache import BLOCK_TOKENS

# Default share of the machine's memory for KV caches, and of a GPU's memory for the copies of them
# that CUDA graphs work on.
MEMORY_SHARE = 0.25
# Tokens prefilled per step: more delay the answers, fewer leave the device waiting for launches.
CPU_CHUNK, GPU_CHUNK = 512, 4096


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """Limits and guarantees of an engine. Raises InputError for values out of range."""

    # Requests that run at a time, and those that may wait to.
    max_running: int = 32
    max_waiting: int = 1024
    # Of each, the most that one tenant may have; None is all.
    max_running_per_tenant: int | None = None
    max_waiting_per_tenant: int | None = None
    # Memory for KV caches, of running requests and of the prefix cache together; None is a quarter
    # of the machine's.
    kv_bytes: int | None = None
    # Memory for visual tokens that are cached; for those of a draft model, half as much again.
    encoder_bytes: int = 256 * 2**20
    # Prompt tokens prefilled per step, between two tokens of each answer; None suits the device.
    chunk_tokens: int | None = None
    # Hold keys and values in 8 bits: docs/performance.md has the error.
    kv_int8: bool = False
    # Reuse the prefill of prompts that begin alike.
    prefix_cache: bool = True
    # Draft so many tokens of an answer per step: by the draft model if there is one, where 0 is 4,
    # or of a greedy answer by prompt lookup, where 0 is none.
    draft_tokens: int = 0
    # On a GPU, run a decoding step, and the vision encoder, as one CUDA graph each.
    cuda_graphs: bool = True
    # Run decoding steps in the fixed shapes of CUDA graphs where there is no GPU, too. This shows
    # what graphs compute; it gains nothing.
    fixed_shapes: bool = False
    # Compute the same bits for a request alone and among others.
    deterministic: bool = False

    def __post_init__(self) -> None:
        for name, least in (
            ("max_running", 1),
            ("max_waiting", 0),
            ("encoder_bytes", 0),
            ("draft_tokens", 0),
        ):
            if vars(self)[name] < least:
                raise InputError(f"{name} is {vars(self)[name]}; expected {least} or more")
        for name, own, least, most in (
            ("max_running_per_tenant", self.max_running_per_tenant, 1, self.max_running),
            ("max_waiting_per_tenant", self.max_waiting_per_tenant, 0, self.max_waiting),
        ):
            if own is not None and not least <= own <= most:
                raise InputError(f"{name} is {own}; expected {least} to the {most} of all")
        if self.chunk_tokens is not None and (
            self.chunk_tokens < BLOCK_TOKENS or self.chunk_tokens % BLOCK_TOKENS
        ):
            raise InputError(
                f"chunk_tokens is {self.chunk_tokens}; expected a multiple of {BLOCK_TOKENS}"
            )
        if self.fixed_shapes and not self.allows_cuda_graphs:
            raise InputError(
                "fixed_shapes is True, but cuda_graphs=False, deterministic=True and kv_int8=True "
                "have no steps in fixed shapes; leave one of them out"
            )

    def chunk_tokens_on(self, device_type: str) -> int:
        """Returns the prompt tokens prefilled per step on "cpu", "cuda" or another device."""
        if self.chunk_tokens is not None:
            return self.chunk_tokens
        # In the deterministic mode the bits must not depend on the device's best chunk.
        return CPU_CHUNK if device_type == "cpu" or self.deterministic else GPU_CHUNK

    @property
    def allows_cuda_graphs(self) -> bool:
        """Whether CUDA graphs may be used if there is a GPU."""
        return self.cuda_graphs and not self.deterministic and not self.kv_int8

    def decodes_in_fixed_shapes(self, device_type: str) -> bool:
        """Whether decoding steps have fixed shapes on "cpu", "cuda" or another device."""
        return self.allows_cuda_graphs and (device_type == "cuda" or self.fixed_shapes)

    @property
    def kv_limit(self) -> int:
        """Bytes for KV caches."""
        if self.kv_bytes is not None:
            return self.kv_bytes
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return int(memory * MEMORY_SHARE)
