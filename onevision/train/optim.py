"""A network and a stage -> AdamW, or Muon with AdamW, one learning rate per part; the schedule."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from onevision.errors import ConfigError
from onevision.model.llava import LlavaNetwork
from onevision.train.learner import iterate_blocks
from onevision.train.lora.layers import lora_parameters
from onevision.train.muon import Muon
from onevision.train.offload.optimizer import OffloadedOptimizer, zeros_in_host_memory
from onevision.train.options import Precision
from onevision.train.parallel import ALONE, Processes
from onevision.train.stage import PARTS, Decay, Stage

# Numbers of a gradient that are summed at a time on a CPU, since they are copied.
NORM_AT_ONCE = 2**22


def part_parameters(network: LlavaNetwork) -> dict[str, list[nn.Parameter]]:
    """Returns the parameters of each part; `learned_tokens` belong to the language model."""
    parts = {name: list(network.get_submodule(name).parameters()) for name in PARTS}
    parts["language_model"] += network.learned_tokens.values()
    # FIDELITY: the final norm of the vision encoder, and CLIP's last block, never train.
    unused = {id(p) for module in network.vision_encoder.unused() for p in module.parameters()}
    parts["vision_encoder"] = [p for p in parts["vision_encoder"] if id(p) not in unused]
    return parts


def learning_parameters(network: LlavaNetwork, stage: Stage) -> dict[str, list[nn.Parameter]]:
    """Returns what trains of each trainable part: its adapters if it has any, or all of it.

    `learned_tokens` have no adapters: they train beside those of the language model.
    """
    learning = {n: ps for n, ps in part_parameters(network).items() if n in stage.trainable}
    for name in learning:
        if adapters := lora_parameters(network.get_submodule(name)):
            learning[name] = adapters
            if name == "language_model":
                learning[name] = [*adapters, *network.learned_tokens.values()]
    return learning


def freeze_parameters(network: LlavaNetwork, stage: Stage) -> None:
    """Freezes everything but the parts that the stage trains, or their adapters."""
    network.requires_grad_(False)
    for parameters in learning_parameters(network, stage).values():
        for parameter in parameters:
            parameter.requires_grad_(True)


class MuonWithAdamW:
    """Muon for some weights, AdamW for the others: two optimizers that step together.

    Muon (https://kellerjordan.github.io/posts/muon) equalises the singular values of a matrix's
    momentum before each step, so that directions with small gradients are learned as fast as those
    with large ones. Its steps are scaled to the size of AdamW's (arXiv 2502.16982), so one learning
    rate serves both.
    """

    def __init__(self, muon: Muon, adamw: torch.optim.AdamW) -> None:
        self._both = (muon, adamw)
        self.param_groups = [*muon.param_groups, *adamw.param_groups]
        self.state: dict[Tensor, dict[str, Tensor]] = {**muon.state, **adamw.state}

    def step(self) -> None:
        """Updates every weight by its gradient."""
        for one in self._both:
            one.step()

    def zero_grad(self) -> None:
        """Clears all gradients."""
        for one in self._both:
            one.zero_grad()


AnyOptimizer = torch.optim.AdamW | MuonWithAdamW | OffloadedOptimizer
# Allocates a moment of a weight.
Zeros = Callable[[Tensor], Tensor]


def make_optimizer(
    network: LlavaNetwork,
    stage: Stage,
    precision: Precision = "bf16",
    processes: Processes = ALONE,
    *,
    offload: bool = False,
) -> AnyOptimizer:
    """Returns the stage's optimizer over what trains, in groups by part, its moments allocated.

    `precision` is also that of Muon's matrix products, which `processes` divide among them; with
    `offload`, moments lie in host memory (offload/optimizer.py). Raises ConfigError if Muon would
    get slices of matrices.
    """
    zeros = zeros_in_host_memory if offload else torch.zeros_like
    optimizer = _make(network, stage, precision, processes, zeros)
    return OffloadedOptimizer(optimizer) if offload else optimizer


def _make(
    network: LlavaNetwork, stage: Stage, precision: Precision, processes: Processes, zeros: Zeros
) -> torch.optim.AdamW | MuonWithAdamW:
    learning = learning_parameters(network, stage)
    if stage.optimizer == "adamw":
        return _adamw(learning, stage, zeros)
    matrices = {
        id(p) for block in iterate_blocks(network) for p in block.parameters() if p.ndim == 2
    }
    others = {n: [p for p in ps if id(p) not in matrices] for n, ps in learning.items()}
    learning = {n: [p for p in ps if id(p) in matrices] for n, ps in learning.items()}
    if any(isinstance(p, DTensor) for ps in learning.values() for p in ps):
        raise ConfigError(
            f"stage {stage.name}: optimizer muon needs whole matrices and this run shards them; "
            "set sharing=replicate and tensor=1, or optimizer=adamw"
        )
    muon = _muon(learning, stage, precision, processes, zeros)
    return MuonWithAdamW(muon, _adamw(others, stage, zeros))


def _adamw(
    parameters: Mapping[str, list[nn.Parameter]], stage: Stage, zeros: Zeros
) -> torch.optim.AdamW:
    optimizer = torch.optim.AdamW(
        _groups(parameters, stage),
        betas=stage.betas,
        eps=stage.epsilon,
        weight_decay=stage.weight_decay,
    )
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": torch.zeros(()),
                "exp_avg": zeros(parameter),
                "exp_avg_sq": zeros(parameter),
            }
    return optimizer


def _muon(
    parameters: Mapping[str, list[nn.Parameter]],
    stage: Stage,
    precision: Precision,
    processes: Processes,
    zeros: Zeros,
) -> Muon:
    optimizer = Muon(
        _groups(parameters, stage),
        weight_decay=stage.weight_decay,
        dtype=torch.float32 if precision == "fp32" else torch.bfloat16,
        processes=processes,
    )
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {"momentum_buffer": zeros(parameter)}
    return optimizer


def _groups(
    parameters: Mapping[str, list[nn.Parameter]], stage: Stage
) -> list[dict[str, Any]]:  # Any: what an optimizer stores of a group
    return [
        {"params": weights, "lr": rate, "peak_lr": rate, "name": name}
        for name, weights in parameters.items()
        for rate in (stage.rate_of(name),)
    ]


def set_stage_rate(optimizer: AnyOptimizer, stage: Stage, *, step: int, of: int) -> None:
    """Sets every group's rate at a step, counted from 0.

    The only step of a run has no time to warm up: at a rate of zero it would change nothing.
    """
    warmup = stage.warmup if of > 1 else 0.0
    set_learning_rate(optimizer, progress=step / of, warmup=warmup, decay=stage.decay)


def set_learning_rate(
    optimizer: AnyOptimizer, *, progress: float, warmup: float, decay: Decay = "cosine"
) -> None:
    """Sets every group's rate at `progress` (0..1): linear warm-up, then as `decay` says."""
    if progress < warmup:
        factor = progress / warmup
    elif decay == "constant":
        factor = 1.0
    else:
        factor = 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def gradient_norm(parameters: Sequence[nn.Parameter]) -> float:
    """Returns the norm of all gradients together, those of a sharded model included.

    On a CPU in fp64: torch's sum of squares in fp32 is too small there, by 1.5 % for 1.4e8 numbers.
    """
    # By the groups of processes that divide the gradients.
    norms: dict[tuple[dist.ProcessGroup, ...], list[Tensor]] = {}
    for parameter in parameters:
        if (gradient := parameter.grad) is not None:
            own = gradient.to_local() if isinstance(gradient, DTensor) else gradient
            norms.setdefault(_dividers(gradient), []).append(_exact_norm(own))
    return math.hypot(*(_norm_together(ones, groups) for groups, ones in norms.items()))


def _norm_together(norms: Sequence[Tensor], groups: Sequence[dist.ProcessGroup]) -> float:
    """Returns the norm of tensors whose parts in this process have the norms given."""
    norm = torch.linalg.vector_norm(torch.stack(list(norms)))
    if not groups:
        return float(norm)
    square = norm.double().square()
    for group in groups:
        dist.all_reduce(square, group=group)
    return float(square.sqrt())


def _dividers(gradient: Tensor) -> tuple[dist.ProcessGroup, ...]:
    """Returns the groups of processes that hold different parts of a gradient."""
    if not isinstance(gradient, DTensor):
        return ()
    mesh = gradient.device_mesh
    return tuple(
        mesh.get_group(dimension)
        for dimension, placement in enumerate(gradient.placements)
        if not placement.is_replicate()
    )


def _exact_norm(gradient: Tensor) -> Tensor:
    if gradient.is_cuda:  # summed as a tree: exact enough, and in fp64 all of it would be copied
        return torch.linalg.vector_norm(gradient, dtype=torch.float32)
    parts = gradient.flatten().split(NORM_AT_ONCE)
    return torch.linalg.vector_norm(
        torch.stack([torch.linalg.vector_norm(part, dtype=torch.float64) for part in parts])
    )
