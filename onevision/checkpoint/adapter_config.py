"""adapter_config.json of PEFT -> the scale of each adapted layer, or an error that names the kind.

PEFT has some forty kinds of adapters, and LoRA a dozen variants. A key that could change what an
adapter computes, and that is not supported, is refused by its name.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from onevision.checkpoint.files import read_json
from onevision.checkpoint.kinds import Values
from onevision.errors import CheckpointError

ADAPTER_CONFIG = "adapter_config.json"
# Keys that decide nothing once an adapter is trained: where its layers are follows from the names
# of its tensors.
NEUTRAL = frozenset(
    {
        *("task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
        *("inference_mode", "target_modules", "exclude_modules", "modules_to_save"),
        *("layers_to_transform", "layers_pattern", "lora_dropout", "megatron_core"),
        *("loftq_config", "eva_config", "corda_config", "lora_ga_config", "velora_config"),
        *("runtime_config", "qalora_group_size", "ensure_weight_tying"),
    }
)
# Keys that are read, apart from the numbers.
READ = frozenset({"peft_type", "use_rslora", "use_dora", "lora_bias", "init_lora_weights"})
NUMBERS = frozenset({"r", "lora_alpha", "rank_pattern", "alpha_pattern"})
# Keys with values that change nothing beside those that are absent.
HARMLESS: Values = {"bias": "none"}
# Initialisations that change the base too, so that the adapters do not fit the original.
BASE_CHANGED = ("pissa", "olora", "corda", "loftq", "lora_ga")
# Kinds that add tokens or layers instead of changing weights.
NOT_MERGEABLE = (
    *("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "ADAPTION_PROMPT"),
    *("CPT", "CARTRIDGE", "XLORA"),
)


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """What adapter_config.json says about each adapted layer."""

    path: Path
    alpha: float
    rank: int
    # By a regular expression that the end of a layer's name matches; the first decides.
    alphas: Mapping[str, float]
    ranks: Mapping[str, int]
    # Whether the scale is alpha / sqrt(rank) instead of alpha / rank (rsLoRA, arXiv 2312.03732).
    stabilised: bool
    # Whether columns are scaled to learned lengths (DoRA, arXiv 2402.09353).
    has_magnitudes: bool
    # What it was trained on, "" if the file does not say.
    base_model: str

    def scale_of(self, module: str, *, rank: int) -> float:
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


def read_adapter_config(path: Path) -> AdapterConfig:
    """Reads adapter_config.json. Raises CheckpointError for anything but LoRA and its scales."""
    config = read_json(path)
    _check_kind(config, path)
    for key, value in config.items():
        if key in NEUTRAL | READ | NUMBERS or not value or value == HARMLESS.get(key):
            continue
        raise CheckpointError(
            f"{path}: {key} is {value!s:.60}, a variant of LoRA that is not supported; "
            "merge it with PEFT (merge_and_unload) and give the merged model"
        )
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(BASE_CHANGED):
        raise CheckpointError(
            f"{path}: init_lora_weights is {start!r}, which changes the base too; "
            "merge it with PEFT, or let PEFT save it as plain LoRA"
        )
    base = config.get("base_model_name_or_path")
    return AdapterConfig(
        path=path,
        alpha=_number(config.get("lora_alpha"), f"{path}: lora_alpha"),
        rank=int(_number(config.get("r"), f"{path}: r")),
        alphas=_patterns(config, "alpha_pattern", path),
        ranks={name: int(value) for name, value in _patterns(config, "rank_pattern", path).items()},
        stabilised=config.get("use_rslora") is True,
        has_magnitudes=config.get("use_dora") is True,
        base_model=base if isinstance(base, str) else "",
    )


def _check_kind(config: Values, path: Path) -> None:
    kind = config.get("peft_type")
    if kind in ("LORA", None):
        return
    advice = "merge it with PEFT (merge_and_unload) and give the merged model"
    if kind in NOT_MERGEABLE:
        advice = "it changes no weights, so it cannot be merged: train a LoRA instead"
    raise CheckpointError(f"{path}: peft_type is {kind!r}; only 'LORA' is supported: {advice}")


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
