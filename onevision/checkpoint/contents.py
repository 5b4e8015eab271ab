"""Checkpoint directory, complete or in parts -> its tensors and the texts beside them.

The family's checkpoints are not always complete: those of LLaVA v1 and 1.5 lack the vision tower,
some hold a projector alone, some LoRA adapters and a projector. The rest comes from directories of
their own: the `base`, a language model, and the `tower`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onevision.checkpoint.adapter_config import ADAPTER_CONFIG, read_adapter_config
from onevision.checkpoint.adapters import TRAINED_BESIDE, add_adapters, whole_name
from onevision.checkpoint.files import (
    INDEX,
    SINGLE,
    StoredTensor,
    find_tensors,
    list_tensors,
    read_json,
    refuse_pickles,
)
from onevision.checkpoint.kinds import Values
from onevision.checkpoint.names import IGNORED_SUFFIXES, LMMS_LAB, PROBE, PROJECTOR_PROBES
from onevision.checkpoint.parts.packaged import is_packaged, packaged_tensors
from onevision.checkpoint.quantised import QuantisedContents, read_quantised, refuse_quantised
from onevision.checkpoint.quantised_schemes import Scheme
from onevision.checkpoint.tower import find_tower, read_tower
from onevision.errors import CheckpointError

Tensors = dict[str, StoredTensor]

PROJECTOR = "mm_projector.safetensors"
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
# Where AutoGPTQ says how weights are quantised, if config.json does not.
GPTQ_CONFIG = "quantize_config.json"
# What is read of the way in which transformers prepares images.
IMAGE_KEYS = (
    *("image_mean", "image_std", "do_pad", "image_grid_pinpoints"),
    *("min_pixels", "max_pixels", "patch_size", "merge_size", "temporal_patch_size"),
)


@dataclass(frozen=True, kw_only=True)
class CheckpointContents:
    """What a checkpoint directory and those it needs contain; weights are not read yet."""

    tensors: dict[str, StoredTensor]
    values: Values  # config.json, with the tower's own under `vision_config`
    preprocessor: Values
    added_tokens: frozenset[str]  # of the tokenizer
    chat_template: str  # of transformers, "" if there is none
    scheme: Scheme | None  # of its quantised weights

    @property
    def tensor_names(self) -> set[str]:
        """Names of all tensors but unused buffers."""
        return {key for key in self.tensors if not key.endswith(IGNORED_SUFFIXES)}


def read_contents(
    directory: Path, *, base: Path | None = None, tower: Path | None = None
) -> CheckpointContents:
    """Reads headers and texts, no weights. Raises CheckpointError."""
    refuse_adapters_alone(directory)
    values = dict(read_json(directory / "config.json"))
    tensors = _own_tensors(directory, base)
    places = [directory]
    lacks_tower = LMMS_LAB.translate(PROBE) not in tensors
    if lacks_tower and any(key in tensors for key in PROJECTOR_PROBES):
        place = tower or find_tower(directory, values)
        found, described = read_tower(place)
        tensors |= found
        values["vision_config"] = values.get("vision_config") or described
        places.append(place)
    elif tower is not None:
        raise CheckpointError(
            f"{directory}: holds a vision tower of its own, {tower} would be ignored; "
            "leave --vision-tower out"
        )
    quantised = _join_quantised(directory, values, tensors, base=base)
    return CheckpointContents(
        tensors=quantised.tensors,
        values=values,
        preprocessor=_preprocessor(places),
        added_tokens=_added_tokens([directory, *([] if base is None else [base])]),
        chat_template=_chat_template(directory),
        scheme=quantised.scheme,
    )


def _join_quantised(
    directory: Path, values: Values, tensors: Tensors, *, base: Path | None
) -> QuantisedContents:
    """Joins the parts of quantised weights; those below adapters or a projector are refused."""
    if base is not None:
        stated = read_json(base / "config.json") if (base / "config.json").exists() else {}
        refuse_quantised({**stated, **values}, tensors, where=str(base))
        return QuantisedContents(tensors=tensors, scheme=None)
    beside = _read_first([directory], GPTQ_CONFIG)
    return read_quantised(values, tensors, beside=beside, where=str(directory))


def _own_tensors(directory: Path, base: Path | None) -> Tensors:
    """Returns a checkpoint's tensors; for a projector or LoRA alone, with those of its base."""
    adapted = (directory / ADAPTER_CONFIG).is_file()
    whole = (directory / SINGLE).is_file() or (directory / INDEX).is_file()
    projector = directory / PROJECTOR
    if whole and adapted:
        raise CheckpointError(
            f"{directory}: holds whole weights and LoRA adapters ({ADAPTER_CONFIG}), of which one "
            "would be ignored; move those that you do not want elsewhere"
        )
    if whole or not (adapted or projector.is_file()):
        if whole and base is not None:
            raise CheckpointError(
                f"{directory}: holds whole weights, {base} would be ignored; leave --base out"
            )
        return _with_package(directory, find_tensors(directory))
    if base is None:
        kind = "LoRA adapters" if adapted else "a projector"
        raise CheckpointError(
            f"{directory}: holds {kind} alone; name the language model it was trained on: "
            f"`onevision convert {directory} DST --layout onevision --base DIR`"
        )
    tensors = find_tensors(base)
    if not adapted:
        return tensors | _whole_names(list_tensors([projector]))
    if not (directory / TRAINED_BESIDE).is_file():
        refuse_pickles(directory)
        raise CheckpointError(
            f"{directory / TRAINED_BESIDE}: missing; is the LoRA checkpoint whole?"
        )
    new = _whole_names(list_tensors([directory / TRAINED_BESIDE]))
    return add_adapters(new | tensors, directory)


def _with_package(directory: Path, tensors: Tensors) -> Tensors:
    """Adds the language model that lies in a package, in the type of the checkpoint's weights."""
    if not is_packaged(directory):
        return tensors
    return tensors | packaged_tensors(directory, dtype=next(iter(tensors.values())).dtype)


def _whole_names(tensors: Tensors) -> Tensors:
    return {whole_name(name): tensor for name, tensor in tensors.items()}


def refuse_adapters_alone(directory: Path) -> None:
    """Raises CheckpointError if a directory holds an adapter and nothing of its base."""
    path = directory / ADAPTER_CONFIG
    if path.is_file() and not (directory / "config.json").exists():
        base = read_adapter_config(path).base_model or "MODEL"
        raise CheckpointError(
            f"{directory}: holds LoRA adapters alone; give the model they were trained on too: "
            f"--model {base} --adapter {directory}, or merge them: "
            f"`onevision convert --base {base} {directory} NEW_DIRECTORY`"
        )


def _read_first(directories: Sequence[Path], name: str) -> Values:
    for directory in directories:
        if (directory / name).exists():
            return read_json(directory / name)
    return {}


def _preprocessor(directories: Sequence[Path]) -> Values:
    """Returns how images are prepared, from the first directory that says so.

    transformers 5 writes it into processor_config.json, under "image_processor". Raises
    CheckpointError if two files of one directory contradict each other.
    """
    for directory in directories:
        nested = _read_first([directory], PROCESSOR).get("image_processor") or {}
        alone = _read_first([directory], PREPROCESSOR)
        if not isinstance(nested, dict):
            raise CheckpointError(
                f"{directory / PROCESSOR}: image_processor is {nested!r}; expected an object"
            )
        for key in IMAGE_KEYS:
            if key in nested and key in alone and nested[key] != alone[key]:
                raise CheckpointError(
                    f"{directory}: {key} is {nested[key]!s:.60} in {PROCESSOR} and "
                    f"{alone[key]!s:.60} in {PREPROCESSOR}; remove the file that is out of date"
                )
        if nested or alone:
            return {**alone, **nested}
    return {}


def _added_tokens(directories: Sequence[Path]) -> frozenset[str]:
    tokens = _read_first(directories, "tokenizer.json").get("added_tokens") or []
    return frozenset(t["content"] for t in tokens if isinstance(t, dict) and "content" in t)


def _chat_template(directory: Path) -> str:
    """Returns the text of transformers' chat template, from whichever file holds it."""
    jinja = directory / "chat_template.jinja"
    if jinja.is_file():
        try:
            return jinja.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{jinja}: not readable as UTF-8 text ({error})") from error
    for name in ("chat_template.json", PROCESSOR, "tokenizer_config.json"):
        template = _read_first([directory], name).get("chat_template")
        if template:
            return template if isinstance(template, str) else json.dumps(template)
    return ""
