"""LoRA adapters in PEFT's format -> the tensors of their base, changed as they are read.

Every tensor of the file is applied, or named in an error: a method that is not LoRA, or a variant
of it, would otherwise give the base's answers.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import Tensor

from onevision.checkpoint.files import StoredTensor, list_tensors, read_json
from onevision.checkpoint.kinds import Values
from onevision.errors import CheckpointError

Tensors = dict[str, StoredTensor]

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER = "adapter_model.safetensors"
# What PEFT prepends to the names of the model that it adapts.
PEFT_PREFIX = "base_model.model."
# Variants that are not supported: the value that each key must have if it is present.
PLAIN_LORA: Values = {
    "peft_type": "LORA",
    "bias": "none",
    "use_dora": False,
    "use_qalora": False,
    "fan_in_fan_out": False,
    "lora_bias": False,
    "layer_replication": None,
    "trainable_token_indices": None,
    "alora_invocation_tokens": None,
}
# Initialisations that change the base too, so that the adapters do not fit the original.
BASE_CHANGED = ("pissa", "olora", "corda", "loftq")
FIRST, SECOND = re.compile(r"\.lora_A(\.default)?\.weight$"), ".lora_B"


@dataclass(frozen=True, kw_only=True)
class AdapterScales:
    """What adapter_config.json says about the scale of each adapted layer."""

    path: Path
    alpha: float
    rank: int
    # By a regular expression that the end of a layer's name matches; the first decides.
    alphas: Mapping[str, float]
    ranks: Mapping[str, int]
    # Whether the scale is alpha / sqrt(rank) instead of alpha / rank.
    stabilised: bool

    def of(self, module: str, *, rank: int) -> float:
        """Returns the scale of a layer whose tensors have this rank. Raises CheckpointError."""
        stated = self._first(self.ranks, module, self.rank)
        if stated != rank:
            raise CheckpointError(
                f"{self.path}: the rank of {module} is {stated}, its tensors have {rank}; "
                "use the adapter_config.json that was saved with them"
            )
        return self._first(self.alphas, module, self.alpha) / (
            math.sqrt(rank) if self.stabilised else rank
        )

    def _first(self, patterns: Mapping[str, float], module: str, default: float) -> float:
        for pattern, value in patterns.items():
            try:
                if re.match(rf"(.*\.)?({pattern})$", module):
                    return value
            except re.error as error:
                raise CheckpointError(
                    f"{self.path}: {pattern!r} is no pattern of layer names ({error})"
                ) from error
        return default


def add_adapters(tensors: Tensors, directory: Path) -> Tensors:
    """Returns the tensors of a base that adapters change or replace. Raises CheckpointError."""
    scales = read_scales(directory / ADAPTER_CONFIG)
    adapters = list_tensors([directory / ADAPTER])
    pairs = {FIRST.sub(SECOND, name): name for name in adapters if FIRST.search(name)}
    seconds = {re.sub(r"(\.default)?\.weight$", "", name): name for name in adapters}
    changed: Tensors = {}
    used = set[str]()
    for second, first in pairs.items():
        module = second.removeprefix(PEFT_PREFIX).removesuffix(SECOND)
        if second not in seconds:
            raise CheckpointError(
                f"{directory / ADAPTER}: {first} has no {second}.weight beside it; fetch it again"
            )
        used |= {first, seconds[second]}
        target = f"{module}.weight"
        if target not in tensors:
            raise CheckpointError(
                f"{directory / ADAPTER}: {first} adapts {target}, which the base lacks; "
                "give the language model that it was trained on"
            )
        lora_a, lora_b = adapters[first], adapters[seconds[second]]
        _check_shapes(tensors[target], lora_a, lora_b, path=directory / ADAPTER)
        scale = scales.of(module, rank=lora_a.shape[0])
        delta = partial(_product, lora_b, lora_a, scale=scale)
        changed[target] = replace(tensors[target], delta=delta)
    return changed | _replacements(tensors, adapters, used, changed, path=directory / ADAPTER)


def read_scales(path: Path) -> AdapterScales:
    """Reads adapter_config.json. Raises CheckpointError for anything but LoRA."""
    config = read_json(path)
    for key, expected in PLAIN_LORA.items():
        if config.get(key, expected) not in (expected, None):
            raise CheckpointError(
                f"{path}: {key} is {config[key]!r}; only {expected!r} is supported: "
                "merge it with PEFT"
            )
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(BASE_CHANGED):
        raise CheckpointError(
            f"{path}: init_lora_weights is {start!r}, which changes the base too; "
            "merge it with PEFT, or let PEFT save it as plain LoRA"
        )
    rank = _number(config.get("r"), f"{path}: r")
    return AdapterScales(
        path=path,
        alpha=_number(config.get("lora_alpha"), f"{path}: lora_alpha"),
        rank=int(rank),
        alphas=_patterns(config, "alpha_pattern", path),
        ranks={name: int(value) for name, value in _patterns(config, "rank_pattern", path).items()},
        stabilised=config.get("use_rslora") is True,
    )


def _patterns(config: Values, key: str, path: Path) -> dict[str, float]:
    patterns = config.get(key) or {}
    if not isinstance(patterns, dict):
        raise CheckpointError(f"{path}: {key} is {patterns!r}; expected numbers by layer name")
    return {name: _number(value, f"{path}: {key}, {name}") for name, value in patterns.items()}


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        found = "missing" if value is None else repr(value)
        raise CheckpointError(
            f"{where} is {found}; expected a positive number, as PEFT writes it: "
            "the scale of the adapters depends on it"
        )
    return value


def _check_shapes(
    target: StoredTensor, lora_a: StoredTensor, lora_b: StoredTensor, *, path: Path
) -> None:
    a, b = lora_a.shape, lora_b.shape
    if len(a) != 2 or len(b) != 2 or a[0] != b[1] or (b[0], a[1]) != target.shape:
        raise CheckpointError(
            f"{path}: {lora_a.name} {list(a)} and {lora_b.name} {list(b)} do not fit "
            f"{target.name} {list(target.shape)}; give the language model they were trained on"
        )


def _replacements(
    tensors: Tensors, adapters: Tensors, used: set[str], changed: Tensors, *, path: Path
) -> Tensors:
    """Returns what trained whole beside the adapters (`modules_to_save`), by the base's names."""
    whole = {n.removeprefix(PEFT_PREFIX): t for n, t in adapters.items() if n not in used}
    unused = sorted(name for name in whole if name not in tensors or name in changed)
    if unused:
        raise CheckpointError(
            f"{path}: {len(unused)} tensors are neither LoRA pairs nor tensors of the base "
            f"(for instance {unused[0]}), and would not be applied; merge it with PEFT"
        )
    return whole


def _product(lora_b: StoredTensor, lora_a: StoredTensor, *, scale: float) -> Tensor:
    return scale * (lora_b.read().float() @ lora_a.read().float())
