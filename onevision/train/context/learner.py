"""A process's share of a sequence -> its part of the loss, beside those of its group.

Every process encodes its share of the crops, gets the patches that its positions need, embeds its
positions and runs the blocks on them; attention alone sees the others (attention.py). Each takes
the loss of the targets that its positions predict. The gradients of all processes add up to those
of the whole.
"""

from itertools import pairwise

import torch
import torch.distributed as dist
from torch import Tensor

from onevision.batch import TrainingBatch
from onevision.model.attention import within_window
from onevision.model.llava import LlavaNetwork
from onevision.train.context.attention import SharedAttention, exchange
from onevision.train.context.division import Span, cut_crops, cut_evenly, plan_trade
from onevision.train.feed import MicroBatch
from onevision.train.learner import Learner, LossTerms
from onevision.train.loss import ChunkedCrossEntropy
from onevision.train.parallel import Processes


class ContextLearner(Learner):
    """Learns words from rows that a group of processes divides; `rows.py` deals them out."""

    def __init__(
        self, network: LlavaNetwork, *, processes: Processes, encode_always: bool = False
    ) -> None:
        super().__init__(network, encode_always=encode_always)
        assert processes.group is not None, "several processes divide a sequence"
        self.group, self.place = processes.group, processes.place

    def forward(self, micro_batch: MicroBatch, weights: Tensor) -> LossTerms:
        """Returns this process's part of the weighted sum, and the loss of every target [L]."""
        nothing = self._encode_nothing(micro_batch)  # first: all gather weights in one order
        batch, network = micro_batch.batch, self.network
        cuts = cut_evenly(batch.input_ids.shape[1], self.group.size())
        own = slice(cuts[self.place], cuts[self.place + 1])
        x = network.place(
            batch.input_ids[:, own], batch.visual_mask[:, own], self._encode(batch, cuts)
        )
        hidden = network.run(x, batch.position_ids[:, own], cache=self._attention(batch))
        loss, losses = self._score(hidden, batch, weights.to(x.device), own)
        return LossTerms(loss + nothing, losses)

    def _encode(self, batch: TrainingBatch, cuts: list[int]) -> Tensor:
        """Returns the visual tokens [V, D] at this process's positions."""
        network, layouts = self.network, batch.layouts
        if not layouts:
            norm = network.language_model.norm.weight
            return norm.new_zeros(0, len(norm))
        trade = plan_trade(layouts, _spans(batch.visual_mask, cuts), place=self.place)
        patches = encode_share(network, batch, place=self.place, count=self.group.size())
        patches = patches[list(trade.given)]
        got = exchange(patches, num_given=trade.num_given, num_got=trade.num_got, group=self.group)
        crops = got.split([len(piece.crops) for piece in trade.pieces])
        tokens = [
            network.arrange(own, [piece.layout]).tokens[piece.tokens]
            for own, piece in zip(crops, trade.pieces, strict=True)
        ]
        return torch.cat([got.flatten(0, 1)[:0], *tokens])  # of the right type if there are none

    def _attention(self, batch: TrainingBatch) -> SharedAttention:
        decoder = self.network.language_model
        first = decoder.blocks[0].get_submodule("attention")
        return SharedAttention(
            function=first.attend,  # type: ignore
            mask=within_window(decoder.window, batch.mask, batch.position_ids),
            length=batch.input_ids.shape[1],
            place=self.place,
            group=self.group,
        )

    def _score(
        self, hidden: Tensor, batch: TrainingBatch, weights: Tensor, own: slice
    ) -> tuple[Tensor, Tensor]:
        """Returns the loss of what `hidden` [B, S/N, D] predicts, and that of all targets [L]."""
        length, (_, size, _) = batch.input_ids.shape[1], hidden.shape
        rows, columns = batch.sources // length, batch.sources % length
        mine = (columns >= own.start) & (columns < own.stop)  # [L]
        sources = (rows * size + columns - own.start)[mine]
        head = self.network.language_model.head.weight
        loss, losses = ChunkedCrossEntropy.apply(  # type: ignore
            hidden.flatten(0, 1)[sources], head, batch.targets[mine], weights[mine]
        )
        terms = losses.new_zeros(len(mine))
        terms[mine] = losses
        dist.all_reduce(terms, group=self.group)
        return loss, terms


def encode_share(network: LlavaNetwork, batch: TrainingBatch, *, place: int, count: int) -> Tensor:
    """Encodes and projects the crops of process `place` of `count` -> [n, P, D].

    One that has none encodes an empty picture, so that all have gathered the same weights and
    follow the same gradients.
    """
    layouts, pixels = batch.layouts, batch.pixel_values
    owners = [owner for layout in layouts for owner in layout.owners]
    begin, end = cut_crops(layouts, count)[place:][:2]
    assert len(pixels) == end - begin, "rows.py deals out the crops"
    if begin == end:
        empty = pixels.new_zeros(1, *pixels.shape[1:])
        return network.patches(empty, [])[:0]
    return network.patches(pixels, owners[begin:end])


def _spans(visual_mask: Tensor, cuts: list[int]) -> list[list[Span]]:
    """Returns the visual tokens of each process, one span a row, counted through the batch."""
    before = torch.stack([visual_mask[:, :cut].sum(1) for cut in cuts]).tolist()  # [N + 1, B]
    starts = [0]
    for count in before[-1]:
        starts.append(starts[-1] + count)
    return [
        [(start + a, start + b) for start, a, b in zip(starts, first, end, strict=False)]
        for first, end in pairwise(before)
    ]
