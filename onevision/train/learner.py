"""A network that learns: a micro-batch in, its loss and the loss of each of its targets out."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from onevision.model.llava import LlavaNetwork
from onevision.model.native_vision import NativeEncoder
from onevision.train.feed import MicroBatch
from onevision.train.loss import weighted_loss
from onevision.train.offload.activations import offload_block
from onevision.train.parallel import Processes
from onevision.train.sharded.shards import shard_model
from onevision.train.tensor.mesh import TENSOR
from onevision.train.tensor.plan import divide_blocks


class LossTerms(NamedTuple):
    """What a learner returns. A tuple, because FSDP2 looks for gradients in tuples alone."""

    loss: Tensor  # [], the weighted sum to run backward from
    losses: Tensor  # [L], of each target, unweighted, without gradient
    # [L, K], one column per name in `Learner.statistics`, without gradient.
    statistics: Tensor | None = None


class Learner(nn.Module):
    """The network and its loss in one forward pass, as sharding requires; here, that of words."""

    # Whether a micro-batch may be split: its halves, one after the other, teach what it does.
    divisible = True
    # Names of the statistics of each target; the trainer averages them over a step's targets.
    statistics: tuple[str, ...] = ()

    def __init__(self, network: LlavaNetwork, *, encode_always: bool = False) -> None:
        super().__init__()
        self.network = network
        # Sharded weights are gathered by all processes together, so a process whose micro-batch
        # has no picture must run the vision encoder as well, and a frozen decoder backwards.
        self.encode_always = encode_always
        if encode_always:
            network.language_model.register_forward_pre_hook(_begin_backward)

    def forward(self, micro_batch: MicroBatch, weights: Tensor) -> LossTerms:
        """Returns the sum of weight times loss over the targets, and the terms.

        `weights` [L] stands beside `micro_batch.owners`.
        """
        nothing = self._encode_nothing(micro_batch)  # first: all gather weights in one order
        loss, losses = weighted_loss(self.network, micro_batch.batch, weights)
        return LossTerms(loss + nothing, losses)

    @staticmethod
    def step_metrics(means: Mapping[str, float]) -> dict[str, float]:
        """Returns what a line of metrics.jsonl holds of the means of a step's statistics."""
        return dict(means)

    def _encode_nothing(self, micro_batch: MicroBatch) -> Tensor | float:
        """Returns a zero that depends on what a sharded batch may leave out.

        Gradients are added up in one piece, so each process must have one of every parameter.
        """
        if not self.encode_always:
            return 0.0
        learned = self.network.learned_tokens.values()
        nothing: Tensor | float = 0.0
        for vector in learned:
            nothing = nothing + 0.0 * vector.sum()
        batch = micro_batch.batch
        if batch.layouts:
            return nothing
        crop_size = batch.pixel_values.shape[-1]
        crop = batch.pixel_values.new_zeros(1, 3, crop_size, crop_size)
        return nothing + 0.0 * self.network.projector(self.network.vision_encoder(crop)).sum()


def _begin_backward(_decoder: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Makes embeddings need a gradient, as those of a row with pictures do."""
    x, *others = inputs
    if torch.is_grad_enabled() and not x.requires_grad:
        x = x.detach().requires_grad_()
    return (x, *others)


def prepare_learner(
    learner: Learner,
    processes: Processes,
    *,
    recompute: bool = False,
    offload: bool = False,
    compiled: bool = False,
    replicas: int = 1,
) -> Learner:
    """Prepares a learner, in place, for training on these processes; parameters keep their names.

    `recompute` keeps only a block's input and runs the block again during the backward pass
    (activation checkpointing); `offload` moves what it keeps to host memory; `compiled` compiles
    block by block; `replicas` is as in `shard_model`.
    """
    blocks, divided = list(iterate_blocks(learner.network)), list[nn.Module]()
    if processes.mesh is not None:
        divided = list(learner.network.language_model.blocks)
        divide_blocks(divided, processes.mesh[TENSOR])
    for block in blocks:
        if recompute:
            _recompute(block)
        if offload:
            offload_block(block)
        if compiled:
            block.compile()
    units = _gathered_units(learner.network)
    shard_model(learner, units, processes, replicas=replicas, divided=divided)
    return learner


def iterate_blocks(network: LlavaNetwork) -> Iterator[nn.Module]:
    """Yields the blocks of the vision encoder, of the projector, and of the language model."""
    yield from network.vision_encoder.blocks
    if network.projector.mixer is not None:
        yield from network.projector.mixer.blocks
    yield from network.language_model.blocks


def _gathered_units(network: LlavaNetwork) -> Iterator[nn.Module]:
    """Yields what a sharded model gathers at a time: blocks, but a native encoder whole.

    How often that runs its blocks depends on the shapes of pictures, which differ from process to
    process, and all must gather the same.
    """
    encoder = network.vision_encoder
    inside = set(encoder.blocks) if isinstance(encoder, NativeEncoder) else set()
    yield from [encoder] if inside else []
    yield from (block for block in iterate_blocks(network) if block not in inside)


def _recompute(block: nn.Module) -> None:
    run = block.forward

    def forward(*args: object, **kwargs: object) -> object:
        return checkpoint(partial(run, **kwargs), *args, use_reentrant=False)

    block.forward = forward
