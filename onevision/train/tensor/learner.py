"""Rows that a group of processes has in common -> their loss, in each of them.

Every process encodes its share of the crops and gives the patches to the others. All else it
computes as if alone, but for the layers of the language model, which all compute together
(plan.py). So every process has the whole gradient of what is not divided. Those of the vision
encoder and of the projector are whole once they are averaged over the group: each process's crops
get their gradient from all others.
"""

from itertools import pairwise

from torch import Tensor

from onevision.batch import TrainingBatch
from onevision.model.llava import LlavaNetwork
from onevision.train.context.attention import exchange
from onevision.train.context.division import cut_crops
from onevision.train.context.learner import encode_share
from onevision.train.feed import MicroBatch
from onevision.train.learner import Learner, LossTerms
from onevision.train.loss import weighted_loss
from onevision.train.parallel import Processes


class TensorLearner(Learner):
    """Learns words with processes that divide each layer; `context/rows.py` deals out the rows."""

    def __init__(
        self, network: LlavaNetwork, *, processes: Processes, encode_always: bool = False
    ) -> None:
        super().__init__(network, encode_always=encode_always)
        assert processes.group is not None, "several processes divide each layer"
        self.group, self.place = processes.group, processes.place

    def forward(self, micro_batch: MicroBatch, weights: Tensor) -> LossTerms:
        """Returns the weighted sum of the losses, and the loss of every target [L]."""
        nothing = self._encode_nothing(micro_batch)  # first: all gather weights in one order
        batch = micro_batch.batch
        tokens = self._encode(batch) if batch.layouts else None
        loss, losses = weighted_loss(self.network, batch, weights, visual_tokens=tokens)
        return LossTerms(loss + nothing, losses)

    def _encode(self, batch: TrainingBatch) -> Tensor:
        """Returns all visual tokens [V, D], from crops that the group has encoded."""
        count = self.group.size()
        own = encode_share(self.network, batch, place=self.place, count=count)  # [n, P, D]
        cuts = cut_crops(batch.layouts, count)
        patches = exchange(
            own.repeat(count, 1, 1),
            num_given=[len(own)] * count,
            num_got=[end - begin for begin, end in pairwise(cuts)],
            group=self.group,
        )
        return self.network.arrange(patches, batch.layouts).tokens
