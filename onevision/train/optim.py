"""AdamW with one learning rate a part, and the schedule they share."""

import math

import torch
from torch import nn

from onevision.model.llava import LlavaNetwork
from onevision.train.stages import Stage

PARTS = ("vision_encoder", "projector", "language_model")


def part_parameters(network: LlavaNetwork) -> dict[str, list[nn.Parameter]]:
    """Return the parameters of each part; `image_newline` belongs to the language model."""
    parts = {name: list(network.get_submodule(name).parameters()) for name in PARTS}
    if network.image_newline is not None:
        parts["language_model"].append(network.image_newline)
    # FIDELITY: the unused final norm of the vision encoder never trains.
    unused = {id(p) for p in network.vision_encoder.post_norm.parameters()}
    parts["vision_encoder"] = [p for p in parts["vision_encoder"] if id(p) not in unused]
    return parts


def make_optimizer(network: LlavaNetwork, stage: Stage) -> torch.optim.AdamW:
    """Freeze what the stage does not train; return AdamW over the rest, one group a part."""
    network.requires_grad_(False)
    groups = []
    for name, parameters in part_parameters(network).items():
        if name not in stage.trainable:
            continue
        rate = stage.vision_learning_rate if name == "vision_encoder" else stage.learning_rate
        for parameter in parameters:
            parameter.requires_grad_(True)
        groups.append({"params": parameters, "lr": rate, "peak_lr": rate, "name": name})
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0)


def set_learning_rate(optimizer: torch.optim.Optimizer, *, progress: float, warmup: float) -> None:
    """Set every group's rate at `progress` (0..1): linear warm-up, then a cosine to zero."""
    if progress < warmup:
        factor = progress / warmup
    else:
        factor = 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
