"""Processes that divide each layer learn what one process learns from the whole."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from onevision import load
from onevision.checkpoint.hub import BUNDLED
from onevision.cli import app
from onevision.errors import ConfigError
from onevision.model.decoder import DecoderBlock, rotary
from onevision.train.cost.layers import memory_of_part
from onevision.train.cost.sequence import SequenceLoad
from onevision.train.options import RunOptions
from onevision.train.parallel import join_processes, leave_processes
from onevision.train.preference.loss import PreferenceConfig
from onevision.train.run import run_stage
from onevision.train.snapshots import snapshots
from onevision.train.start import Starts
from onevision.train.tensor.mesh import TENSOR
from onevision.train.tensor.plan import divide_blocks
from onevision.train.tensor.rules import check_division
from tests.native import NATIVE_2, native_tokenizer
from tests.train.runs import (
    MICRO,
    SHORT,
    Told,
    arguments,
    assert_same_gradients,
    gradients,
    held_out_losses,
    left,
    lines,
    loss_values,
    settings_of,
    tensors,
)
from tests.train.test_cost import amount, planned

distributed = pytest.mark.distributed
FEW = replace(SHORT, num_samples=8)
# Heads and hidden numbers that four can divide; in the second, heads are normed.
PLAIN = replace(MICRO, language=replace(MICRO.language, num_kv_heads=4, intermediate_size=52))
WIDE = replace(PLAIN, language=replace(PLAIN.language, head_norms=True))


def written(told, file="checkpoint/model.safetensors"):
    return load_file(told.output / file)


def assert_same_weights(one, other, *, atol=1e-5):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, atol=atol, rtol=1e-4, msg=name)


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@distributed
@pytest.mark.parametrize(
    ("ranks", "options"),
    [
        (2, {}),
        slow(2, {"sharing": "shard", "recompute": True}),
        slow(4, {}),
        slow(4, {"sharing": "shard"}),
    ],
)
def test_divided_layers_learn_what_whole_ones_learn(nursery, tmp_path, alone, ranks, options):
    told = alone.but(output=tmp_path / "run", tensor=2, **options)
    nursery.train(told, ranks)
    assert loss_values(told.output) == pytest.approx(loss_values(alone.output), rel=1e-5)
    assert_same_gradients(gradients(alone.output), gradients(told.output))
    assert held_out_losses(told.output) == pytest.approx(held_out_losses(alone.output), rel=1e-5)
    for key in ("samples", "tokens", "supervised_tokens", "flops"):
        counts = [[line[key] for line in lines(path)] for path in (told.output, alone.output)]
        assert counts[0] == counts[1], key
    norms = [[line["grad_norm"] for line in lines(path)] for path in (told.output, alone.output)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    assert_same_weights(written(alone), written(told))
    assert answers(told) == answers(alone)


def answers(told):
    """Return what the checkpoint of a run answers about media that it has learned from."""
    place = told.stage.mixture.removesuffix("mixture.yaml")
    model = load(told.output / "checkpoint")
    one, two, clip = f"{place}0.png", f"{place}1.png", f"{place}clip.mp4"
    about = [{"images": [one]}, {"images": [one, two]}, {"videos": [clip]}, {}]
    return [model.ask("What?", **media, max_new_tokens=6).text for media in about]


@pytest.mark.slow
@distributed
@pytest.mark.parametrize(
    ("ranks", "tensor", "sharing"),
    [(4, 4, "replicate"), (4, 4, "shard"), (8, 4, "shard")],
)
def test_heads_that_are_normed_among_four(nursery, tmp_path, ranks, tensor, sharing):
    told = Told(output=tmp_path / "one", stage=FEW, target=WIDE).but(save_steps=1)
    nursery.train(told)
    four = told.but(output=tmp_path / "four", tensor=tensor, sharing=sharing)
    nursery.train(four, ranks)
    assert loss_values(four.output) == pytest.approx(loss_values(told.output), rel=1e-5)
    assert_same_gradients(gradients(told.output), gradients(four.output))
    assert_same_weights(written(told), written(four), atol=1e-4)


@pytest.mark.slow
@distributed
@pytest.mark.parametrize("sharing", ["replicate", "shard"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_stopped_run_goes_on_to_the_last_bit(nursery, tmp_path, sharing, precision):
    told = Told(output=tmp_path / "whole", stage=FEW)
    told = told.but(tensor=2, sharing=sharing, precision=precision, save_steps=1, keep=9)
    nursery.train(told, 2)
    parts = told.but(output=tmp_path / "parts")
    nursery.train(parts.but(stop_after=1), 2)
    nursery.train(parts, 2)
    assert left(parts.output) == left(told.output)
    for name, tensor in written(told).items():
        assert torch.equal(written(parts)[name], tensor), name


@pytest.mark.slow
@distributed
@pytest.mark.parametrize(
    ("first", "then"),
    [
        ((2, {"tensor": 2}), (1, {})),
        ((1, {}), (4, {"tensor": 2, "sharing": "shard"})),
        ((4, {"tensor": 2, "sharing": "shard"}), (2, {"sharing": "shard"})),
    ],
)
def test_a_run_resumes_with_another_division(nursery, tmp_path, alone, first, then):
    (ranks, options), (later, others) = first, then
    told = alone.but(output=tmp_path)
    nursery.train(told.but(stop_after=1, **options), ranks)
    nursery.train(told.but(**others), later)
    assert loss_values(tmp_path) == pytest.approx(loss_values(alone.output), rel=1e-5)
    assert_same_weights(written(alone), written(told))


@pytest.mark.slow
@distributed
@pytest.mark.parametrize("base", ["full", "int8"])
@pytest.mark.parametrize("sharing", ["replicate", "shard"])
def test_adapters_on_divided_layers(nursery, tmp_path, small, base, sharing):
    told = Told(output=tmp_path / "one", stage=FEW, starts=Starts(previous=(small,)))
    told = told.but(lora_rank=2, lora_targets="language", lora_base=base, save_steps=1, keep=9)
    nursery.train(told)
    two = told.but(output=tmp_path / "two", tensor=2, sharing=sharing)
    nursery.train(two.but(stop_after=1), 2)
    nursery.train(two, 2)  # its frozen weights are read again, its adapters from the snapshot
    assert loss_values(two.output) == pytest.approx(loss_values(told.output), rel=1e-5)
    assert tensors(two.output).keys() == tensors(told.output).keys()
    assert_same_gradients(gradients(told.output), gradients(two.output))
    for file in ("checkpoint/model.safetensors", "adapter/adapter_model.safetensors"):
        assert_same_weights(written(told, file), written(two, file))


@pytest.mark.slow
@distributed
@pytest.mark.parametrize(("rank", "sharing"), [(1, "replicate"), (0, "shard")])
def test_a_process_holds_its_part_of_each_layer(nursery, tmp_path, rank, sharing):
    """What is divided is written by those that hold it: the second one writes nothing else."""
    told = Told(output=tmp_path / "run", stage=replace(FEW, num_samples=4))
    nursery.train(told.but(tensor=2, sharing=sharing), 2)
    path = snapshots(told.output)[-1] / f"rank-{rank}-of-2.safetensors"
    shapes = {name: tuple(tensor.shape) for name, tensor in load_file(path).items()}
    block = "language_model.blocks.0"
    for kind in ("weight", "exp_avg", "exp_avg_sq"):
        assert shapes[f"{kind}/{block}.attention.query.weight"] == (16, 32)
        assert shapes[f"{kind}/{block}.attention.value.bias"] == (8,)
        assert shapes[f"{kind}/{block}.attention.output.weight"] == (32, 16)
        assert shapes[f"{kind}/{block}.mlp.down.weight"] == (32, 25)
        assert (f"{kind}/language_model.embedding.weight" in shapes) == (sharing == "shard")


@pytest.mark.slow
@distributed
@pytest.mark.parametrize("sharing", ["replicate", "shard"])
def test_a_frozen_language_model_passes_gradients_on(nursery, tmp_path, sharing):
    """Three samples in a step: some groups have no picture, or no sample at all."""
    stage = replace(
        FEW, num_samples=6, global_batch=3, trainable=("projector",), vision_learning_rate=None
    )
    told = Told(output=tmp_path / "one", stage=stage).but(save_steps=1)
    nursery.train(told)
    four = told.but(output=tmp_path / "four", tensor=2, sharing=sharing)
    nursery.train(four, 4)
    assert loss_values(four.output) == pytest.approx(loss_values(told.output), rel=1e-5)
    assert_same_gradients(gradients(told.output), gradients(four.output))


def train_natively(told):
    given = arguments(told) | {"tokenizer": native_tokenizer()}
    return run_stage(settings_of(told), **given).exit_code


@pytest.mark.slow
@distributed
@pytest.mark.parametrize("sharing", ["replicate", "shard"])
def test_pictures_at_native_resolution_whose_shapes_differ(nursery, tmp_path, alone, sharing):
    stage = replace(alone.stage, template=None, max_tokens=900)
    told = alone.but(output=tmp_path / "one", stage=stage, target=NATIVE_2, act=train_natively)
    nursery.train(told)
    two = told.but(output=tmp_path / "two", tensor=2, sharing=sharing)
    nursery.train(two, 2)
    assert loss_values(two.output) == pytest.approx(loss_values(told.output), rel=1e-5)
    assert_same_gradients(gradients(told.output), gradients(two.output))


@pytest.mark.slow
@distributed
def test_by_torchrun_end_to_end(tmp_path):
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
        *("--standalone", "-m", "onevision", "train", "language", "--output", str(tmp_path)),
        *("--tokenizer", str(BUNDLED["tiny"] / "tokenizer.json")),
        *("--set", "num_samples=8", "--set", "global_batch=4", "--set", "tensor=2"),
        *("--set", "optimizer=adamw", "--set", "max_tokens=1000"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "wrote " in done.stdout
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]
    assert load(tmp_path / "checkpoint").ask("Say something.", max_new_tokens=3)


@distributed
@pytest.mark.parametrize(
    ("ranks", "options", "said"),
    [
        (1, {"tensor": 2}, "tensor is 2; expected a divisor of the 1 process"),
        (3, {"tensor": 2}, "tensor is 2; expected a divisor of the 3 processes"),
        (3, {"tensor": 3}, "which does not divide the 2 key/value heads of this model; expected "),
        (2, {"tensor": 2, "context": 2}, "tensor is 2 and context is 2, but the same processes"),
        (2, {"tensor": 2, "compiled": True}, "set compiled=False, or tensor=1"),
        (2, {"tensor": 2, "offload_optimizer": True}, "set offload_optimizer=False, or tensor=1"),
        (
            2,
            {"tensor": 2, "offload_activations": True},
            "set offload_activations=False, or tensor=1",
        ),
    ],
)
def test_processes_that_do_not_fit_are_refused(nursery, tmp_path, ranks, options, said):
    told = nursery.train(Told(output=tmp_path / "run").but(**options), ranks, code=1)
    assert said in told
    assert told.count("\n") == 1
    assert not (tmp_path / "run").exists()


@distributed
def test_muon_is_refused(nursery, tmp_path):
    told = Told(output=tmp_path / "run", stage=replace(FEW, optimizer="muon")).but(tensor=2)
    said = nursery.train(told, 2, code=1)
    assert "set sharing=replicate and tensor=1, or optimizer=adamw" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sharing": "shard", "replicas": 2}, "replicas is 2, but a group holds one copy"),
        ({"lora_rank": 2, "lora_dora": True}, "lora_dora is True, but lengths of rows need whole"),
        ({"lora_rank": 2, "lora_dropout": 0.1}, "set lora_dropout=0.0, or tensor=1"),
    ],
)
def test_what_divided_layers_do_not_have_is_refused(tmp_path, options, said):
    config = settings_of(Told(output=tmp_path).but(tensor=2, **options))
    with pytest.raises(ConfigError, match=re.escape(said)):
        check_division(config, num_devices=4)


def test_what_needs_the_whole_model_is_refused(tmp_path):
    config = settings_of(Told(output=tmp_path).but(tensor=2))
    with pytest.raises(ConfigError, match="learning from preferences needs the whole model"):
        check_division(replace(config, preference=PreferenceConfig()))
    vision = replace(SHORT, name="vision", vision_objective="sigmoid")
    with pytest.raises(ConfigError, match="vision_objective=sigmoid needs the whole model"):
        check_division(replace(config, stage=vision))
    with pytest.raises(ConfigError, match="tensor is 0; expected at least 1"):
        RunOptions(tensor=0)


def block_keeps(told):
    """Print the bytes that a divided block keeps of 48 positions in bf16."""
    processes = join_processes(tensor=told.options.tensor)
    language = told.target.language
    rotation = rotary(torch.arange(48)[None], language.head_size, theta=1e4, dtype=torch.bfloat16)
    block = DecoderBlock(language, 0).bfloat16()
    divide_blocks([block], processes.mesh[TENSOR])

    def own(tensor):
        return getattr(tensor, "to_local", lambda: tensor)()

    apart = {own(p).untyped_storage().data_ptr() for p in (*block.parameters(), *rotation)}
    kept = {}

    def pack(tensor):
        memory = own(tensor.detach()).untyped_storage()
        if memory.data_ptr() not in apart and tensor.shape[-2:] != (48, 48):  # no fused kernel's
            kept[memory.data_ptr()] = (memory.nbytes(), tensor)
        return tensor

    x = torch.randn(1, 48, language.hidden_size, dtype=torch.bfloat16).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        block(x, rotation, mask=None, cache=None)
    sys.stdout.write(f"{sum(size for size, _ in kept.values())}\n")
    leave_processes()


@pytest.mark.slow
@distributed
@pytest.mark.parametrize("tensor", [2, 4])
def test_a_block_keeps_what_the_plan_counts(nursery, tmp_path, tensor):
    told = Told(output=tmp_path, act=block_keeps, target=PLAIN).but(tensor=tensor)
    kept = int(nursery.train(told, tensor).splitlines()[-1])
    load = SequenceLoad(num_tokens=48, num_crops=0, labelled_tokens=0)

    def activations(num_layers):
        config = replace(PLAIN, language=replace(PLAIN.language, num_layers=num_layers))
        return memory_of_part(SHORT, config, load, tensor=tensor).activations

    assert kept == pytest.approx(activations(2) - activations(1), rel=0.05)


def test_a_plan_counts_a_part_of_each_layer_and_what_is_sent():
    """7B, 32,768 tokens, four to a layer: its blocks' weights and half their sums, times 3/4."""
    text = [amount(text_tokens=1000)]
    whole, four, both = (
        planned(amounts=text, num_devices=8, shards=shards, tensor=tensor, recompute=True)
        for shards, tensor in ((1, 1), (1, 4), (8, 4))
    )
    blocks = 28 * (2 * 3584 * (3584 + 512) + 3 * 3584 * 18944)
    saved = whole.memory.weights - four.memory.weights
    assert saved == pytest.approx(4 * blocks * 3 / 4, rel=1e-3)
    assert both.memory.weights == pytest.approx(whole.memory.weights / 8)
    assert four.sent == pytest.approx(2 * (2 * 6 * 28) * 32768 * 3584 * 3 / 4)
    assert whole.sent == 0
    assert four.memory.activations < whole.memory.activations
    assert (whole.sequences_per_step, four.busy) == (8, 1)


def test_the_command_plans_and_refuses_a_division(tmp_path):
    told = ["train", "knowledge", "--model", "7b", "--plan", "--devices", "8", "-o", str(tmp_path)]
    said = CliRunner().invoke(app, [*told, "--set", "tensor=4"]).stdout
    assert re.search(r"devices to a layer +4 ", said)
    assert re.search(r"each sends for a sequence +[\d.]+ GiB, sums and patches", said)
    assert re.search(r"devices +8 x [^,]+, 4 to a copy", said)
    for tensor, problem in ((8, "does not divide the 4 key/value heads"), (3, "one of 1, 2, 4")):
        done = CliRunner().invoke(app, [*told, "--set", f"tensor={tensor}"])
        assert problem in str(done.exception)
