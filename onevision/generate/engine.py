"""ModelInputs -> tokens, one step at a time: prefill once, then decode with a KV cache."""

from collections.abc import Iterator

import torch
from torch import Tensor

from onevision.batch import ModelInputs
from onevision.config import LanguageConfig
from onevision.generate.sampling import Sampling, choose
from onevision.model.decoder import KVCache
from onevision.model.llava import LlavaNetwork

# Crops encoded at once; more are slower on CPU, and take memory.
CROPS_AT_ONCE = 4


@torch.inference_mode()
def generate(
    network: LlavaNetwork, config: LanguageConfig, inputs: ModelInputs, sampling: Sampling
) -> Iterator[Tensor]:
    """Give the next id of every row [B], until all rows have ended or the limit is reached.

    A row that has ended repeats its end id. Rows do not influence one another.
    """
    parameter = network.language_model.embedding.weight
    inputs = inputs.to(parameter.device)
    lengths = inputs.lengths
    cache = KVCache(
        config,
        batch_size=len(lengths),
        max_positions=inputs.input_ids.shape[1] + sampling.max_new_tokens,
        dtype=parameter.dtype,
        device=parameter.device,
    )
    generator = _generator(sampling, parameter.device)
    ends = torch.tensor(sampling.end_ids, dtype=torch.int64, device=parameter.device)
    seen = torch.zeros(len(lengths), config.vocab_size, dtype=torch.bool, device=parameter.device)
    ended = torch.zeros(len(lengths), dtype=torch.bool, device=parameter.device)

    logits = prefill(network, inputs, cache)
    ids = torch.zeros_like(lengths)
    for step in range(sampling.max_new_tokens):
        if step:
            positions = (lengths + step - 1)[:, None]
            hidden = network.run(
                network.language_model.embedding(ids[:, None]), positions, cache=cache
            )
            logits = network.head(hidden[:, 0])
        ids = torch.where(ended, ids, choose(logits, seen, sampling, generator))
        seen.scatter_(1, ids[:, None], value=True)
        ended |= torch.isin(ids, ends)
        yield ids
        if ended.all():
            return


def prefill(network: LlavaNetwork, inputs: ModelInputs, cache: KVCache) -> Tensor:
    """Read the prompts into the cache; return the logits [B, vocab] after each one's last token."""
    visual_tokens = network.encode(inputs.pixel_values, inputs.layouts, crops_at_once=CROPS_AT_ONCE)
    x = network.place(inputs.input_ids, inputs.visual_mask, visual_tokens)
    hidden = network.run(x, cache=cache)
    rows = torch.arange(len(x), device=x.device)
    return network.head(hidden[rows, inputs.lengths - 1])


def _generator(sampling: Sampling, device: torch.device) -> torch.Generator | None:
    if sampling.temperature == 0 or sampling.seed is None:
        return None
    return torch.Generator(device).manual_seed(sampling.seed)
