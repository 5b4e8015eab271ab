"""Moments and activations in host memory: the same bits, snapshots that fit, and what a plan says.

There is no GPU here. On a CPU the copies are as many and as separate, in memory of the same kind.
"""

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from onevision.errors import ConfigError
from onevision.known_models import ARCHITECTURES
from onevision.model.llava import LlavaNetwork
from onevision.train.config import make_run_options
from onevision.train.cost.amounts import Amount
from onevision.train.cost.devices import get_device_kind
from onevision.train.cost.plan import plan_training
from onevision.train.cost.tables import tables
from onevision.train.offload.activations import SMALLEST_NUMEL, offload_block
from onevision.train.offload.choice import Offload
from onevision.train.offload.optimizer import OffloadedOptimizer, cut
from onevision.train.optim import make_optimizer
from onevision.train.stages import stage_named
from onevision.train.start import Starts
from tests.conftest import randomise
from tests.train.runs import MICRO, SHORT, Told, left, loss_values

BRIEF = replace(SHORT, num_samples=16)
ALL = {"offload_optimizer": True, "offload_activations": True}


def test_moments_take_turns_on_the_device():
    weights = [torch.nn.Parameter(torch.zeros(size)) for size in (3, 4, 9, 2, 2, 2)]
    sizes = [[w.numel() for w in piece] for piece in cut(weights, numbers=7)]
    assert sizes == [[3, 4], [9], [2, 2, 2]]


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_offloaded_steps_have_the_bits_of_plain_ones(kind):
    stage, found = replace(SHORT, optimizer=kind), []
    for offload in (False, True):
        network = randomise(LlavaNetwork(MICRO))
        optimizer = make_optimizer(network, stage, precision="fp32", offload=offload)
        if offload:
            assert isinstance(optimizer, OffloadedOptimizer)
            optimizer.piece_numbers = 5000  # of 0.2 M: many pieces
        generator = torch.Generator().manual_seed(2)
        for _ in range(3):
            for group in optimizer.param_groups:
                for weight in group["params"]:
                    weight.grad = torch.randn(weight.shape, generator=generator)
            optimizer.step()
            optimizer.zero_grad()
        moments = [t for state in optimizer.state.values() for t in state.values()]
        found.append([*(p.detach() for p in network.parameters()), *moments])
    for plain, offloaded in zip(*found, strict=True):
        assert torch.equal(plain, offloaded)


def test_the_device_holds_the_moments_of_one_piece_at_a_time():
    """The optimiser that steps sees one piece; what it updated then lies where it was allocated."""
    network = randomise(LlavaNetwork(MICRO))
    optimizer = make_optimizer(network, SHORT, offload=True)
    homes = {id(w): state["exp_avg"].data_ptr() for w, state in optimizer.state.items()}
    optimizer.piece_numbers = 5000
    weights = [w for group in optimizer.param_groups for w in group["params"]]
    seen = []
    step = optimizer.optimizer.step

    def watch():
        own = [w for group in optimizer.param_groups for w in group["params"]]
        away = [w for w in weights if optimizer.state[w]["exp_avg"].data_ptr() != homes[id(w)]]
        assert {map(id, own)} != set() and list(map(id, own)) == list(map(id, away))
        seen.extend(own)
        step()

    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.optimizer.step = watch
    optimizer.step()
    assert list(map(id, seen)) == list(map(id, weights))
    for weight in weights:
        moment = optimizer.state[weight]["exp_avg"]
        assert moment.data_ptr() == homes[id(weight)]
        assert moment.ne(0).all()


class Block(torch.nn.Module):
    """Two products with a curve between, whose result the first one's backward pass needs."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(64, 96), torch.nn.Linear(96, 64)
        self.seen = None

    def forward(self, x):
        inner = torch.sin(self.first(x))
        self.seen = weakref.ref(inner)
        return self.second(inner)


def test_what_a_block_saves_leaves_the_device_and_comes_back():
    torch.manual_seed(0)
    block, x = Block(), torch.randn(1, 100, 64)
    assert SMALLEST_NUMEL < 100 * 64
    found = []
    for offloaded in (False, True):
        if offloaded:
            offload_block(block)
        own = x.clone().requires_grad_()
        y = block(own)
        gc.collect()
        assert (block.seen() is None) == offloaded  # autograd holds it, or its copy on the host
        block.zero_grad()
        y.sin().sum().backward()
        found.append([y.detach(), own.grad, *(p.grad for p in block.parameters())])
    for plain, offloaded in zip(*found, strict=True):
        assert torch.equal(plain, offloaded)


@pytest.mark.parametrize("more", [{}, {"recompute": True}])
def test_a_run_from_its_settings_ends_with_the_same_bits(nursery, tmp_path, more):
    """In bf16, whose copies of weights are saved too; it stops in between and resumes."""
    told = Told(output=tmp_path / "plain", stage=BRIEF).but(precision="bf16", **more)
    nursery.train(told)
    moved = told.but(output=tmp_path / "moved", **ALL)
    said = nursery.train(replace(moved, stop_after=2))
    assert "offload_optimizer=true saves nothing with device=cpu" in said
    assert "offload_activations=true saves nothing with device=cpu" in said
    nursery.train(moved)
    assert loss_values(moved.output) == loss_values(told.output)
    assert left(moved.output) == left(told.output)


def test_adapters_over_4_bits_learn_the_same(nursery, tmp_path, small):
    told = Told(output=tmp_path / "plain", stage=BRIEF, starts=Starts(previous=(small,)))
    told = told.but(lora_rank=2, lora_targets="language", lora_base="int4")
    nursery.train(told)
    nursery.train(told.but(output=tmp_path / "moved", **ALL))
    one, other = (
        load_file(tmp_path / name / "adapter" / "adapter_model.safetensors")
        for name in ("plain", "moved")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["offload_optimizer=true", "sharing=shard"], "set sharing=replicate, or leave"),
        (["offload_activations=true", "compiled=true"], "set one of the two"),
    ],
)
def test_what_cannot_be_had_together_is_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        make_run_options(settings)


def plan_7b(**options):
    amount = Amount(
        name="mine", scenario="single_image", num_samples=1000, num_crops=5, visual_tokens=3000,
        text_tokens=200, labelled_tokens=100, vision_pairs=5 * 729**2, pairs=3200**2 / 2,
    )  # fmt: skip
    stage, kind = stage_named("knowledge", "7b"), get_device_kind("h200")
    return plan_training(stage, ARCHITECTURES["7b"], [amount], kind=kind, **options)


def test_a_plan_moves_moments_to_the_host():
    plain, moved = plan_7b(), plan_7b(offload=Offload(optimizer=True))
    assert moved.host.moments == plain.memory.moments
    largest = 152064 * 3584  # the embedding is a piece of its own
    assert moved.memory.moments == 8 * largest
    assert moved.memory.activations == plain.memory.activations
    assert moved.ends.end == plain.ends.end - plain.memory.moments + moved.memory.moments
    (table,) = [one for one in tables(moved) if one.title.startswith("memory")]
    shown = dict(table.rows)
    assert shown["moments, in host memory"] == f"{plain.memory.moments / 2**30:.2f}"
    assert "activations, in host memory" not in shown


@pytest.mark.parametrize("recompute", [False, True])
def test_a_plan_moves_what_blocks_keep_to_the_host(recompute):
    plain = plan_7b(recompute=recompute)
    moved = plan_7b(recompute=recompute, offload=Offload(activations=True))
    total = moved.memory.activations + moved.host.activations
    assert total == pytest.approx(plain.memory.activations)
    if recompute:  # the inputs of all blocks but one, bf16
        tokens = plain.stage.max_tokens
        patches = tokens / 3200 * 5 * 729
        assert moved.host.activations == pytest.approx(
            2 * (27 * tokens * 3584 + 25 * patches * 1152)
        )
    else:
        assert moved.memory.activations < 0.1 * plain.memory.activations


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_run_learns_the_same(nursery, tmp_path):
    told = Told(output=tmp_path / "plain", stage=BRIEF).but(device="cuda", precision="bf16")
    nursery.train(told)
    moved = told.but(output=tmp_path / "moved", **ALL)
    said = nursery.train(moved)
    assert "saves nothing" not in said
    assert loss_values(moved.output) == pytest.approx(loss_values(told.output), rel=1e-3)
