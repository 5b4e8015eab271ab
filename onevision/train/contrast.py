"""Pictures and their captions, told apart from all others: SigLIP's loss for the vision stage.

    loss = -1/N sum_ij log sigmoid(z_ij (t x_i . y_j + b))        z_ij = 1 if i = j, else -1

(arXiv 2303.15343, algorithm 1): x_i and y_j are unit vectors of picture i and caption j; t and b
are learned, from log t = log 10 and b = -10. A caption is read by the stage's small decoder.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onevision.batch import TrainingBatch
from onevision.model.decoder import Decoder
from onevision.model.llava import LlavaNetwork
from onevision.train.learner import Learner

FIRST_SCALE, FIRST_BIAS = 10.0, -10.0
WIDTH = 256


class VisionLearner(Learner):
    """Learns pictures by their captions: told apart from others, and word by word too if asked.

    The head is held by the vision encoder while it learns, so that it is optimised, saved and
    divided with it; a checkpoint leaves it out.
    """

    divisible = False  # the captions of a batch stand against one another

    def __init__(
        self, network: LlavaNetwork, *, with_words: bool, encode_always: bool = False
    ) -> None:
        super().__init__(network, encode_always=encode_always)
        self.with_words = with_words
        vision_width = network.vision_encoder.position_embedding.embedding_dim
        language_width = network.language_model.embedding.embedding_dim
        network.vision_encoder.contrast = ContrastHead(
            vision_width=vision_width, language_width=language_width
        )

    def forward(self, batch: TrainingBatch, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch of one picture a row, and of each target [L].

        A picture's loss counts as much as its row's words; captions of one batch stand against
        one another.
        """
        network = self.network
        patches = network.vision_encoder(batch.pixel_values)
        hidden, lengths = read_captions(network.language_model, batch)
        head = network.vision_encoder.get_submodule("contrast")
        contrast = head(patches, hidden, lengths)
        loss = contrast * weights.sum()
        losses = contrast.detach().expand(len(batch.targets))
        if not self.with_words:
            return loss, losses
        words, of_words = super().forward(batch, weights)
        return loss + words, losses + of_words


class ContrastHead(nn.Module):
    """Puts pictures and captions into one space. Thrown away after the stage."""

    def __init__(self, *, vision_width: int, language_width: int, width: int = WIDTH) -> None:
        super().__init__()
        self.picture = nn.Linear(vision_width, width, bias=False)
        self.caption = nn.Linear(language_width, width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))
        self.bias = nn.Parameter(torch.tensor(FIRST_BIAS))

    def forward(self, patches: Tensor, hidden: Tensor, lengths: Tensor) -> Tensor:
        """Return the mean loss of N pictures and their captions.

        `patches` [N, P, C] are a picture's features, `hidden` [N, T, D] a caption's states, of
        which the first `lengths` [N] count.
        """
        inside = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
        mean = (hidden * inside[..., None]).sum(1) / lengths[:, None].clamp(min=1)
        x = F.normalize(self.picture(patches.mean(1)).float(), dim=-1)
        y = F.normalize(self.caption(mean).float(), dim=-1)
        return sigmoid_loss(x, y, log_scale=self.log_scale, bias=self.bias)


def sigmoid_loss(x: Tensor, y: Tensor, *, log_scale: Tensor, bias: Tensor) -> Tensor:
    """Return the loss above for unit vectors `x`, `y` [N, E]."""
    logits = x @ y.T * log_scale.exp() + bias
    signs = 2 * torch.eye(len(x), device=x.device) - 1
    return -F.logsigmoid(signs * logits).sum() / len(x)


def read_captions(decoder: Decoder, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
    """Run the decoder over every row's labelled words alone: states [N, T, D], lengths [N].

    The rows hold one picture each, so a row's labelled words are what is said of that picture.
    """
    rows = batch.sources // batch.input_ids.shape[1]
    captions = [batch.targets[rows == row] for row in range(len(batch.input_ids))]
    lengths = torch.tensor([len(c) for c in captions], device=batch.input_ids.device)
    ids = nn.utils.rnn.pad_sequence(captions, batch_first=True)
    positions = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
    return decoder(decoder.embedding(ids), positions), lengths
