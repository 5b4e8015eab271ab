"""Which weights an optimizer moves, and how fast."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from onevision.model.llava import LlavaNetwork
from onevision.train.muon import Muon, share_out
from onevision.train.optim import (
    MuonWithAdamW,
    gradient_norm,
    make_optimizer,
    set_learning_rate,
    set_stage_rate,
)
from onevision.train.stage import PARTS, Stage
from tests.conftest import randomise
from tests.train.runs import MICRO, SHORT, Told

MUON = replace(SHORT, optimizer="muon")


def test_muon_takes_the_matrices_of_blocks_and_adamw_all_else():
    network = randomise(LlavaNetwork(MICRO), std=0.05)
    optimizer = make_optimizer(network, MUON)
    names = {p: name for name, p in network.named_parameters()}
    kinds = {names[p]: set(state) for p, state in optimizer.state.items()}
    moved = {name for name in names.values() if "vision_encoder.post_norm" not in name}
    assert kinds.keys() == moved
    for name, kind in kinds.items():
        matrix = ".blocks." in name and network.get_parameter(name).ndim == 2
        assert kind == ({"momentum_buffer"} if matrix else {"step", "exp_avg", "exp_avg_sq"}), name


def test_both_follow_one_schedule():
    optimizer = make_optimizer(LlavaNetwork(MICRO), MUON)
    set_learning_rate(optimizer, progress=0.5, warmup=0)
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(MUON.rate_of(group["name"]) / 2)
    assert {group["name"] for group in optimizer.param_groups} == set(PARTS)


def test_a_step_of_muon_is_as_long_in_every_direction():
    """Singular values of a step lie close together, though those of the gradient do not."""
    network = randomise(LlavaNetwork(MICRO), std=0.05)
    optimizer = make_optimizer(network, MUON)
    assert isinstance(optimizer, MuonWithAdamW)
    weight = network.language_model.blocks[0].mlp.up.weight
    before = weight.detach().clone()
    left, right = torch.linalg.qr(torch.randn(weight.shape))[0], torch.randn(weight.shape[1])
    weight.grad = left * torch.logspace(0, -1.5, weight.shape[1]) + 0 * right
    optimizer.step()
    values = torch.linalg.svdvals(before - weight.detach())
    assert values.max() / values.min() < 3  # of the gradient 32
    rate, longest = MUON.rate_of("language_model"), max(weight.shape)
    size = (before - weight.detach()).norm() / (0.2 * rate * longest**0.5)
    assert size == pytest.approx(min(weight.shape) ** 0.5, rel=0.3)  # as long as AdamW's
    optimizer.zero_grad()
    assert weight.grad is None


def test_muon_in_single_precision_takes_the_steps_of_torchs_own():
    """Three steps each, of a tall and a wide matrix; they differ by the rounding of bf16."""
    torch.manual_seed(0)
    starts = [torch.randn(6, 4), torch.randn(4, 6)]
    gradients = [[torch.randn_like(w) for w in starts] for _ in range(3)]
    ends = []
    theirs = partial(torch.optim.Muon, adjust_lr_fn="match_rms_adamw")
    for kind in (theirs, partial(Muon, dtype=torch.float32), Muon):
        weights = [torch.nn.Parameter(w.clone()) for w in starts]
        optimizer = kind(weights, lr=0.1, weight_decay=0.1)
        for weight in weights:
            optimizer.state[weight] = {"momentum_buffer": torch.zeros_like(weight)}
        for step in gradients:
            for weight, gradient in zip(weights, step, strict=True):
                weight.grad = gradient.clone()
            optimizer.step()
        ends.append(weights)
    for torchs, single, low, start in zip(*ends, starts, strict=True):
        assert (torchs - start).norm() > 0.1
        assert (torchs - single).norm() < 0.02 * (torchs - start).norm()
        assert torch.equal(torchs, low)


def test_precision_says_in_which_type_muon_multiplies():
    types = [
        make_optimizer(LlavaNetwork(MICRO), MUON, precision=precision)._both[0].dtype
        for precision in ("bf16", "fp32")
    ]
    assert types == [torch.bfloat16, torch.float32]


def test_matrices_are_shared_out_so_that_all_processes_do_as_much():
    assert share_out([9, 1, 5, 4, 3], 2) == [0, 1, 1, 1, 0]
    assert share_out([2, 2, 2], 4) == [0, 1, 2]
    assert share_out([3, 4], 1) == [0, 0]


@pytest.mark.distributed
def test_muon_is_refused_where_matrices_are_sharded(nursery, tmp_path):
    told = Told(output=tmp_path / "run", stage=MUON).but(sharing="shard")
    said = nursery.train(told, 2, code=1)
    assert "muon needs whole matrices and this run shards them" in said


def test_a_constant_rate_stays_after_the_warm_up():
    stage = Stage(name="s", decay="constant", warmup=0.5)
    optimizer = make_optimizer(LlavaNetwork(MICRO), stage)
    rates = []
    for step in range(4):
        set_stage_rate(optimizer, stage, step=step, of=4)
        rates.append(optimizer.param_groups[-1]["lr"] / optimizer.param_groups[-1]["peak_lr"])
    assert rates == [0.0, 0.5, 1.0, 1.0]


def test_the_norm_of_many_gradients_is_exact():
    """Summed in fp32 on a CPU, the squares of so many numbers lose 3e-5."""
    weight = torch.nn.Parameter(torch.zeros(2_000_000))
    weight.grad = torch.randn(len(weight), generator=torch.Generator().manual_seed(0))
    found = gradient_norm([weight, torch.nn.Parameter(torch.zeros(3))])
    assert found == pytest.approx(float(weight.grad.double().norm()), rel=1e-9)
    assert gradient_norm([torch.nn.Parameter(torch.zeros(3))]) == 0.0
