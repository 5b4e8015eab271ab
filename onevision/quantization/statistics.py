"""Calibration samples run through a network -> what the inputs of each group of layers are like.

The head is run where the next token is text, and its logits there are kept to compare with.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from onevision.batch import ModelInputs
from onevision.model.llava import LlavaNetwork
from onevision.quantization.groups import Group

# Rows of inputs that errors are measured on, for each group.
NUM_ROWS = 256
# Positions of text whose logits are compared, and the numbers that these may be together.
MAX_PLACES, MAX_LOGITS = 1000, 1 << 26
CROPS_AT_ONCE = 4


@dataclass(kw_only=True)
class GroupInputs:
    """The inputs of a group of layers, over all samples."""

    largest: Tensor  # fp32 [K]: of each channel's absolute values
    kept: list[Tensor] = field(default_factory=list)  # [r, K], rows picked at random

    @property
    def rows(self) -> Tensor:
        """At most NUM_ROWS of the rows that were kept, evenly spaced [R, K]."""
        rows = torch.cat(self.kept)
        return rows[:: -(-len(rows) // NUM_ROWS)]


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What was seen of a network that ran every sample."""

    # By the name of each group's first layer.
    inputs: dict[str, GroupInputs]
    # Log-probabilities [P, vocab] of the next tokens of each sample.
    next_tokens: tuple[Tensor, ...]


@torch.inference_mode()
def observe(
    network: LlavaNetwork,
    groups: Sequence[Group],
    samples: Sequence[ModelInputs],
    *,
    seed: int = 0,
    on_progress: Callable[[int], object] = id,
) -> Observed:
    """Runs every sample; returns the inputs of each group, and what the network predicts."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, GroupInputs] = {}
    each = -(-NUM_ROWS // len(samples))
    predicted: list[Tensor] = []
    with _watching(network, groups, found, num_rows=each, generator=generator):
        for tokens in next_tokens(network, samples):
            predicted.append(tokens)
            on_progress(len(predicted))
    return Observed(inputs=found, next_tokens=tuple(predicted))


@torch.inference_mode()
def next_tokens(network: LlavaNetwork, samples: Sequence[ModelInputs]) -> Iterator[Tensor]:
    """Yields log-probabilities of the next token at the places of each sample, fp32 [P, vocab]."""
    for sample in samples:
        logits = run_sample(network, sample, num_places=places_each(network, len(samples)))
        yield logits.float().log_softmax(-1)


def places_each(network: LlavaNetwork, num_samples: int) -> int:
    """Returns at how many positions of each sample logits are computed."""
    vocab_size = network.language_model.head.out_features
    return max(1, min(MAX_PLACES, MAX_LOGITS // vocab_size) // num_samples)


def run_sample(network: LlavaNetwork, sample: ModelInputs, *, num_places: int) -> Tensor:
    """Runs one sample; returns logits [P, vocab] at the last positions before text."""
    visual = network.encode(sample.pixel_values, sample.layouts, crops_at_once=CROPS_AT_ONCE)
    hidden = network.run(network.place(sample.input_ids, sample.visual_mask, visual))[0]
    before_text = (~sample.visual_mask[0, 1:]).nonzero()[:, 0]
    return network.head(hidden[before_text[-num_places:]])


@contextmanager
def _watching(
    network: LlavaNetwork,
    groups: Sequence[Group],
    found: dict[str, GroupInputs],
    *,
    num_rows: int,
    generator: torch.Generator,
) -> Iterator[None]:
    """Keeps the inputs of every group that runs, until it is left."""

    def watch(name: str) -> Callable[[object, tuple[Tensor, ...]], None]:
        def keep(_layer: object, inputs: tuple[Tensor, ...]) -> None:
            _keep(found, name, inputs[0].flatten(0, -2), num_rows=num_rows, generator=generator)

        return keep

    names = [group.layers[0] for group in groups]
    handles = [network.get_submodule(n).register_forward_pre_hook(watch(n)) for n in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _keep(
    found: dict[str, GroupInputs],
    name: str,
    rows: Tensor,
    *,
    num_rows: int,
    generator: torch.Generator,
) -> None:
    largest = rows.abs().amax(0).float()
    if name not in found:
        found[name] = GroupInputs(largest=largest)
    inputs = found[name]
    inputs.largest = torch.maximum(inputs.largest, largest)
    inputs.kept.append(rows[torch.randperm(len(rows), generator=generator)[:num_rows]].clone())


def divergence(before: Sequence[Tensor], after: Iterator[Tensor]) -> tuple[float, float]:
    """Returns the mean KL divergence in nats, and the share of equal likeliest tokens, 0 to 1.

    Both sides are log-probabilities [P, vocab] of the next tokens of the same samples.
    """
    total, equal, count = 0.0, 0, 0
    for old, new in zip(before, after, strict=True):
        total += float((old.exp() * (old - new)).sum())
        equal += int((old.argmax(-1) == new.argmax(-1)).sum())
        count += len(old)
    return total / count, equal / count
