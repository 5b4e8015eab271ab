"""What tests of several devices share."""

import torch

from onevision.config import LanguageConfig
from onevision.generate.kv_cache import KVCacheBatch

# Sums of fp32 numbers in another order.
CLOSE = 1e-5
# 4 key/value heads for 4 devices; biases and no ties, as 7B has.
LANGUAGE = LanguageConfig(
    vocab_size=4200, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=8,
    num_kv_heads=4, max_positions=2048, tie_embeddings=False,
)  # fmt: skip


@torch.inference_mode()
def logits(model, talk):
    """The logits of every position, as the engine computes them."""
    prompt, network = model.prompt(talk), model.network
    x = network.place(
        prompt.input_ids, prompt.visual_mask, network.encode(prompt.pixel_values, prompt.layouts)
    )
    cache = model.engine._make_kv_cache(x.shape[1])
    return network.head(network.run(x, cache=KVCacheBatch([cache], [x.shape[1]]))[0])
