"""Quantised checkpoints of other programs: exact weights, and one line for what is not read."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from onevision import load
from onevision.accelerate.apply import accelerate
from onevision.accelerate.int4 import Int4Linear
from onevision.checkpoint.load import inspect, load_network
from onevision.checkpoint.quantised_formats import QuantisedTensor, pack, unpack
from onevision.checkpoint.save import convert
from onevision.errors import CheckpointError, InputError
from tests.checkpoint import layouts
from tests.checkpoint.test_family import LLAVA_1_5, saved

WEIGHTS = "model.safetensors"
LAYER = "language_model.model.layers.0.mlp.up_proj"
OURS = "language_model.blocks.0.mlp.up"
OUTPUTS, INPUTS, GROUP = 48, 32, 16
CHANNEL = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}
TOKEN = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}


def in_order(k):
    return k // GROUP


def mixed(k):
    return (k * 7 + 3) % 2


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A LLaVA-1.5 at toy sizes in bf16 and transformers' layout."""
    root = tmp_path_factory.mktemp("plain")
    ours = saved(root / "ours", LLAVA_1_5)
    network = load_network(inspect(ours)).bfloat16()
    tensors = {name: t.contiguous() for name, t in network.state_dict().items()}
    save_file(tensors, ours / WEIGHTS)
    (ours / "checksums.json").unlink()
    convert(inspect(ours), root / "hf", layout="llava-hf")
    return root / "hf"


def quantised(plain, place, parts, stated, *, layer=LAYER):
    """A copy of a checkpoint with `parts` in the place of one weight."""
    shutil.copytree(plain, place)
    tensors = load_file(place / WEIGHTS)
    tensors.pop(f"{layer}.weight")
    tensors |= {f"{layer}.{end}": part for end, part in parts.items()}
    save_file(tensors, place / WEIGHTS)
    if stated is not None:
        state(place, stated)
    return place


def state(place, stated):
    values = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(values | {"quantization_config": stated}))


def compressed(storage="pack-quantized", *, weights, inputs=None, **more):
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    return {
        "quant_method": "compressed-tensors",
        "format": storage,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": [],
        **more,
    }


def four_bits(**changes):
    return {"num_bits": 4, "type": "int", "strategy": "group", "group_size": GROUP, **changes}


def int8_parts():
    generator = torch.Generator().manual_seed(1)
    numbers = torch.randint(-127, 128, (OUTPUTS, INPUTS), generator=generator).to(torch.int8)
    return {"weight": numbers, "weight_scale": torch.rand(OUTPUTS, 1, generator=generator) + 0.01}


def test_words_hold_numbers_from_the_lowest_bits():
    assert unpack(torch.tensor([[0x76543210]], dtype=torch.int32), bits=4).tolist() == [
        [0, 1, 2, 3, 4, 5, 6, 7]
    ]
    assert unpack(torch.tensor([[-1]], dtype=torch.int32), bits=8).tolist() == [[255] * 4]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_packing_is_undone_by_unpacking(bits):
    numbers = torch.randint(0, 1 << bits, (3, 40))
    assert torch.equal(unpack(pack(numbers, bits=bits), bits=bits)[:, :40], numbers)


FOUR = layouts.random_layer(OUTPUTS, INPUTS, GROUP)
EIGHT = layouts.random_layer(OUTPUTS, INPUTS, GROUP, bits=8)
MIDDLE = [[8] * 2] * OUTPUTS
FILES = {
    "compressed-tensors, symmetric": (
        layouts.compressed_tensors(FOUR[0], MIDDLE, FOUR[2], symmetric=True),
        compressed(weights=four_bits(symmetric=True)),
        layouts.expected(FOUR[0], MIDDLE, FOUR[2], in_order, torch.bfloat16),
    ),
    "compressed-tensors, zero points": (
        layouts.compressed_tensors(*FOUR),
        compressed(weights=four_bits(symmetric=False)),
        layouts.expected(*FOUR, in_order, torch.bfloat16),
    ),
    "compressed-tensors, 8 bits": (
        layouts.compressed_tensors(*EIGHT, bits=8),
        compressed(weights=four_bits(num_bits=8, symmetric=False)),
        layouts.expected(*EIGHT, in_order, torch.bfloat16),
    ),
    "AWQ": (
        layouts.awq(*FOUR),
        {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm",
         "zero_point": True},
        layouts.expected(*FOUR, in_order, torch.bfloat16),
    ),
    "GPTQ": (
        layouts.gptq(*FOUR, in_order),
        {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False},
        layouts.expected(*FOUR, in_order, torch.bfloat16),
    ),
    "GPTQ, act-order": (
        layouts.gptq(*FOUR, mixed),
        {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": True},
        layouts.expected(*FOUR, mixed, torch.bfloat16),
    ),
    "GPTQ v2, 8 bits": (
        layouts.gptq(*EIGHT, in_order, bits=8, version=2),
        {"quant_method": "gptq", "bits": 8, "group_size": GROUP, "checkpoint_format": "gptq_v2"},
        layouts.expected(*EIGHT, in_order, torch.bfloat16),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_weights_are_those_of_the_published_layout(plain, tmp_path, kind):
    parts, stated, weight = FILES[kind]
    place = quantised(plain, tmp_path / "a", parts, stated)
    network = load_network(inspect(place))
    assert torch.equal(network.get_submodule(OURS).weight, weight)
    assert load(place).ask("Hi", max_new_tokens=2).finish_reason in ("stop", "length")


def test_autogptq_may_say_so_in_a_file_of_its_own(plain, tmp_path):
    parts, stated, weight = FILES["GPTQ"]
    place = quantised(plain, tmp_path / "a", parts, None)
    beside = {key: value for key, value in stated.items() if key != "quant_method"}
    (place / "quantize_config.json").write_text(json.dumps(beside))
    assert torch.equal(inspect(place).tensors[f"{OURS}.weight"].read(), weight)


def test_int8_files_become_int8_layers(plain, tmp_path):
    parts = int8_parts()
    stated = compressed("int-quantized", weights=CHANNEL, inputs=TOKEN)
    place = quantised(plain, tmp_path / "a", parts, stated)
    layer = load_network(inspect(place), dtype=torch.float32).get_submodule(OURS)
    assert torch.equal(layer.weight, parts["weight"])
    assert torch.equal(layer.scale, parts["weight_scale"][:, 0])
    stored = inspect(place).tensors[f"{OURS}.weight"]
    assert isinstance(stored, QuantisedTensor)
    exact = parts["weight"].double() * parts["weight_scale"].double()
    assert torch.equal(stored.read(), exact.float().bfloat16())


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, r"\(bitsandbytes\)"),
        ({"quant_method": "fp8"}, r"\(fp8\)"),
        ({"quant_method": "gguf"}, r"\(gguf\)"),
        ("awq", "is awq; expected an object"),
        ({"quant_method": "awq", "bits": 4, "version": "gemv"}, "version is 'gemv', supported"),
        ({"quant_method": "gptq", "bits": 3}, "GPTQ of 3 bits"),
        ({"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}, "the format marlin"),
        ({"quant_method": "gptq", "bits": 4, "group_size": "x"}, "group_size is 'x'; expected"),
        ({"quant_method": "gptq", "bits": 4, "dynamic": {"+:a": {}}}, "some layers: dynamic"),
        (compressed("float-quantized", weights=CHANNEL), "compressed-tensors float-quantized"),
        (compressed("nvfp4-pack-quantized", weights={}), "compressed-tensors nvfp4"),
        (compressed("int-quantized", weights=CHANNEL | {"symmetric": False}, inputs=TOKEN),
         "weights: symmetric is False"),
        (compressed("int-quantized", weights=CHANNEL, inputs=TOKEN | {"dynamic": False}),
         "input_activations: dynamic is False"),
        (compressed("int-quantized", weights=CHANNEL), "input_activations: dynamic is False"),
        (compressed(weights=four_bits(num_bits=3)), "of 3 bits"),
        (compressed(weights=four_bits(strategy="block")), "strategy block"),
        (compressed(weights=four_bits(actorder="group")), "without weight_g_idx"),
        (compressed(weights=four_bits(), kv_cache_scheme={"num_bits": 8}), "with kv_cache_scheme"),
        (compressed(weights=four_bits(), sparsity_config={"format": "sparse-24-bitmask"}),
         "sparsity sparse-24"),
        (compressed(weights=four_bits()) | {"config_groups": [1]}, r"config_groups is \[1\]; exp"),
    ],
)  # fmt: skip
def test_other_files_are_refused_by_their_names(plain, tmp_path, stated, message):
    parts = FILES["compressed-tensors, symmetric"][0]
    place = quantised(plain, tmp_path / "a", parts, stated)
    with pytest.raises(CheckpointError, match=message) as caught:
        inspect(place)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("AWQ", {"scales": None}, "up_proj.scales is missing beside"),
        ("AWQ", {"qzeros": torch.zeros(1, 6, dtype=torch.int32)}, r"qzeros is \[1, 6\]; expected"),
        ("GPTQ", {"g_idx": torch.full((INPUTS,), 9)}, r"g_idx names group 9; expected 0 to 1"),
        ("compressed-tensors, zero points", {"weight_zero_point": None}, "zero_point is missing"),
        ("compressed-tensors, symmetric", {"weight_scale": None}, "weight_scale is missing"),
        ("compressed-tensors, symmetric", {"weight_shape": torch.tensor([48, 40])}, "expected"),
        ("compressed-tensors, symmetric", {"weight_shape": torch.ones(2)}, "two whole numbers"),
        ("compressed-tensors, symmetric",
         {"weight_packed": torch.zeros(48, 4, 2, dtype=torch.int32)}, "weight_packed is"),
        ("compressed-tensors, symmetric", {"input_scale": torch.ones(1)}, "1 unexpected"),
    ],
)  # fmt: skip
def test_damaged_parts_are_named(plain, tmp_path, kind, change, message):
    parts, stated, _ = FILES[kind]
    changed = {end: part for end, part in (parts | change).items() if part is not None}
    place = quantised(plain, tmp_path / "a", changed, stated)
    with pytest.raises(CheckpointError, match=message):
        inspect(place)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf"), -1.0])
@pytest.mark.parametrize("kind", ["int8", "AWQ"])
def test_scales_that_are_none_are_refused(plain, tmp_path, kind, value):
    if kind == "int8":
        parts, end = int8_parts(), "weight_scale"
        stated = compressed("int-quantized", weights=CHANNEL, inputs=TOKEN)
    else:
        (parts, stated, _), end = FILES["AWQ"], "scales"
    scale = parts[end].clone()
    scale[1, 0] = value
    place = quantised(plain, tmp_path / "a", parts | {end: scale}, stated)
    with pytest.raises(CheckpointError, match=rf"up_proj\.{end} holds scales that are zero, neg"):
        load_network(inspect(place))


def test_a_config_that_says_quantised_needs_quantised_tensors(plain, tmp_path):
    shutil.copytree(plain, tmp_path / "a")
    state(tmp_path / "a", {"quant_method": "awq", "bits": 4})
    with pytest.raises(CheckpointError, match=r"quantised \(W4A16, group 128 \(AWQ"):
        inspect(tmp_path / "a")
    state(tmp_path / "a", compressed(weights=four_bits()))
    with pytest.raises(CheckpointError, match="but no tensor is"):
        inspect(tmp_path / "a")


WIDE, WIDE_GROUP = 128, 64
WIDE_FOUR = layouts.random_layer(OUTPUTS, WIDE, WIDE_GROUP)
WIDE_FILES = {
    "compressed-tensors": (
        layouts.compressed_tensors(*WIDE_FOUR),
        compressed(weights=four_bits(symmetric=False, group_size=WIDE_GROUP)),
    ),
    "AWQ": (
        layouts.awq(*WIDE_FOUR),
        {"quant_method": "awq", "bits": 4, "group_size": WIDE_GROUP, "version": "gemm",
         "zero_point": True},
    ),
    "GPTQ": (
        layouts.gptq(*WIDE_FOUR, lambda k: k // WIDE_GROUP),
        {"quant_method": "gptq", "bits": 4, "group_size": WIDE_GROUP, "desc_act": False},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A toy checkpoint of layers that groups of 64 inputs divide."""
    root = tmp_path_factory.mktemp("wide")
    config = replace(LLAVA_1_5, language=replace(LLAVA_1_5.language, hidden_size=WIDE))
    convert(inspect(saved(root / "ours", config)), root / "hf", layout="llava-hf")
    return root / "hf"


@pytest.mark.parametrize("kind", WIDE_FILES)
def test_weights_of_4_bits_stay_so_if_asked(wide, tmp_path, kind):
    parts, stated = WIDE_FILES[kind]
    place = quantised(wide, tmp_path / "a", parts, stated)
    exact = inspect(place).tensors[f"{OURS}.weight"].read().float()
    layer = load_network(inspect(place), keep_int4=True).get_submodule(OURS)
    assert isinstance(layer, Int4Linear)
    assert torch.equal(layer.numbers.int(), torch.tensor(WIDE_FOUR[0]).int())
    found = layer(torch.eye(WIDE)).T
    # Scales and middles are rounded to bf16, of which some have fp16.
    assert ((found - exact).abs() <= 2**-7 * exact.abs().max()).all()
    multiplied_out, kept = load(place), load(place, quantize="int4")
    assert "(1 in 4 bits" in kept.arithmetic
    assert "4 bits" not in multiplied_out.arithmetic
    assert kept.ask("Hi", max_new_tokens=2).finish_reason in ("stop", "length")
    with pytest.raises(InputError, match="quantised already"):
        accelerate(load_network(inspect(place), keep_int4=True), quantize="int8")


@pytest.mark.parametrize("kind", ["compressed-tensors, symmetric", "GPTQ, act-order"])
def test_weights_of_4_bits_in_small_groups_cannot_stay_so(plain, tmp_path, kind):
    parts, stated, _ = FILES[kind]
    place = quantised(plain, tmp_path / "a", parts, stated)
    with pytest.raises(InputError, match="groups of 64 inputs or more, without act-order; these"):
        load(place, quantize="int4")
