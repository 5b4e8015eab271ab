import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from onevision.anyres import plan, plan_video
from onevision.data.mixture import published_mixtures
from onevision.errors import ConfigError
from onevision.explain import estimate_cost
from onevision.inputs.processor import Processor
from onevision.known_models import ARCHITECTURES, ONEVISION_0_5B, ONEVISION_7B, TINY
from onevision.model.llava import LlavaNetwork
from onevision.train.cost.amounts import (
    Amount,
    count_families,
    count_vision_pairs,
    simulate_mixture,
)
from onevision.train.cost.devices import DEVICES, find_device, get_device_kind, peak_flops
from onevision.train.cost.memory import count_shards
from onevision.train.cost.plan import batch_flops, plan_training
from onevision.train.cost.tables import compact, tables
from onevision.train.curricula.native import INSTRUCT as NATIVE_INSTRUCT
from onevision.train.lora.layers import LoraConfig
from onevision.train.objectives.words import FamilyFeed
from onevision.train.options import RunOptions
from onevision.train.stage import stage_config
from onevision.train.stages import stage_named

MIXTURES = published_mixtures()
H100 = get_device_kind("h100")
KNOWLEDGE = stage_named("knowledge", "7b")


# What a device needs during steps alone.
NO_STEPS = {"copies": 0.0, "gradients": 0.0, "activations": 0.0, "head": 0.0}


def amount(**values):
    one = Amount(
        name="one",
        scenario="text",
        num_samples=1000,
        num_crops=0,
        vision_pairs=values.get("num_crops", 0) * 729**2,  # of SigLIP-384
        visual_tokens=0,
        text_tokens=0,
        labelled_tokens=0,
        pairs=0,
    )
    return replace(one, **values)


def planned(stage=KNOWLEDGE, target=ONEVISION_7B, *, amounts=None, **options):
    amounts = amounts or [amount(text_tokens=1000)]
    return plan_training(stage, target, amounts, **({"kind": H100} | options))


def operations(plan, part):
    return next(one for one in plan.operations if one.part == part)


@pytest.mark.parametrize("size", ["tiny", "7b", "onevision-1.5-4b", "onevision-2-4b-p14m3"])
def test_one_sample_forwards_costs_what_explain_says(size):
    config = ARCHITECTURES[size]
    for layout in (
        plan(width=1000, height=700, rule=config.inputs.image),
        plan_video(num_frames=32, rule=config.inputs.video),
    ):
        tokens, cost = layout.num_tokens, estimate_cost(layout, config)
        read = amount(
            num_samples=1,
            num_crops=layout.num_crops,
            vision_pairs=count_vision_pairs([layout]),
            visual_tokens=tokens,
            pairs=tokens**2 / 2,
        )
        stage = NATIVE_INSTRUCT if config.vision.rotary else KNOWLEDGE
        plan_ = planned(stage, config, amounts=[read])
        assert operations(plan_, "vision_encoder").forward == pytest.approx(cost.vision_flops)
        assert operations(plan_, "language_model").forward == pytest.approx(cost.prefill_flops)


def test_text_costs_six_operations_a_weight_and_token():
    with torch.device("meta"):
        network = LlavaNetwork(ONEVISION_0_5B)
    matrices = sum(p.numel() for p in network.language_model.blocks.parameters() if p.ndim == 2)
    head = network.language_model.head.weight.numel()
    read = amount(text_tokens=500, labelled_tokens=100)  # of 1000 samples; no pairs
    plan_ = planned(target=ONEVISION_0_5B, amounts=[read])
    assert plan_.total_operations == 6 * (matrices * 500_000 + head * 100_000)
    assert operations(plan_, "vision_encoder").total == 0


def test_what_is_frozen_costs_less():
    read = [amount(num_crops=1, visual_tokens=729, text_tokens=16, labelled_tokens=16)]
    align = planned(stage_named("align", "7b"), amounts=read)
    vision, projector, language, head = align.operations
    assert vision.backward == 0
    assert projector.backward == 2 * projector.forward
    assert language.backward == language.forward  # gradients pass through to the projector
    assert head.backward == head.forward
    for part in planned(amounts=read).operations:
        assert part.backward == 2 * part.forward
    alone = planned(stage_named("language"), TINY, amounts=read)
    assert operations(alone, "projector").backward == 0


def test_attention_has_both_gradients_even_where_weights_are_frozen():
    read = [amount(text_tokens=1, pairs=1e9)]
    language = operations(planned(stage_named("align", "7b"), amounts=read), "language_model")
    assert language.backward == pytest.approx(2 * language.forward, rel=1e-4)


def test_recomputing_repeats_the_blocks_where_a_gradient_flows():
    read = [amount(num_crops=1, visual_tokens=729, text_tokens=16, labelled_tokens=16)]
    vision, projector, language, head = planned(amounts=read, recompute=True).operations
    assert vision.recomputed == vision.forward
    assert language.recomputed == language.forward
    assert projector.recomputed == head.recomputed == 0
    align = planned(stage_named("align", "7b"), amounts=read, recompute=True)
    assert operations(align, "vision_encoder").recomputed == 0


def test_steps_hours_and_dollars_by_hand():
    read = [amount(num_samples=2560, text_tokens=1000)]
    plan_ = planned(
        replace(KNOWLEDGE, max_tokens=32000),
        amounts=read,
        num_devices=9,
        kind=get_device_kind("h100", price_per_hour=2.0),
    )
    assert (plan_.num_steps, plan_.num_samples, plan_.num_tokens) == (10, 2560, 2_560_000)
    # 256 thousand tokens a step, in sequences of 32,000 filled to 99 %.
    assert plan_.sequences_per_step == 9
    assert plan_.busy == 1
    assert plan_.hours == pytest.approx(plan_.total_operations / (9 * 989e12 * 0.35) / 3600)
    assert plan_.dollars == pytest.approx(plan_.hours * 9 * 2.0)
    assert replace(plan_, num_devices=18).hours == pytest.approx(plan_.hours)  # half of them wait
    assert replace(plan_, num_devices=5).busy == 0.9


def test_epochs_multiply():
    one = planned()
    three = planned(replace(KNOWLEDGE, epochs=3))
    assert three.num_samples == 3 * one.num_samples
    assert three.total_operations == pytest.approx(3 * one.total_operations)
    assert three.num_steps == math.ceil(3000 / 256)


def test_a_plan_says_whether_it_fits():
    read = [amount(num_crops=4, visual_tokens=3000, text_tokens=200, labelled_tokens=100)]
    assert not planned(amounts=read).fits
    plan_ = planned(amounts=read, num_devices=8, recompute=True)
    assert plan_.fits
    assert not replace(plan_, kind=get_device_kind("rtx4090")).fits


def test_a_plan_counts_the_peaks_at_the_start_and_at_the_end():
    read = [amount(text_tokens=1)]
    plan_ = planned(amounts=read, num_devices=8, recompute=True)
    language = ONEVISION_7B.language
    largest = 4 * language.vocab_size * language.hidden_size
    assert plan_.ends.start == plan_.memory.weights + largest
    assert plan_.ends.end == plan_.memory.weights + plan_.memory.moments + 3 * largest
    rows = dict(tables(plan_)[2].rows)
    assert rows["at the start"] == f"{plan_.ends.start / 2**30:.2f}"
    assert rows["at the end"] == f"{plan_.ends.end / 2**30:.2f}"
    assert rows["steps, together"] == f"{plan_.memory.total / 2**30:.2f}"
    small = replace(plan_.kind, memory_bytes=(plan_.ends.end - 1) / 0.92)
    few = replace(plan_, kind=small, memory=replace(plan_.memory, **NO_STEPS))
    assert not few.fits
    assert replace(few, ends=replace(plan_.ends, end=0.0)).fits


def test_devices():
    assert set(DEVICES) == {"h200", "h100", "a100-80gb", "a100-40gb", "l40s", "rtx4090", "cpu"}
    assert get_device_kind("h200", price_per_hour=1.5) == replace(
        DEVICES["h200"], price_per_hour=1.5
    )
    with pytest.raises(ConfigError, match="no device 'h300'; did you mean 'h200'"):
        get_device_kind("h300")


@pytest.mark.parametrize(
    ("driver", "tflops"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA H100 PCIe", None),  # slower than the table's
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("CPU", None),
    ],
)
def test_a_peak_is_known_by_the_whole_name_of_a_device(driver, tflops):
    assert peak_flops(driver) == (None if tflops is None else tflops * 1e12)
    assert peak_flops(driver, tflops=2.5) == 2.5e12


def test_no_two_kinds_of_device_have_one_name():
    names = [name for kind in DEVICES.values() for name in kind.driver_names]
    assert len(names) == len(set(names))


def test_a_plan_without_counts_or_devices_is_refused():
    with pytest.raises(ConfigError, match="no source has a count of samples"):
        planned(amounts=[amount(num_samples=None)])
    with pytest.raises(ConfigError, match="0 devices; expected at least 1"):
        planned(num_devices=0)


def test_tables_say_what_is_assumed():
    stage = stage_named("onevision", "7b")
    read = simulate_mixture(MIXTURES / stage.mixture, stage, ONEVISION_7B.inputs)
    sources, parts, memory, run = tables(planned(stage, amounts=read, num_devices=8))
    for table in (sources, parts, memory, run):
        assert {len(row) for row in table.rows} == {len(table.header)}
    assert [row[:2] for row in sources.rows] == [
        ("single_image", "1,186,889"),
        ("text", "209,836"),
        ("multi_image", "311,085"),
        ("video", "255,000"),
    ]
    assert sources.remarks[0].startswith("simulated")
    assert "m4_mantis" in sources.remarks[1]
    assert dict(run.rows)["optimiser steps"] == "7,668"
    assert "35% of 989 TFLOP/s" in run.remarks[0]
    assert "GiB of h100" in memory.remarks[0]


def test_compact():
    assert [compact(n) for n in (0, 999, 1234, 12.6e9)] == ["0", "999", "1.23k", "12.6G"]


def test_adapters_cost_two_thirds_of_what_they_stand_beside_and_a_little():
    read = [amount(text_tokens=1000, labelled_tokens=100)]
    whole = planned(target=ONEVISION_0_5B, amounts=read)
    lora = LoraConfig(rank=8)
    beside = planned(target=ONEVISION_0_5B, amounts=read, lora=lora)
    with torch.device("meta"):
        network = LlavaNetwork(ONEVISION_0_5B)
    linear = [m for m in network.language_model.blocks.modules() if isinstance(m, nn.Linear)]
    added = sum(8 * (m.in_features + m.out_features) for m in linear)
    language, all_of_it = (operations(p, "language_model") for p in (beside, whole))
    assert language.forward == all_of_it.forward + 2 * added * 1e6
    assert language.backward == all_of_it.forward + 4 * added * 1e6
    assert operations(beside, "head").backward == operations(whole, "head").forward


def test_a_batch_costs_what_is_planned_of_its_samples(tokenizer):
    stage = replace(stage_named("single_image"), num_samples=1, families={"scenes": 1.0})
    config = stage_config(stage, TINY)
    feed = FamilyFeed(stage, Processor(config.inputs, tokenizer), seed=0)
    (one,) = feed.micro_batches([0])
    amounts = count_families(stage, feed.processor, rows_each=1)
    planned = plan_training(stage, TINY, amounts, kind=get_device_kind("cpu")).total_operations
    assert batch_flops(stage, config, one.batch) == pytest.approx(planned, rel=0.01)
    frozen = replace(stage, trainable=("language_model",), vision_learning_rate=None)
    assert batch_flops(frozen, config, one.batch) < batch_flops(stage, config, one.batch)


READ = [amount(num_crops=4, visual_tokens=3000, text_tokens=200, labelled_tokens=100)]


def test_a_copy_on_every_device_needs_the_memory_of_one():
    alone = planned(amounts=READ).memory
    copies = planned(amounts=READ, num_devices=8, shards=1)
    shared = planned(amounts=READ, num_devices=8)
    halves = planned(amounts=READ, num_devices=8, shards=4)
    assert copies.memory == alone
    assert shared.memory.moments == alone.moments / 8
    assert halves.memory.moments == alone.moments / 4
    assert dict(tables(copies)[3].rows)["devices"] == "8 x h100, 1 to a copy"
    assert "set sharing=shard" in tables(copies)[2].remarks[0]


@pytest.mark.parametrize(
    ("settings", "shards"),
    [({}, 1), ({"sharing": "shard"}, 8), ({"sharing": "shard", "replicas": 2}, 4)],
)
def test_settings_say_how_many_devices_share_a_copy(settings, shards):
    assert count_shards(RunOptions(**settings), num_devices=8) == shards


def test_replicas_must_divide_the_devices():
    with pytest.raises(ConfigError, match="replicas is 3; expected a divisor of the 8 devices"):
        count_shards(RunOptions(sharing="shard", replicas=3), num_devices=8)


def test_fp32_keeps_no_copies_and_wider_activations():
    low, high = (planned(amounts=READ, precision=kind).memory for kind in ("bf16", "fp32"))
    assert (low.copies, high.copies) == (low.weights / 2, 0)
    assert high.activations == 2 * low.activations
    assert high.weights == low.weights


def test_the_device_of_this_machine_is_measured():
    kind = find_device("cpu", width=64, dtype=torch.float32)
    assert kind.peak_flops > 0
    assert kind.memory_bytes > 0
    assert find_device("cpu", width=64, dtype=torch.float32, memory_gib=2).memory_bytes == 2 * 2**30
    with pytest.raises(ConfigError, match="cuda:77 is not here"):
        find_device("cuda:77", width=64, dtype=torch.float32)
