"""What the engine may use, and what it promises."""

import os
from dataclasses import dataclass

from onevision.errors import InputError
from onevision.generate.prefix_cache import BLOCK

# Share of the machine's memory for keys and values where nothing is said, and of a GPU's for the
# copies that CUDA graphs work on.
MEMORY_SHARE = 0.25
# Tokens of a chunk: more keep answers waiting for longer, fewer are launches more than work.
CPU_CHUNK, GPU_CHUNK = 512, 4096


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """Limits and promises of an engine. Raises InputError for values that cannot be."""

    # Requests that are being read or answered at a time, and those that may wait for it.
    max_running: int = 32
    max_waiting: int = 1024
    # Memory for keys and values, of running requests and of what is remembered; None: a quarter of
    # the machine's.
    kv_bytes: int | None = None
    # Memory for visual tokens that are remembered.
    encoder_bytes: int = 256 * 2**20
    # Tokens of prompts read between two steps of the answers; None: what suits the device.
    chunk_tokens: int | None = None
    # Remember what was read.
    prefix_cache: bool = True
    # Guess so many tokens of a greedy answer from what stands in the prompt; 0 is off.
    draft_tokens: int = 0
    # On a GPU, replay a step of decoding, and the vision encoder, as one CUDA graph.
    cuda_graphs: bool = True
    # The same bits for a request alone and among others.
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
        if self.chunk_tokens is not None and (
            self.chunk_tokens < BLOCK or self.chunk_tokens % BLOCK
        ):
            raise InputError(f"chunk_tokens is {self.chunk_tokens}; expected a multiple of {BLOCK}")

    def chunk_on(self, device_type: str) -> int:
        """Return the tokens of prompts read between two steps on "cpu", "cuda" or the like."""
        if self.chunk_tokens is not None:
            return self.chunk_tokens
        # Deterministic, what is computed is a function of the prompt alone, on any device alike.
        return CPU_CHUNK if device_type == "cpu" or self.deterministic else GPU_CHUNK

    @property
    def replays(self) -> bool:
        """Whether CUDA graphs may be used, on a GPU."""
        return self.cuda_graphs and not self.deterministic

    @property
    def kv_limit(self) -> int:
        """Bytes for keys and values."""
        if self.kv_bytes is not None:
            return self.kv_bytes
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return int(memory * MEMORY_SHARE)
