"""Visual tokens of an image or a video -> which of them stay, and the positions of a prompt.

Nothing is trained for it and no question is read, so tokens can be chosen once and cached.

* Of an image in a grid those stay that are least alike: the first is the least like their mean,
  each next one the least like those chosen before (greedy max-min diversity, Gonzalez 1985). Base
  crop and mosaic are chosen from together, so that what both show is kept once.
* Of an image of one crop, where nothing is shown twice, tokens at even distances stay.
* Of a video the first frame stays, and what changes most from frame to frame: both what is about to
  change and what it has become. One token of every frame stays at least.

Tokens that are dropped leave their rotary positions empty: a model that was trained with all tokens
reads where the others stand from their positions.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from onevision.anyres import CropLayout, Layout, VideoLayout
from onevision.batch import ModelInputs

# Cosines of wider tokens are estimated from so many random directions.
NUM_DIRECTIONS = 64
# The score of tokens of a first frame: more than any change, which is 1 minus a cosine.
WHOLE_FRAME = 3.0


@dataclass(frozen=True, kw_only=True)
class VisualTokens:
    """What the language model reads of images and videos, and where it stands in each of them."""

    tokens: Tensor  # [V, D]
    # [V] int64, on the CPU: a token's number within its medium before any was dropped, from 0.
    places: Tensor


@torch.no_grad()
def choose_tokens(tokens: Tensor, layout: Layout) -> Tensor:
    """Returns the places of the tokens that stay, int64 [layout.num_tokens], rising, on the CPU.

    `tokens` [num_patches + num_newlines, D] are all of one image or video. Newlines stay. The
    choice depends on nothing but the tokens' values and the layout.
    """
    if not layout.num_dropped:
        return torch.arange(len(tokens))
    newlines = newline_mask(layout)
    patches = (~newlines).nonzero()[:, 0]
    features = tokens[patches.to(tokens.device)].float()
    count = layout.num_patches - layout.num_dropped
    if isinstance(layout, VideoLayout) and layout.num_frames > 1:
        chosen = choose_changing(features.unflatten(0, (layout.num_frames, -1)), count)
    elif isinstance(layout, CropLayout) and layout.cols > 0:
        chosen = choose_diverse(features, count)
    else:
        chosen = torch.arange(count) * layout.num_patches // count
    stays = newlines.clone()
    stays[patches[chosen.cpu()]] = True
    return stays.nonzero()[:, 0]


def newline_mask(layout: Layout) -> Tensor:
    """Returns which tokens are newlines, bool [num_patches + num_newlines]: each ends a row."""
    mask = torch.zeros(layout.num_patches + layout.num_newlines, dtype=torch.bool)
    if layout.num_newlines:
        is_grid = isinstance(layout, CropLayout) and layout.cols > 0
        rows = mask[layout.side**2 :] if is_grid else mask
        rows.view(layout.num_newlines, -1)[:, -1] = True
    return mask


def choose_diverse(features: Tensor, count: int) -> Tensor:
    """Returns the places [count] of rows of `features` [N, D] that are least alike, by cosine."""
    rows = _shorten(features)
    chosen, current = list[Tensor](), (rows @ rows.mean(0)).argmin()
    nearest = rows.new_full((len(rows),), -torch.inf)  # cosine with the most alike that is chosen
    for _ in range(count):
        chosen.append(current)
        nearest = torch.maximum(nearest, rows @ rows[current])
        nearest[current] = torch.inf
        current = nearest.argmin()
    return torch.stack(chosen)


def choose_changing(features: Tensor, count: int) -> Tensor:
    """Returns the places [count] in [F * P] of `features` [F, P, D].

    One of every frame comes first, then the first frame, then what changes most.
    """
    num_frames, size, _ = features.shape
    rows = F.normalize(features, dim=-1)
    change = 1 - (rows[1:] * rows[:-1]).sum(-1)  # [F - 1, P], 0 to 2
    scores = torch.cat([change, change.new_zeros(1, size)])  # what is about to change
    scores[1:] = torch.maximum(scores[1:], change)
    scores[0] = WHOLE_FRAME
    frames = torch.arange(num_frames, device=scores.device)
    scores[frames, scores.argmax(1)] = torch.inf
    return scores.flatten().argsort(descending=True, stable=True)[:count]


def _shorten(features: Tensor) -> Tensor:
    """Returns unit rows [N, d], d at most `NUM_DIRECTIONS`, with about the cosines of [N, D].

    Random directions keep cosines (Johnson and Lindenstrauss 1984); they are the same each time.
    """
    width = features.shape[-1]
    if width > NUM_DIRECTIONS:
        directions = torch.randn(
            width, NUM_DIRECTIONS, generator=torch.Generator().manual_seed(0), dtype=torch.float32
        )
        features = features @ directions.to(features.device)
    return F.normalize(features, dim=-1)


def find_positions(inputs: ModelInputs, places: Tensor) -> Tensor:
    """Returns the rotary positions [B, S] of prompts whose visual tokens have these `places` [V].

    Text after dropped tokens stands where it would without dropping.
    """
    num_rows, length = inputs.input_ids.shape
    positions = torch.arange(length).repeat(num_rows, 1)
    if not any(layout.num_dropped for layout in inputs.layouts):
        return positions.to(inputs.input_ids.device)
    where = inputs.visual_mask.cpu().nonzero()  # [V, 2]
    begin = 0
    for layout in inputs.layouts:
        row, first = where[begin].tolist()
        own = places[begin : begin + layout.num_tokens]
        add_gaps(positions[row], begin=0, first=first, layout=layout, places=own)
        begin += layout.num_tokens
    return positions.to(inputs.input_ids.device)


def add_gaps(
    positions: Tensor, *, begin: int, first: int, layout: Layout, places: Tensor | None
) -> None:
    """Moves `positions` [n], of a prompt's tokens from `begin` on, by what one medium drops.

    `first` is the number of its first token in the prompt, `places` [num_tokens] those of its
    tokens; None if none of them is among the positions. Changes `positions`.
    """
    if not layout.num_dropped:
        return
    end = first + layout.num_tokens
    positions[max(end - begin, 0) :] += layout.num_dropped
    low, high = max(first, begin), min(end, begin + len(positions))
    if low < high:
        assert places is not None, "a medium is encoded before its tokens are read"
        own = places[low - first : high - first] - torch.arange(low - first, high - first)
        positions[low - begin : high - begin] += own
