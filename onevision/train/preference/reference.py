"""Pairs -> their log-probabilities under the reference that DPO compares with.

The reference is the network without its adapters, so it needs no second copy. Either it is asked in
every step (`adapter_off_reference`: one more forward pass, nothing to prepare), or once for all
pairs before training (`precompute_reference`), which also serves training without adapters. To
take a trained adapter as the reference, merge it first.

    {"format_version": 1, "model": "<fingerprint of the weights>"}      the file of the latter
    {"key": "<content of a pair>", "chosen": -12.25, "rejected": -9.5}  one line a pair
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from onevision.errors import CheckpointError, ConfigError, DataError
from onevision.files import write_lines
from onevision.model.llava import LlavaNetwork
from onevision.train.lora.files import trained_modules
from onevision.train.lora.layers import LoraLinear, adapted_layers, without_adapters
from onevision.train.preference.data import PreferenceBatch
from onevision.train.preference.loss import sequence_log_probabilities

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Log-probabilities of both answers of every pair, by the pair's content."""

    model: str  # fingerprint of the network they are of
    values: Mapping[str, tuple[float, float]]

    def of(self, batch: PreferenceBatch) -> Tensor:
        """Return those of a batch [P, 2]. Raises DataError for a pair that was not there."""
        missing = [key for key in batch.keys if key not in self.values]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(batch.keys)} pairs have no reference log-probabilities "
                f"(first: {missing[0]}): their text, media or preparation changed since; "
                "precompute the reference again"
            )
        return torch.tensor([self.values[key] for key in batch.keys])


def precompute_reference(network: LlavaNetwork, batches: Iterable[PreferenceBatch]) -> Reference:
    """Ask the network, without adapters, for the log-probabilities of all pairs.

    Do so under the autocast and on the device of the training, which else starts off the mark.
    """
    values: dict[str, tuple[float, float]] = {}
    for batch in batches:
        for key, (chosen, rejected) in zip(batch.keys, _ask(network, batch).tolist(), strict=True):
            values[key] = (chosen, rejected)
    return Reference(model=fingerprint(network), values=values)


def adapter_off_reference(network: LlavaNetwork, batch: PreferenceBatch) -> Tensor:
    """Return the reference's log-probabilities [P, 2] of a batch: the network's, adapters off.

    Raises ConfigError where that is no fixed reference: there are no adapters, or more than they
    trains.
    """
    if not adapted_layers(network):
        raise ConfigError("the network has no adapters to turn off; precompute the reference")
    if modules := trained_modules(network):
        raise ConfigError(
            f"{modules[0] or 'image_newline'} trains beside the adapters, so the network without "
            "them does not stay what it was; freeze it, or precompute the reference"
        )
    return _ask(network, batch)


def write_reference(reference: Reference, path: Path) -> None:
    """Write the log-probabilities as JSON lines; read back, they are equal to the last bit."""
    lines: list[dict[str, object]] = [
        {"format_version": FORMAT_VERSION, "model": reference.model},
        *({"key": k, "chosen": c, "rejected": r} for k, (c, r) in reference.values.items()),
    ]
    write_lines(path, lines)


def read_reference(path: Path, *, model: str | None) -> Reference:
    """Read the log-probabilities of the network whose `fingerprint` is `model` (None: of any).

    Raises CheckpointError for a file that is damaged or of another network.
    """
    try:
        head, *lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
        values = {line["key"]: (line["chosen"], line["rejected"]) for line in lines}
        version, found = head["format_version"], head["model"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: not a readable reference ({error}); precompute it again"
        ) from error
    if version != FORMAT_VERSION or found != (model or found):
        raise CheckpointError(
            f"{path}: it is of model {found} in format {version}, expected {model} in "
            f"{FORMAT_VERSION}; precompute it again from the network that training starts from"
        )
    return Reference(model=found, values=values)


def fingerprint(network: LlavaNetwork) -> str:
    """Return what changes when a weight does; adapters are left out."""
    digest = hashlib.blake2b(digest_size=16)
    for module in network.modules():
        if isinstance(module, LoraLinear):
            continue  # its own are the adapter; its base comes next
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@torch.no_grad()
def _ask(network: LlavaNetwork, batch: PreferenceBatch) -> Tensor:
    with without_adapters(network):
        return sequence_log_probabilities(network, batch)
