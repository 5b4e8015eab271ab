"""A loaded model and adapters -> a model for each, which shares what its adapter leaves alone."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from onevision.accelerate.shared import share_layers
from onevision.generate.answer import Model, load

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A base model with an adapter."""

    model: Model
    # Memory that it takes beside the base's.
    own_bytes: int


def load_variants(
    base: Model,
    name: str | Path,
    adapters: Mapping[str, str | Path],
    *,
    device: str = "cpu",
    dtype: str = "auto",
    quantize: str | None = None,
    in_memory: bool = False,
    verify: bool = True,
) -> dict[str, Variant]:
    """Loads the model `name` with each adapter, as `load` does, beside `base`.

    `base` is what `load` made of `name` with the same options. Layers that an adapter leaves alone
    are held once; while one is loaded, memory for a whole second model is needed. Raises what
    `load` raises.
    """
    variants: dict[str, Variant] = {}
    for key, adapter in adapters.items():
        model = load(
            name, device=device, dtype=dtype, quantize=quantize, adapter=adapter,
            in_memory=in_memory, verify=verify, settings=base.settings,
        )  # fmt: skip
        own_bytes = share_layers(model.network, base.network)
        logger.info(
            "adapter %s: %s, %.1f MiB beside those of the base", key, adapter, own_bytes / 2**20
        )
        variants[key] = Variant(model=replace(model, draft=base.draft), own_bytes=own_bytes)
    return variants
