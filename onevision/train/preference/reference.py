"""Pairs -> their log-probabilities under the reference that DPO compares with.

The reference is the network as the run begins with it: it scores every pair once, before training,
and its numbers are kept in a file. To take a trained adapter as the reference, merge it first.

    {"format_version": 1, "model": "<fingerprint of the weights>"}      the first line
    {"key": "<content of a pair>", "chosen": -12.25, "rejected": -9.5}  one line per pair
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from onevision.errors import CheckpointError, DataError
from onevision.files import write_lines
from onevision.model.llava import LlavaNetwork
from onevision.train.objectives.objective import RunContext
from onevision.train.parallel import Processes
from onevision.train.preference.feed import PairBatch, PreferenceFeed
from onevision.train.preference.loss import compute_log_probabilities
from onevision.train.snapshots import read_state

REFERENCE = "reference.jsonl"
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Log-probabilities of both answers of every pair, by the pair's content."""

    model: str  # fingerprint of the network that computed them
    values: Mapping[str, tuple[float, float]]

    def look_up(self, keys: Sequence[str]) -> Tensor:
        """Returns those of some pairs [P, 2]. Raises DataError for an unknown pair."""
        missing = [key for key in keys if key not in self.values]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(keys)} pairs have no reference log-probabilities "
                f"(first: {missing[0]}): their text, media or preparation changed since; "
                "precompute the reference again"
            )
        return torch.tensor([self.values[key] for key in keys])


def obtain_reference(run: RunContext, feed: PreferenceFeed) -> Reference:
    """Returns the reference of a run, from its directory or from the network.

    Every process calls it. Raises CheckpointError if the file in the directory is of another model.
    """
    path, precision = run.output / REFERENCE, run.config.options.precision
    if run.snapshot is not None:  # the network it is of is gone; the snapshot has its fingerprint
        content = read_state(run.snapshot).get("content", {})
        return read_reference(path, model=content.get("reference"))
    model = f"{fingerprint(run.network)}/{precision}"
    if path.is_file():
        return read_reference(path, model=model)
    device = run.processes.device
    # Under the autocast of training, or the first step would not stand at the reference.
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        batches = (one.to(device) for one in feed.first_epoch())
        own = replace(compute_reference(run.network, batches), model=model)
    return _merge_shares(own, path, run.processes)


def compute_reference(network: LlavaNetwork, batches: Iterable[PairBatch]) -> Reference:
    """Computes the log-probabilities of all pairs by the network as it stands."""
    values: dict[str, tuple[float, float]] = {}
    with torch.no_grad():
        for pairs in batches:
            found = compute_log_probabilities(network, pairs).tolist()
            for key, (chosen, rejected) in zip(pairs.keys, found, strict=True):
                values[key] = (chosen, rejected)
    return Reference(model=fingerprint(network), values=values)


def write_reference(reference: Reference, path: Path) -> None:
    """Writes the log-probabilities as JSON lines, which read back equal to the last bit."""
    lines: list[dict[str, object]] = [
        {"format_version": FORMAT_VERSION, "model": reference.model},
        *({"key": k, "chosen": c, "rejected": r} for k, (c, r) in reference.values.items()),
    ]
    write_lines(path, lines)


def read_reference(path: Path, *, model: str | None) -> Reference:
    """Reads the log-probabilities of the network with fingerprint `model` (None: of any).

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
    """Returns a digest of the weights."""
    digest = hashlib.blake2b(digest_size=16)
    for module in network.modules():
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _merge_shares(own: Reference, path: Path, processes: Processes) -> Reference:
    """Merges what each process has computed into one file, which all of them read."""
    shares = [path.with_name(f".{REFERENCE}.{rank}") for rank in range(processes.count)]
    write_reference(own, shares[processes.rank])
    processes.all_succeeded()
    if processes.rank == 0:
        values = dict(own.values)
        for share in shares:
            values |= read_reference(share, model=own.model).values
        write_reference(Reference(model=own.model, values=values), path)
    if not processes.all_succeeded():
        raise CheckpointError(f"{path}: another process could not write it")
    shares[processes.rank].unlink()
    return read_reference(path, model=own.model)
