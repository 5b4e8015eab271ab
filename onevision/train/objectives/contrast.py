"""Pictures and captions -> SigLIP's sigmoid loss, which tells matching pairs from all others.

    loss = -1/N sum_ij log sigmoid(z_ij (t x_i . y_j + b))        z_ij = 1 if i = j, else -1

(arXiv 2303.15343, algorithm 1): x_i and y_j are unit vectors of picture i and caption j; t and b
are learned, starting at log t = log 10 and b = -10. The stage's small decoder reads the captions.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onevision.batch import TrainingBatch
from onevision.model.decoder import Decoder
from onevision.model.llava import LlavaNetwork
from onevision.train.feed import MicroBatch
from onevision.train.learner import Learner, LossTerms
from onevision.train.objectives.objective import Objective, RunContext
from onevision.train.objectives.words import open_feed

FIRST_SCALE, FIRST_BIAS = 10.0, -10.0
WIDTH = 256


def make_contrast(run: RunContext) -> Objective:
    """Returns the sigmoid loss over pictures and their captions."""
    return Objective(feed=open_feed(run), make_learner=partial(ContrastLearner, with_words=False))


def make_contrast_with_words(run: RunContext) -> Objective:
    """Returns the sum of that loss and of next-token cross-entropy over the captions."""
    return Objective(feed=open_feed(run), make_learner=partial(ContrastLearner, with_words=True))


class ContrastLearner(Learner):
    """Learns pictures by their captions: by contrast with others and, `with_words`, word by word.

    The vision encoder holds the head while it learns, so that the head is optimised, saved and
    sharded with it; a checkpoint leaves it out.
    """

    divisible = False  # the captions of a batch are contrasted with one another

    def __init__(
        self, network: LlavaNetwork, *, with_words: bool, encode_always: bool = False
    ) -> None:
        super().__init__(network, encode_always=encode_always)
        self.with_words = with_words
        vision_width = network.vision_encoder.width
        language_width = network.language_model.embedding.embedding_dim
        network.vision_encoder.contrast = ContrastHead(
            vision_width=vision_width, language_width=language_width
        )

    def forward(self, micro_batch: MicroBatch, weights: Tensor) -> LossTerms:
        """Returns the loss of rows with one picture each; every target has the batch's loss.

        A picture's loss counts as much as the words of its row.
        """
        network, batch = self.network, micro_batch.batch
        patches = network.vision_encoder(batch.pixel_values)
        hidden, lengths = read_captions(network.language_model, batch)
        head = network.vision_encoder.get_submodule("contrast")
        contrast = head(patches, hidden, lengths)
        loss = contrast * weights.sum()
        losses = contrast.detach().expand(len(batch.targets))
        if not self.with_words:
            return LossTerms(loss, losses)
        words = super().forward(micro_batch, weights)
        return LossTerms(loss + words.loss, losses + words.losses)


class ContrastHead(nn.Module):
    """Projects pictures and captions into one space. Discarded after the stage."""

    def __init__(self, *, vision_width: int, language_width: int, width: int = WIDTH) -> None:
        super().__init__()
        self.picture = nn.Linear(vision_width, width, bias=False)
        self.caption = nn.Linear(language_width, width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))
        self.bias = nn.Parameter(torch.tensor(FIRST_BIAS))

    def forward(self, patches: Tensor, hidden: Tensor, lengths: Tensor) -> Tensor:
        """Returns the mean loss of N pictures and their captions.

        `patches` [N, P, C] are a picture's features and `hidden` [N, T, D] a caption's states, of
        which the first `lengths` [N] count.
        """
        inside = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
        mean = (hidden * inside[..., None]).sum(1) / lengths[:, None].clamp(min=1)
        x = F.normalize(self.picture(patches.mean(1)).float(), dim=-1)
        y = F.normalize(self.caption(mean).float(), dim=-1)
        return sigmoid_loss(x, y, log_scale=self.log_scale, bias=self.bias)


def sigmoid_loss(x: Tensor, y: Tensor, *, log_scale: Tensor, bias: Tensor) -> Tensor:
    """Returns the loss above for unit vectors `x`, `y` [N, E]."""
    logits = x @ y.T * log_scale.exp() + bias
    signs = 2 * torch.eye(len(x), device=x.device) - 1
    return -F.logsigmoid(signs * logits).sum() / len(x)


def read_captions(decoder: Decoder, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
    """Runs the decoder over the labelled words of every row: states [N, T, D], lengths [N].

    Each row holds one picture, so its labelled words are that picture's caption.
    """
    rows = batch.sources // batch.input_ids.shape[1]
    captions = [batch.targets[rows == row] for row in range(len(batch.input_ids))]
    lengths = torch.tensor([len(c) for c in captions], device=batch.input_ids.device)
    ids = nn.utils.rnn.pad_sequence(captions, batch_first=True)
    positions = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
    return decoder(decoder.embedding(ids), positions), lengths
