"""A network that learns: one micro-batch in, the gradients of its share of a step out."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from onevision.batch import TrainingBatch
from onevision.model.llava import LlavaNetwork
from onevision.train.loss import weighted_loss
from onevision.train.parallel import Processes, shard_model


class Learner(nn.Module):
    """The network and its loss in one forward pass, as sharding asks for."""

    # Whether the parts of a batch, taken one by one, teach what the batch does.
    divisible = True

    def __init__(self, network: LlavaNetwork, *, encode_always: bool = False) -> None:
        super().__init__()
        self.network = network
        # Sharded weights are gathered by all processes together: one without a picture takes part.
        self.encode_always = encode_always

    def forward(self, batch: TrainingBatch, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted sum of the losses, and the loss of every target [L]."""
        nothing = self._encode_nothing(batch)  # first: processes gather weights in one order
        loss, losses = weighted_loss(self.network, batch, weights)
        return loss + nothing, losses

    def _encode_nothing(self, batch: TrainingBatch) -> Tensor | float:
        """Return a zero that depends on what a sharded batch may leave out.

        Gradients are added up in one piece, so each process must have one of every parameter.
        """
        if not self.encode_always:
            return 0.0
        newline = self.network.image_newline
        nothing = 0.0 if newline is None else 0.0 * newline.sum()
        if batch.layouts:
            return nothing
        crop_size = batch.pixel_values.shape[-1]
        crop = batch.pixel_values.new_zeros(1, 3, crop_size, crop_size)
        return nothing + 0.0 * self.network.projector(self.network.vision_encoder(crop)).sum()


def make_learner(
    network: LlavaNetwork,
    processes: Processes,
    *,
    recompute: bool = False,
    compiled: bool = False,
    replicas: int = 1,
    kind: Callable[..., Learner] = Learner,
) -> Learner:
    """Wrap a network for training on these processes; its parameters keep their names.

    `recompute` keeps a block's input alone and runs the block again backwards (activation
    checkpointing); `compiled` compiles block by block.
    """
    learner = kind(network, encode_always=processes.shards)
    for block in blocks_of(network):
        if recompute:
            _recompute(block)
        if compiled:
            block.compile()
    shard_model(learner, blocks_of(network), processes, replicas=replicas)
    return learner


def blocks_of(network: LlavaNetwork) -> Iterator[nn.Module]:
    """Give the transformer blocks of both towers."""
    yield from network.vision_encoder.blocks
    yield from network.language_model.blocks


def empty_batch(*, crop_size: int, device: torch.device) -> TrainingBatch:
    """Return a batch of one token that nothing is learned from, for a process without work."""
    nothing = torch.zeros(0, dtype=torch.int64)
    batch = TrainingBatch(
        input_ids=torch.zeros(1, 1, dtype=torch.int64),
        visual_mask=torch.zeros(1, 1, dtype=torch.bool),
        position_ids=torch.zeros(1, 1, dtype=torch.int64),
        mask=torch.ones(1, 1, 1, 1, dtype=torch.bool),
        sources=nothing,
        targets=nothing,
        pixel_values=torch.zeros(0, 3, crop_size, crop_size),
        layouts=(),
    )
    return batch.to(device)


def _recompute(block: nn.Module) -> None:
    run = block.forward

    def forward(*args: object, **kwargs: object) -> object:
        return checkpoint(partial(run, **kwargs), *args, use_reentrant=False)

    block.forward = forward
