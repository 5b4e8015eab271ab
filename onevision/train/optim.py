"""AdamW with one learning rate a part, and the schedule they share."""

import math

import torch
from torch import nn

from onevision.model.llava import LlavaNetwork
from onevision.train.lora import lora_parameters
from onevision.train.recipes import PARTS, Stage


def part_parameters(network: LlavaNetwork) -> dict[str, list[nn.Parameter]]:
    """Return the parameters of each part; `image_newline` belongs to the language model."""
    parts = {name: list(network.get_submodule(name).parameters()) for name in PARTS}
    if network.image_newline is not None:
        parts["language_model"].append(network.image_newline)
    # FIDELITY: the final norm of the vision encoder, and CLIP's last block, never train.
    unused = {id(p) for module in network.vision_encoder.unused() for p in module.parameters()}
    parts["vision_encoder"] = [p for p in parts["vision_encoder"] if id(p) not in unused]
    return parts


def learning_parameters(network: LlavaNetwork, stage: Stage) -> dict[str, list[nn.Parameter]]:
    """Return what learns of each part the stage trains: its adapters if it has any, or all of it.

    `image_newline` is below no adapter: it learns beside those of the language model.
    """
    learning = {n: ps for n, ps in part_parameters(network).items() if n in stage.trainable}
    for name in learning:
        if adapters := lora_parameters(network.get_submodule(name)):
            learning[name] = adapters
            if name == "language_model" and network.image_newline is not None:
                learning[name].append(network.image_newline)
    return learning


def freeze_what_stays(network: LlavaNetwork, stage: Stage) -> None:
    """Let the parts learn that the stage names, or their adapters, and nothing else."""
    network.requires_grad_(False)
    for parameters in learning_parameters(network, stage).values():
        for parameter in parameters:
            parameter.requires_grad_(True)


def make_optimizer(network: LlavaNetwork, stage: Stage) -> torch.optim.AdamW:
    """Return AdamW over what learns, one group a part. Its moments exist from the start."""
    groups = [
        {"params": parameters, "lr": rate, "peak_lr": rate, "name": name}
        for name, parameters in learning_parameters(network, stage).items()
        for rate in (stage.rate_of(name),)
    ]
    optimizer = torch.optim.AdamW(
        groups, betas=stage.betas, eps=stage.epsilon, weight_decay=stage.weight_decay
    )
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": torch.zeros(()),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, *, progress: float, warmup: float) -> None:
    """Set every group's rate at `progress` (0..1): linear warm-up, then a cosine to zero."""
    if progress < warmup:
        factor = progress / warmup
    else:
        factor = 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
