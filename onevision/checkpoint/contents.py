"""Checkpoint directory, complete or in parts -> its tensors and the texts beside them.

The family's checkpoints are not always complete: those of LLaVA v1 and 1.5 lack the vision tower,
some hold a projector alone, some LoRA adapters and a projector. The rest comes from directories of
their own: the `base`, a language model, and the `tower`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from onevision.checkpoint.files import (
    INDEX,
    SINGLE,
    StoredTensor,
    find_tensors,
    list_tensors,
    read_json,
    refuse_pickles,
)
from onevision.checkpoint.names import IGNORED_SUFFIXES, LMMS_LAB, PROBE, PROJECTOR_PROBES
from onevision.errors import CheckpointError

Values = Mapping[str, Any]  # Any: foreign JSON
Tensors = dict[str, StoredTensor]

# Where a tower may be stored within the checkpoint that needs it.
TOWER = "vision_tower"
TOWER_PREFIX = "model.vision_tower.vision_tower.vision_model."
# Prefixes of a tower's tensors in a directory of its own.
TOWER_ALONE = ("vision_model.", "vision_tower.vision_model.", "")
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER, TRAINED_BESIDE = "adapter_model.safetensors", "non_lora_trainables.safetensors"
PROJECTOR = "mm_projector.safetensors"
# What PEFT prepends to the names of the model that it adapts.
PEFT_PREFIX = "base_model.model."
# Variants of LoRA that are not supported: the value that each key must have if it is present.
PLAIN_LORA: Values = {"bias": "none", "use_rslora": False, "use_dora": False,
                      "fan_in_fan_out": False}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CheckpointContents:
    """What a checkpoint directory and those it needs contain; weights are not read yet."""

    tensors: dict[str, StoredTensor]
    values: Values  # config.json, with the tower's own under `vision_config`
    preprocessor: Values
    added_tokens: frozenset[str]  # of the tokenizer
    chat_template: str  # of transformers, "" if there is none

    @property
    def tensor_names(self) -> set[str]:
        """Names of all tensors but unused buffers."""
        return {key for key in self.tensors if not key.endswith(IGNORED_SUFFIXES)}


def read_contents(
    directory: Path, *, base: Path | None = None, tower: Path | None = None
) -> CheckpointContents:
    """Reads headers and texts, no weights. Raises CheckpointError."""
    values = dict(read_json(directory / "config.json"))
    tensors = _own_tensors(directory, base)
    places = [directory]
    lacks_tower = LMMS_LAB.translate(PROBE) not in tensors
    if lacks_tower and any(key in tensors for key in PROJECTOR_PROBES):
        place = tower or _find_tower(directory, values)
        tensors |= _tower_tensors(place)
        described = read_json(place / "config.json")
        values.setdefault("vision_config", described.get("vision_config", described))
        places.append(place)
    return CheckpointContents(
        tensors=tensors,
        values=values,
        preprocessor=_read_first(places, "preprocessor_config.json"),
        added_tokens=_added_tokens([directory, *([] if base is None else [base])]),
        chat_template=_chat_template(directory),
    )


def _own_tensors(directory: Path, base: Path | None) -> Tensors:
    """Returns a checkpoint's tensors; for a projector or LoRA alone, with those of its base."""
    adapted = (directory / ADAPTER_CONFIG).is_file()
    whole = (directory / SINGLE).is_file() or (directory / INDEX).is_file()
    projector = directory / PROJECTOR
    if whole or not (adapted or projector.is_file()):
        return find_tensors(directory)
    if base is None:
        kind = "LoRA adapters" if adapted else "a projector"
        raise CheckpointError(
            f"{directory}: holds {kind} alone; name the language model it was trained on: "
            f"`onevision convert {directory} DST --layout onevision --base DIR`"
        )
    tensors = find_tensors(base)
    if not adapted:
        return tensors | _strip_prefixes(list_tensors([projector]))
    for name in (ADAPTER, TRAINED_BESIDE):
        if not (directory / name).is_file():
            refuse_pickles(directory)
            raise CheckpointError(f"{directory / name}: missing; is the LoRA checkpoint whole?")
    tensors |= _strip_prefixes(list_tensors([directory / TRAINED_BESIDE]))
    return tensors | _add_adapters(tensors, directory)


def _strip_prefixes(tensors: Tensors) -> Tensors:
    """Renames tensors as in a whole model: "model.mm_projector.0.weight"."""
    short = {name.removeprefix(PEFT_PREFIX): tensor for name, tensor in tensors.items()}
    return {
        f"model.{name}" if name.startswith("mm_projector") else name: tensor
        for name, tensor in short.items()
    }


def _add_adapters(tensors: Tensors, directory: Path) -> Tensors:
    """Returns the base's adapted tensors, with alpha / rank * B @ A added as they are read."""
    config = read_json(directory / ADAPTER_CONFIG)
    for key, expected in PLAIN_LORA.items():
        if config.get(key, expected) not in (expected, None):
            raise CheckpointError(
                f"{directory / ADAPTER_CONFIG}: {key} is {config[key]!r}; only {expected!r} is "
                "supported: merge it with PEFT"
            )
    scale = float(config["lora_alpha"]) / float(config["r"])
    adapters = list_tensors([directory / ADAPTER])
    adapted: Tensors = {}
    for name, lora_a in adapters.items():
        module, is_a, _ = name.removeprefix(PEFT_PREFIX).partition(".lora_A.")
        if not is_a:
            continue
        target = f"{module}.weight"
        if target not in tensors:
            raise CheckpointError(
                f"{directory / ADAPTER}: {name} adapts {target}, which the base lacks; "
                "give the language model that it was trained on"
            )
        lora_b = adapters[name.replace(".lora_A.", ".lora_B.")]
        delta = partial(_product, lora_b, lora_a, scale=scale)
        adapted[target] = replace(tensors[target], delta=delta)
    return adapted


def _product(lora_b: StoredTensor, lora_a: StoredTensor, *, scale: float) -> Tensor:
    return scale * (lora_b.read().float() @ lora_a.read().float())


def _find_tower(directory: Path, values: Values) -> Path:
    stated = values.get("mm_vision_tower") or values.get("mm_vision_tower_name")
    for place in (directory / TOWER, directory / str(stated), Path(str(stated))):
        if stated and place.is_dir():
            return place
    raise CheckpointError(
        f"{directory / 'config.json'}: mm_vision_tower is {stated!r}, whose weights are neither in "
        f"the checkpoint nor in a directory of that name; fetch it, then put it at "
        f"{directory / TOWER} or `onevision convert {directory} DST --layout onevision "
        "--vision-tower DIR`"
    )


def _tower_tensors(directory: Path) -> Tensors:
    """Returns a tower's tensors under the names that they have inside LLaVA."""
    tensors = find_tensors(directory)
    wanted = ("embeddings.", "encoder.", "pre_layrnorm.", "post_layernorm.")
    for prefix in TOWER_ALONE:
        if f"{prefix}embeddings.patch_embedding.weight" in tensors:
            return {
                TOWER_PREFIX + name.removeprefix(prefix): tensor
                for name, tensor in tensors.items()
                if name.startswith(prefix) and name.removeprefix(prefix).startswith(wanted)
            }
    raise CheckpointError(
        f"{directory}: no vision tower in it (for instance {min(tensors, default='nothing')}); "
        "give a released CLIP or SigLIP checkpoint"
    )


def _read_first(directories: list[Path], name: str) -> Values:
    for directory in directories:
        if (directory / name).is_file():
            return read_json(directory / name)
    return {}


def _added_tokens(directories: list[Path]) -> frozenset[str]:
    tokens = _read_first(directories, "tokenizer.json").get("added_tokens", [])
    return frozenset(token["content"] for token in tokens)


def _chat_template(directory: Path) -> str:
    """Returns the text of transformers' chat template, from whichever file holds it."""
    jinja = directory / "chat_template.jinja"
    if jinja.is_file():
        return jinja.read_text(encoding="utf-8")
    for name in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
        template = _read_first([directory], name).get("chat_template")
        if template:
            return template if isinstance(template, str) else json.dumps(template)
    return ""
