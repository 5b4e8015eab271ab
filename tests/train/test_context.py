"""Processes that divide every sequence learn what one process learns from the whole."""

import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from typer.testing import CliRunner

from onevision.accelerate.cpu_attention import attend_on_cpu
from onevision.anyres import AnyRes, SingleCrop, VideoRule, plan, plan_video
from onevision.checkpoint.hub import BUNDLED
from onevision.checkpoint.load import inspect
from onevision.cli import app
from onevision.errors import ConfigError
from onevision.model.decoder import DecoderBlock, rotary
from onevision.model.visual_tokens import arrange
from onevision.native import Native
from onevision.train.context.attention import SharedAttention
from onevision.train.context.division import cut_crops, cut_evenly, find_pieces, plan_trade
from onevision.train.context.rules import check_context
from onevision.train.cost.memory import memory_per_device
from onevision.train.cost.sequence import SequenceLoad
from onevision.train.options import RunOptions
from onevision.train.parallel import Processes, join_processes, leave_processes
from onevision.train.preference.loss import PreferenceConfig
from onevision.train.run import run_stage
from onevision.train.start import Starts
from tests.native import NATIVE_2, native_tokenizer
from tests.train.runs import (
    CROP,
    MICRO,
    SHORT,
    Told,
    arguments,
    assert_same_gradients,
    gradients,
    held_out_losses,
    lines,
    loss_values,
    settings_of,
)
from tests.train.test_cost import amount, planned

distributed = pytest.mark.distributed
WINDOW = replace(MICRO, language=replace(MICRO.language, sliding_window=20))
ALIGN = replace(SHORT, trainable=("projector",), vision_learning_rate=None, num_samples=8)


def four(*, context, slow=False, **options):
    marks = pytest.mark.slow if slow else ()
    return pytest.param(4, {"context": context, **options}, marks=marks)


@distributed
@pytest.mark.parametrize(
    ("ranks", "options"),
    [
        (2, {"context": 2}),
        (2, {"context": 2, "sharing": "shard", "recompute": True}),
        (2, {"sharing": "shard"}),  # each reads and measures for itself
        four(context=2),
        four(context=4, slow=True),  # of two key/value heads, each is repeated
        four(context=2, sharing="shard", replicas=2, slow=True),
    ],
)
def test_packs_teach_what_they_teach_one_process(nursery, tmp_path, alone, ranks, options):
    nursery.train(alone.but(output=tmp_path, **options), ranks)
    assert loss_values(tmp_path) == pytest.approx(loss_values(alone.output), rel=1e-5)
    assert_same_gradients(gradients(alone.output), gradients(tmp_path))
    assert held_out_losses(tmp_path) == pytest.approx(held_out_losses(alone.output), rel=1e-5)
    for key in ("samples", "tokens", "supervised_tokens", "flops"):
        told = [[line[key] for line in lines(path)] for path in (tmp_path, alone.output)]
        assert told[0] == told[1], key


@distributed
@pytest.mark.parametrize(("first", "then"), [((2, 2), (1, 1)), ((1, 1), (4, 2))])
@pytest.mark.slow
def test_a_run_resumes_with_another_context(nursery, tmp_path, alone, first, then):
    (ranks, context), (later, another) = first, then
    told = alone.but(output=tmp_path, context=context)
    nursery.train(told.but(stop_after=1), ranks)
    nursery.train(told.but(context=another), later)
    assert loss_values(tmp_path) == pytest.approx(loss_values(alone.output), rel=1e-5)


@distributed
@pytest.mark.slow
def test_padded_rows_with_branches_within_a_window(nursery, tmp_path):
    """Questions about one picture share its tokens, and each sees 20 positions back."""
    stage = replace(SHORT, num_samples=8, max_questions=3, max_grad_norm=1e9, max_tokens=700)
    told = Told(output=tmp_path / "one", stage=stage, target=WINDOW).but(save_steps=1)
    nursery.train(told)
    two = told.but(output=tmp_path / "two", context=2)
    nursery.train(two, 2)
    assert_same_gradients(gradients(told.output), gradients(two.output))


@distributed
@pytest.mark.slow
def test_text_alone_teaches_the_same_to_processes_of_a_divided_model(nursery, tmp_path):
    """Three samples in a step, so that a process of four has none of its own."""
    stage = replace(SHORT, num_samples=6, global_batch=3, families={"texts": 1.0})
    told = Told(output=tmp_path / "one", stage=stage).but(save_steps=1)
    nursery.train(told)
    divided = told.but(output=tmp_path / "four", context=4, sharing="shard")
    nursery.train(divided, 4)
    assert_same_gradients(gradients(told.output), gradients(divided.output))


def test_a_frozen_language_model_passes_gradients_on(nursery, tmp_path):
    """Only the projector trains; some rows have no picture, some parts no visual token."""
    told = Told(output=tmp_path / "one", stage=ALIGN).but(save_steps=1)
    nursery.train(told)
    two = told.but(output=tmp_path / "two", context=2, sharing="shard")
    nursery.train(two, 2)
    assert loss_values(two.output) == pytest.approx(loss_values(told.output), rel=1e-5)
    assert_same_gradients(gradients(told.output), gradients(two.output))


@distributed
@pytest.mark.slow
def test_every_micro_batch_counts_the_same_if_told(nursery, tmp_path):
    stage = replace(SHORT, num_samples=8, max_tokens=1)  # a sample each
    told = Told(output=tmp_path / "one", stage=stage).but(loss_mean="micro_batches")
    nursery.train(told)
    two = told.but(output=tmp_path / "two", context=2)
    nursery.train(two, 2)
    assert loss_values(two.output) == pytest.approx(loss_values(told.output), rel=1e-5)


def block_keeps(told):
    """Print the bytes that a block keeps of a share of 48 positions in bf16."""
    processes = join_processes(context=told.options.context)
    language = told.target.language
    own = cut_evenly(48, processes.context)[processes.place :][:2]
    positions = torch.arange(*own)[None]
    rotation = rotary(positions, language.head_size, theta=1e4, dtype=torch.bfloat16)
    shared = SharedAttention(
        function=attend_on_cpu, mask=None, length=48, place=processes.place, group=processes.group
    )
    block = DecoderBlock(language, 0).bfloat16()
    weights = {p.untyped_storage().data_ptr() for p in block.parameters()}
    kept = {}

    def pack(tensor):
        memory = tensor.untyped_storage()
        if memory.data_ptr() not in weights and tensor.shape[-2:] != (48, 48):  # no fused kernel's
            kept[memory.data_ptr()] = (memory.nbytes(), tensor)
        return tensor

    x = torch.randn(1, len(positions[0]), language.hidden_size, dtype=torch.bfloat16)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        block(x.requires_grad_(), rotation, mask=None, cache=shared)
    rotations = 2 * rotation[0].numel() * 2  # kept once for all blocks
    sys.stdout.write(f"{sum(size for size, _ in kept.values()) - rotations}\n")
    leave_processes()


@distributed
@pytest.mark.parametrize("context", [2, 4])
def test_a_block_keeps_what_the_plan_counts(nursery, tmp_path, context):
    told = Told(output=tmp_path, act=block_keeps).but(context=context)
    kept = int(nursery.train(told, context).splitlines()[-1])
    load = SequenceLoad(num_tokens=48, num_crops=0, labelled_tokens=0)

    def activations(num_layers):
        config = replace(MICRO, language=replace(MICRO.language, num_layers=num_layers))
        return memory_per_device(SHORT, config, load, context=context).activations

    assert kept == pytest.approx(activations(2) - activations(1), rel=0.05)


def test_a_plan_counts_a_share_of_the_sequence_and_what_is_sent():
    """7B, 32,768 tokens: a device of four sends 3/4 of its positions' heads, twice."""
    text = [amount(text_tokens=1000)]
    whole, four = (
        planned(amounts=text, num_devices=8, context=context, recompute=True) for context in (1, 4)
    )
    assert four.memory.activations == pytest.approx(whole.memory.activations / 4, rel=0.05)
    assert whole.sent == 0
    heads = 28 + 4 + 4 + 28  # queries, keys, values, their mix
    assert four.sent == pytest.approx(3 * 28 * 32768 / 4 * heads * 128 * 2 * 3 / 4)  # recomputed
    single = planned(amounts=text, num_devices=8, context=8, recompute=True)
    assert (whole.sequences_per_step, whole.busy) == (8, 1)
    assert (four.busy, single.busy) == (1, 1)


def test_the_command_plans_and_refuses_a_context(tmp_path):
    told = ["train", "knowledge", "--model", "7b", "--plan", "--devices", "8", "-o", str(tmp_path)]
    said = CliRunner().invoke(app, [*told, "--set", "context=4"]).stdout
    assert re.search(r"devices to a sequence +4 ", said)
    assert re.search(r"each sends for it +[\d.]+ GiB, attention and patches", said)
    for context, problem in ((3, "does not divide the 28 query heads"), (7, "the 8 devices")):
        done = CliRunner().invoke(app, [*told, "--set", f"context={context}"])
        assert problem in str(done.exception)


def train_natively(told):
    given = arguments(told) | {"tokenizer": native_tokenizer()}
    return run_stage(settings_of(told), **given).exit_code


@distributed
@pytest.mark.slow
def test_pictures_at_native_resolution_whose_shapes_differ(nursery, tmp_path, alone):
    """The encoder runs once for each shape, so not equally often in two processes."""
    stage = replace(alone.stage, template=None, max_tokens=900)
    told = alone.but(output=tmp_path / "one", stage=stage, target=NATIVE_2, act=train_natively)
    nursery.train(told)
    for context in (1, 2):
        two = told.but(output=tmp_path / f"two {context}", context=context, sharing="shard")
        nursery.train(two, 2)
        assert loss_values(two.output) == pytest.approx(loss_values(told.output), rel=1e-5)
        assert_same_gradients(gradients(told.output), gradients(two.output))


@distributed
@pytest.mark.slow
def test_adapters_over_int8_in_bf16(nursery, tmp_path, small):
    stage = replace(SHORT, num_samples=8)
    told = Told(output=tmp_path / "one", stage=stage, starts=Starts(previous=(small,)))
    told = told.but(lora_rank=2, lora_targets="language", lora_base="int8", precision="bf16")
    nursery.train(told)
    two = told.but(output=tmp_path / "two", context=2)
    nursery.train(two, 2)
    assert loss_values(two.output) == pytest.approx(loss_values(told.output), rel=1e-2)


@distributed
@pytest.mark.parametrize(
    ("ranks", "options", "said"),
    [
        (1, {"context": 2}, "context is 2; expected a divisor of the 1 process"),
        (3, {"context": 2}, "context is 2; expected a divisor of the 3 processes"),
        (3, {"context": 3}, "context is 3, which does not divide the 4 query heads of this"),
    ],
)
def test_processes_that_do_not_fit_are_refused(nursery, tmp_path, ranks, options, said):
    told = nursery.train(Told(output=tmp_path / "run").but(**options), ranks, code=1)
    assert said in told
    assert told.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_what_compares_whole_sequences_is_refused(tmp_path):
    config = settings_of(Told(output=tmp_path).but(context=2))
    with pytest.raises(ConfigError, match="learning from preferences needs whole sequences"):
        check_context(replace(config, preference=PreferenceConfig()))
    vision = replace(SHORT, name="vision", vision_objective="sigmoid")
    with pytest.raises(ConfigError, match="vision_objective=sigmoid needs whole sequences"):
        check_context(replace(config, stage=vision))
    with pytest.raises(ConfigError, match="context is 0; expected at least 1"):
        RunOptions(context=0)


@pytest.mark.slow
def test_few_packs_reach_every_group():
    """Eight processes in two groups of four: the first packs go to one group and the other."""
    all_of_them = [Processes(rank=rank, count=8, context=4) for rank in range(8)]
    groups = {one.reader: one.rank // 4 for one in all_of_them}
    assert [groups[pack] for pack in range(8)] == [0, 1] * 4


PICTURES = [plan(width=60 + 50 * n, height=90, rule=AnyRes(**CROP)) for n in range(4)]
FRAMES = {
    newline: [plan_video(num_frames=n, rule=VideoRule(**CROP, newline=newline)) for n in (1, 7)]
    for newline in ("one_token", "grid", "frame", "no_token")
}
FAST = [plan_video(num_frames=9, rule=VideoRule(**CROP, newline="grid", slow_every=4))]
NATIVE = Native()
CELLS = [
    plan(width=120, height=70, rule=NATIVE),
    plan_video(num_frames=5, width=60, height=90, rule=NATIVE),
    plan(width=30, height=80, rule=NATIVE),
]
KINDS = {
    "pictures": [*PICTURES, plan(width=9, height=9, rule=SingleCrop(**CROP))],
    **{f"frames {newline}": [PICTURES[0], *one] for newline, one in FRAMES.items()},
    "fast frames": [PICTURES[1], *FAST],
    "cells": CELLS,
}


@pytest.mark.parametrize("parts", [2, 3, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_pieces_are_made_of_their_own_crops(kind, parts):
    """All pieces together are the visual tokens of the whole; what is given is what is got."""
    layouts, width = KINDS[kind], 8
    num_crops = sum(layout.num_crops for layout in layouts)
    per_crop = 1 if kind == "cells" else layouts[0].side ** 2
    patches = torch.randn(num_crops, per_crop, width)
    newline, faster = torch.randn(2, width)
    whole = arrange(patches, layouts, newline, faster).tokens
    cuts, shares = cut_evenly(len(whole), parts), list(pairwise(cut_crops(layouts, parts)))
    spans = [[span] for span in pairwise(cuts)]
    trades = [plan_trade(layouts, spans, place=place) for place in range(parts)]
    boxes = [
        patches[begin:end][list(trade.given)].split(list(trade.num_given))
        for trade, (begin, end) in zip(trades, shares, strict=True)
    ]
    made = []
    for place, trade in enumerate(trades):
        assert [len(box[place]) for box in boxes] == list(trade.num_got)
        got = torch.cat([box[place] for box in boxes])
        for piece in trade.pieces:
            own, got = got[: len(piece.crops)], got[len(piece.crops) :]
            made.append(arrange(own, [piece.layout], newline, faster).tokens[piece.tokens])
        assert not len(got)
    assert torch.equal(torch.cat(made), whole)


def test_a_piece_of_a_video_needs_its_own_frames_alone():
    (video,) = [plan_video(num_frames=8, rule=VideoRule(**CROP))]  # 4 tokens a frame, 1 newline
    (piece,) = find_pieces([video], [(9, 14)])
    assert (piece.crops, piece.tokens) == (range(2, 4), slice(1, 6))


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_crops_are_dealt_out_evenly_and_pictures_stay_whole(parts):
    sizes = [end - begin for begin, end in pairwise(cut_crops(KINDS["pictures"], parts))]
    assert max(sizes) - min(sizes) <= 1
    ends = {0}
    for layout in CELLS:
        whole = layout.num_crops // layout.crops_together
        ends |= {max(ends) + layout.crops_together * (n + 1) for n in range(whole)}
    assert set(cut_crops(CELLS, parts)) <= ends


@distributed
@pytest.mark.slow
def test_context_by_torchrun_end_to_end(tmp_path):
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
        "--standalone",
        *("-m", "onevision", "train", "language", "--output", str(tmp_path / "run")),
        *("--tokenizer", str(BUNDLED["tiny"] / "tokenizer.json")),
        *("--set", "num_samples=8", "--set", "global_batch=4", "--set", "context=2"),
        *("--set", "optimizer=adamw", "--set", "max_tokens=1000"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "wrote " in done.stdout
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2]
    assert inspect(tmp_path / "run" / "checkpoint").config.language.num_heads == 4
