"""From `onevision quantize` to answers by every door, and to files that hold what was rounded."""

import json
import shutil
from dataclasses import replace

import httpx2
import pytest
import torch
from PIL import Image as PIL
from safetensors.torch import load_file, save_file

from onevision import load
from onevision.accelerate.int8 import Int8Linear
from onevision.checkpoint.files import find_tensors
from onevision.checkpoint.hub import BUNDLED
from onevision.checkpoint.load import inspect, load_network
from onevision.checkpoint.save import save
from onevision.errors import CheckpointError
from onevision.inputs.tokenizer import Tokenizer
from onevision.known_models import TINY
from onevision.model.llava import LlavaNetwork
from onevision.quantization.calibration import DEMO
from onevision.quantization.quantize import QuantizeConfig
from onevision.quantization.rounding import W4A16, W8A8
from onevision.quantization.run import quantize_model
from tests.cli.invoke import fail, invoke
from tests.conftest import randomise
from tests.serve.conftest import CHAT, image_part, square, start, stop, text_part, user
from tests.serve.conftest import encoded as encode

SINGLE = DEMO / "single.png"
QUESTION = "How many objects are in the picture?"
WEIGHTS = "model.safetensors"
FEW = ("--samples", "4")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The embedded model, quantised by the command, and what it printed."""
    out = tmp_path_factory.mktemp("quantised") / "w8a8"
    said = invoke("quantize", "tiny", "-o", out, *FEW)
    return out, said


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    out = tmp_path_factory.mktemp("quantised") / "w4a16"
    invoke("quantize", "tiny", "-o", out, "--scheme", "w4a16", "--keep-head", *FEW)
    return out


def test_the_command_says_where_samples_came_from_and_what_it_cost(place):
    out, said = place
    lines = said.splitlines()
    assert lines[0].startswith("calibrates on the embedded demo; --calibrate DIR")
    assert "language_model gate, up" in said
    report = json.loads((out / "quantization.json").read_text())
    assert report["num_samples"] == 4
    assert f"KL {report['kl']:.2g} nats" in said
    assert report["kl"] < 0.05 and report["same"] > 0.9
    assert len(report["groups"]) == 6 * 4 + 6 * 4 + 1
    assert sum((out / name).stat().st_size for name in (WEIGHTS,)) < 12 * 2**20


@pytest.mark.parametrize("options", [(), ("--all-layers",)])
def test_what_vllm_could_not_read_is_kept_and_said(tmp_path, options):
    """A SigLIP whose MLPs are 200 wide, as so400m's are 4,304."""
    config = replace(
        TINY,
        vision=replace(TINY.vision, num_layers=3, intermediate_size=200),
        language=replace(TINY.language, num_layers=1),
    )
    tokenizer = Tokenizer.from_directory(BUNDLED["tiny"])
    save(randomise(LlavaNetwork(config)), config, tokenizer, tmp_path / "odd")
    out = tmp_path / "out"
    said = invoke("quantize", tmp_path / "odd", "-o", out, "--max-error", "9", *options, *FEW)
    kept = [line for line in said.splitlines() if line.startswith("kept")]
    stored = [name for name in find_tensors(out) if name.endswith("fc1.weight_scale")]
    if options:
        assert (kept, len(stored)) == ([], 3)
    else:
        (line,) = kept
        assert "blocks.0.mlp.up" in line and " and 2 others: in 8 bits vLLM reads" in line
        assert stored == []


def test_a_quantised_file_answers_as_the_model_does(place):
    out, _ = place
    asked = ("ask", QUESTION, "--image", SINGLE)
    assert invoke(*asked, "-m", out) == invoke(*asked)
    assert "W8A8 (compressed-tensors int-quantized)" in invoke("models", out)
    assert "BF16" in invoke("models", "tiny")


def test_a_file_for_int8_is_computed_in_int8_and_quantised_once(place):
    out, _ = place
    assert load(out).arithmetic.startswith("int8")
    assert "quantised already" in fail("ask", "Hi", "-m", out, "--quantize", "int8")


def test_integers_and_scales_are_there_and_back_bit_equal(place):
    out, _ = place
    groups = json.loads((out / "quantization.json").read_text())["groups"]
    info = inspect(out)
    network = load_network(info, dtype=torch.bfloat16)
    stored = load_file(out / WEIGHTS)
    key = "language_model.model.layers.2.mlp.gate_proj"
    layer = network.get_submodule("language_model.blocks.2.mlp.gate")
    assert isinstance(layer, Int8Linear)
    assert torch.equal(layer.weight, stored[f"{key}.weight"])
    assert torch.equal(layer.scale, stored[f"{key}.weight_scale"][:, 0])
    assert layer.scale.dtype == torch.float32
    names = [name for group in groups if not group["kept"] for name in group["layers"]]
    assert sum(isinstance(part, Int8Linear) for part in network.modules()) == len(names)
    for name in names:
        tensor = info.tensors[f"{name}.weight"].read()
        found = network.get_submodule(name)
        exact = found.weight.float() * found.scale[:, None]
        assert torch.equal(tensor, exact.bfloat16())


@pytest.mark.slow
def test_a_server_and_a_batch_answer_from_a_quantised_file(place, tmp_path):
    out, _ = place
    body = {
        "model": "m",
        "messages": user(image_part(encode(square())), text_part("What colour is the square?")),
        "max_tokens": 4,
    }
    running = start(tmp_path, "--model", str(out), "--name", "m")
    try:
        answer = httpx2.post(f"{running.url}{CHAT}", json=body, timeout=60).json()
    finally:
        stop(running)
    assert answer["choices"][0]["message"]["content"] == "red"
    line = {"custom_id": "1", "method": "POST", "url": CHAT, "body": body}
    (tmp_path / "in.jsonl").write_text(json.dumps(line) + "\n")
    invoke("batch", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl", "-m", out, "--name", "m")
    told = json.loads((tmp_path / "out.jsonl").read_text())["response"]["body"]
    assert told["choices"][0]["message"]["content"] == "red"


@pytest.mark.slow
def test_a_quantised_file_is_evaluated(place, tmp_path):
    out, _ = place
    scenario = ("--count", "20", "--scenario", "single_image")
    said = invoke("eval", "-m", out, *scenario, "-o", tmp_path / "a.jsonl")
    invoke("eval", *scenario, "-o", tmp_path / "b.jsonl")
    read = [(tmp_path / f"{n}.jsonl").read_text().splitlines() for n in "ab"]
    ours, plain = ([json.loads(line)["answer"] for line in lines] for lines in read)
    assert said.startswith("single_image: sighted ")
    assert sum(a == b for a, b in zip(ours, plain, strict=True)) >= 0.9 * len(plain)


def test_four_bits_answer_too(four):
    asked = ("ask", QUESTION, "--image", SINGLE)
    assert invoke(*asked, "-m", four) == invoke(*asked)
    assert "W4A16, group 64 (compressed-tensors pack-quantized)" in invoke("models", four)
    info = inspect(four)
    assert info.config.language.tie_embeddings
    packed = load_file(four / WEIGHTS)["language_model.model.layers.0.mlp.up_proj.weight_packed"]
    assert packed.dtype == torch.int32


def test_what_is_quantised_is_not_quantised_again_trained_or_adapted(place, tmp_path):
    out, _ = place
    assert "are quantised, W8A8" in fail("quantize", out, "-o", tmp_path / "a")
    turns = [{"from": "human", "value": "<image>\nHow many?"}, {"from": "gpt", "value": "3"}]
    record = {"image": str(SINGLE), "conversations": turns}
    (tmp_path / "rows.json").write_text(json.dumps([record]))
    message = fail("finetune", tmp_path / "rows.json", "--from", out, "-o", tmp_path / "b")
    assert "quantization_config: compressed-tensors" in message and "original checkpoint" in message
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 1, "lora_alpha": 1}')
    save_file({"x": torch.zeros(1)}, adapter / "adapter_model.safetensors")
    message = fail("ask", "Hi", "-m", out, "--adapter", adapter)
    assert "an adapter is merged into those of the original checkpoint" in message
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def test_converting_multiplies_out_when_asked(place, tmp_path):
    out, _ = place
    message = fail("convert", out, tmp_path / "a", "--layout", "onevision")
    assert "--dequantize" in message and not (tmp_path / "a").exists()
    invoke("convert", out, tmp_path / "a", "--layout", "onevision", "--dequantize")
    plain, quantised = inspect(tmp_path / "a"), inspect(out)
    assert plain.scheme is None
    for name, tensor in quantised.tensors.items():
        assert torch.equal(plain.tensors[name].read(), tensor.read())
    assert fail("convert", "tiny", tmp_path / "b", "--dequantize").startswith("tiny: no weight is")


def test_a_picture_that_is_broken_is_left_out_and_counted(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, colour in enumerate(("red", "green")):
        PIL.new("RGB", (90, 70), colour).save(folder / f"{number}.png")
    (folder / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    said = invoke("quantize", "tiny", "-o", tmp_path / "a", "--calibrate", folder)
    assert "3 pictures of" in said and ": 4 samples, 2 left out" in said
    assert "left out of calibration: " in said and "2.png" in said
    for number in range(2):
        (folder / f"{number}.png").unlink()
    message = fail("quantize", "tiny", "-o", tmp_path / "b", "--calibrate", folder)
    assert "no usable calibration sample; the first: " in message
    assert not (tmp_path / "b").exists()


@pytest.mark.slow
def test_records_calibrate_with_their_own_answers(tmp_path):
    shutil.copyfile(SINGLE, tmp_path / "a.png")
    rows = [
        {"image": "a.png", "conversations": [
            {"from": "human", "value": "<image>\nHow many objects?"},
            {"from": "gpt", "value": "There are three."}]},
        {"image": "missing.png", "conversations": [
            {"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}]},
    ]  # fmt: skip
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    said = invoke("quantize", "tiny", "-o", tmp_path / "out", "--calibrate", tmp_path / "rows.json")
    assert "2 records of" in said and ": 1 samples, 1 left out" in said


def test_mistakes_are_one_line_and_leave_nothing(place, tmp_path):
    out, _ = place
    assert "exists; give the name of a new directory" in fail("quantize", "tiny", "-o", out)
    assert "expected w8a8 or w4a16" in fail(
        "quantize", "tiny", "-o", tmp_path / "a", "--scheme", "x"
    )
    missing = ("--calibrate", tmp_path / "nowhere")
    assert "nowhere" in fail("quantize", "tiny", "-o", tmp_path / "a", *missing)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("scheme", [W8A8, W4A16])
def test_nothing_is_written_if_writing_fails(tmp_path, scheme, monkeypatch):
    shutil.copytree(BUNDLED["tiny"], tmp_path / "m")
    values = json.loads((tmp_path / "m" / "config.json").read_text())
    values["inputs"]["video"]["newline"] = "grid"
    (tmp_path / "m" / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="write it as lmms-lab or onevision"):
        quantize_model(tmp_path / "m", tmp_path / "out", QuantizeConfig(scheme=scheme))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]


def test_a_damaged_file_is_named_by_every_door(place, tmp_path):
    out, _ = place
    key = "vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight_scale"
    shutil.copytree(out, tmp_path / "a")
    tensors = load_file(tmp_path / "a" / WEIGHTS)
    save_file({n: t for n, t in tensors.items() if n != key}, tmp_path / "a" / WEIGHTS)
    assert f"{key} is missing beside" in fail("ask", "Hi", "-m", tmp_path / "a")
    tensors[key] = tensors[key] * float("nan")
    save_file(tensors, tmp_path / "a" / WEIGHTS)
    message = fail("ask", "Hi", "-m", tmp_path / "a", "--no-verify")
    assert "fc1.weight_scale holds scales that are zero, negative or not finite" in message
    tensors[key] = torch.ones_like(tensors[key])
    save_file(tensors, tmp_path / "a" / WEIGHTS)
    assert "its bytes are not those of checksums.json" in fail("ask", "Hi", "-m", tmp_path / "a")


def test_an_int8_file_is_read_without_a_copy_in_bf16(place):
    out, _ = place
    network = load_network(inspect(out), dtype=torch.bfloat16)
    stored = find_tensors(out)
    int8 = sum(one.num_bytes // 8 for one in stored.values() if one.dtype == "I8")
    held = [part for part in network.modules() if isinstance(part, Int8Linear)]
    assert sum(part.weight.numel() for part in held) == int8
    assert {part.weight.dtype for part in held} == {torch.int8}
