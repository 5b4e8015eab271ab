"""Frozen weights below adapters in 8 and 4 bits: what they compute, what they hold, how they begin.

Those of bitsandbytes are tested where it is installed.
"""

import importlib.util
from dataclasses import replace

import pytest
import torch
from torch import nn

from onevision.accelerate.int4 import Int4Linear
from onevision.errors import ConfigError
from onevision.train.config import TrainConfig
from onevision.train.learner import Learner
from onevision.train.lora.adapt import adapt
from onevision.train.lora.bases import FROZEN, freeze, stored_bytes
from onevision.train.lora.int4 import Int4FrozenLinear
from onevision.train.lora.layers import add_lora
from onevision.train.options import RunOptions
from onevision.train.parallel import Processes
from onevision.train.sharded.begin import begin_network
from onevision.train.stage import Stage
from onevision.train.start import Starts, start_network
from tests.train.runs import MICRO, Told

STAGE = Stage(
    name="tuned", families={"scenes": 1.0}, num_samples=4, max_questions=1, global_batch=4,
    max_tokens=400, vision_learning_rate=None, trainable=("projector", "language_model"),
)  # fmt: skip
HAS_NF4 = importlib.util.find_spec("bitsandbytes") is not None
with_nf4 = pytest.mark.skipif(not HAS_NF4, reason="bitsandbytes is not installed")
BASES = [pytest.param(one, marks=with_nf4 if one == "nf4" else ()) for one in FROZEN]
# Whole groups of 64 inputs, and a short last one.
SHAPES = [(48, 128), (20, 100)]


def linear(out, width):
    torch.manual_seed(3)
    return nn.Linear(width, out).requires_grad_(False)


def test_int4_by_hand():
    """From -7 to 8 in steps of one: the scale is 1, and q - 8 + middle the number itself."""
    row = torch.arange(64.0) % 16 - 7
    packed, scale, middle = Int4FrozenLinear.quantise(row[None])
    assert (scale.item(), middle.item()) == (1, 1)
    assert packed.flatten().tolist() == [q | q << 4 for q in [*range(16)] * 2]
    plain = nn.Linear(64, 1, bias=False)
    plain.weight.data = row[None]
    assert Int4FrozenLinear(plain).dequantize().weight.tolist() == [row.tolist()]


def test_a_short_group_is_rounded_as_if_it_were_alone():
    weight = torch.randn(3, 100)
    whole = Int4FrozenLinear.quantise(weight)
    last = Int4FrozenLinear.quantise(weight[:, 64:])
    assert all(torch.equal(a[:, 1:], b) for a, b in zip(whole, last, strict=True))


def test_int4_is_that_of_inference():
    plain = linear(32, 192)
    ours, theirs = Int4FrozenLinear(plain), Int4Linear.from_linear(plain)
    x = torch.randn(4, 192)
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("base", [one for one in BASES if one.values[0] != "int8"])
def test_output_and_gradient_are_those_of_the_multiplied_weight(base, dtype, shape):
    layer = freeze(linear(*shape), base)
    plain = layer.dequantize()
    x = torch.randn(2, 5, shape[1], requires_grad=True)
    found = []
    for module in (layer, plain):
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            y = module(x)
        found.append((y, *torch.autograd.grad(y.float().sin().sum(), x)))
    (ours, own), (theirs, other) = found
    assert ours.dtype == theirs.dtype == dtype
    assert torch.equal(ours, theirs)
    assert torch.equal(own, other)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("base", BASES)
def test_few_bits_are_near_the_weight_and_as_small_as_is_counted(base, shape):
    plain = linear(*shape)
    layer = freeze(plain, base)
    tolerance = 0.01 if base == "int8" else 0.1
    weight = layer.multiply_out(torch.float32)
    assert (weight - plain.weight).norm() < tolerance * plain.weight.norm()
    held = sum(tensor.nbytes for tensor in layer.buffers())
    assert held == stored_bytes(base, *shape)
    hollow = freeze(nn.Linear(shape[1], shape[0], device="meta"), base)
    described = {n: (t.shape, t.dtype) for n, t in layer.named_buffers()}
    assert {n: (t.shape, t.dtype) for n, t in hollow.named_buffers()} == described


def test_half_a_byte_and_a_sixteenth():
    assert stored_bytes("int4", 896, 4864) == 896 * 4864 * 4.5 / 8
    assert stored_bytes("nf4", 896, 4864) == 896 * 4864 * 4.5 / 8
    assert stored_bytes("int8", 896, 4864) == 896 * 4864 + 4 * 896


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("base", BASES)
def test_a_run_begins_with_the_rounded_weights_of_its_start(small, base, dora):
    """Layer by layer, so that the whole network never lies in memory; here it may, to compare."""
    options = RunOptions(precision="fp32", lora_rank=2, lora_base=base, lora_dora=dora)
    starts, config = (
        Starts(previous=(small,)),
        TrainConfig(stage=STAGE, target=MICRO, options=options),
    )
    begun = begin_network(config, MICRO, starts, Processes(), resumes=False)
    assert begun.network.language_model.embedding.weight.is_meta
    adapt(begun.network, options.lora, seed=0)
    begun.prepare(Learner(begun.network))
    whole = start_network(STAGE, MICRO, starts)
    add_lora(whole, options.lora, seed=0)
    ours, theirs = begun.network.state_dict(), whole.state_dict()
    assert ours.keys() == theirs.keys()
    assert any(name.endswith("base.scale") or ".base.packed" in name for name in ours)
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name


@pytest.mark.skipif(HAS_NF4, reason="bitsandbytes is installed")
def test_nf4_without_its_package_is_refused_before_anything_is_read(nursery, tmp_path, small):
    told = Told(output=tmp_path / "run", stage=STAGE, starts=Starts(previous=(small,)))
    said = nursery.train(told.but(lora_rank=2, lora_base="nf4"), code=1)
    assert "lora_base=nf4 needs bitsandbytes; pip install 'onevision[nf4]'" in said
    assert "or set lora_base=int4, which needs no package" in said
    with pytest.raises(ConfigError, match="lora_base=nf4 needs bitsandbytes"):
        freeze(linear(4, 64), "nf4")


@with_nf4
def test_nf4_is_what_the_layer_of_bitsandbytes_computes():
    from bitsandbytes.nn import Linear4bit

    plain = linear(48, 128)
    ours = freeze(plain, "nf4")
    theirs = Linear4bit(
        128, 48, quant_type="nf4", compress_statistics=False, compute_dtype=torch.float32
    )
    theirs.load_state_dict(plain.state_dict())
    theirs.to("cpu")
    x = torch.randn(4, 128)
    assert torch.equal(ours(x), theirs(x))


@with_nf4
def test_a_run_over_nf4_learns(nursery, tmp_path, small):
    told = Told(output=tmp_path / "run", stage=replace(STAGE, learning_rate=1e-2, num_samples=12))
    told = told.but(starts=Starts(previous=(small,)), lora_rank=2, lora_base="nf4")
    nursery.train(told)
    assert (tmp_path / "run" / "adapter" / "adapter_config.json").is_file()
