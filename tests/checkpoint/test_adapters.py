"""LoRA adapters: every tensor is applied at the scale that PEFT gives it, or named in an error."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from onevision.checkpoint.load import inspect
from onevision.errors import CheckpointError
from tests.checkpoint.test_family import projector_alone, tensors_of, without_tower
from tests.cli.conftest import run

PREFIX = "base_model.model."
LAYER = "model.layers.1.self_attn.q_proj"
OURS = "language_model.blocks.1.attention.query.weight"
CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none"}


@pytest.fixture
def parts(tmp_path):
    """An adapter directory with one adapted layer, its base and its tower."""
    base, clip = without_tower(tmp_path)
    adapter = tmp_path / "lora"
    beside = projector_alone(tmp_path, adapter, prefix=PREFIX)
    save_file(beside, adapter / "non_lora_trainables.safetensors")
    write(adapter)
    return adapter, base, clip


def write(adapter, config=CONFIG, **more):
    pair = {"lora_A": torch.ones(4, 32), "lora_B": torch.ones(32, 4)}
    tensors = {f"{PREFIX}{LAYER}.{name}.weight": tensor for name, tensor in pair.items()}
    save_file(tensors | more, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("changes", "scale"),
    [
        ({}, 2.0),
        ({"alpha_pattern": {"q_proj": 2}}, 0.5),
        ({"alpha_pattern": {"k_proj": 2}}, 2.0),
        ({"alpha_pattern": {r"layers\.[01]\.self_attn\.q_proj": 16, "q_proj": 2}}, 4.0),
        ({"r": 16, "rank_pattern": {"layers.1.self_attn.q_proj": 4}}, 2.0),
        ({"use_rslora": True}, 4.0),
    ],
)
def test_patterns_set_the_scale_as_in_peft(parts, tmp_path, changes, scale):
    adapter, base, clip = parts
    write(adapter, CONFIG | changes)
    found = tensors_of(inspect(adapter, base=base, tower=clip))[OURS]
    before = tensors_of(inspect(tmp_path / "ours"))[OURS]
    assert torch.allclose(found - before, torch.full((32, 32), 4 * scale), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora_alpha": None}, r"lora_alpha is missing; expected a positive number"),
        ({"lora_alpha": "8"}, "lora_alpha is '8'; expected a positive number"),
        ({"r": 0}, "r is 0; expected a positive number"),
        ({"r": 8}, r"the rank of model\.layers\.1\.self_attn\.q_proj is 8, its tensors have 4"),
        ({"rank_pattern": {"q_proj": 2}}, "q_proj is 2, its tensors have 4"),
        ({"alpha_pattern": {"(": 2}}, r"'\(' is no pattern of layer names"),
        ({"alpha_pattern": [2]}, r"alpha_pattern is \[2\]; expected numbers by layer name"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; only 'LORA' is supported: merge it with PEFT"),
        ({"init_lora_weights": "pissa_niter_4"}, "'pissa_niter_4', which changes the base too"),
    ],
)
def test_what_would_give_another_scale_is_refused(parts, changes, message):
    adapter, base, clip = parts
    write(adapter, {k: v for k, v in (CONFIG | changes).items() if v is not None})
    with pytest.raises(CheckpointError, match=message):
        inspect(adapter, base=base, tower=clip)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"{LAYER}.ia3_l", "not applied: 1 tensor, neither of a LoRA pair .*"),
        (f"{LAYER}.lora_magnitude_vector", "1 tensor of .* would not be applied .*"),
        (f"{LAYER}.lora_B.bias", "1 tensor of .* would not be applied .*"),
        ("model.embed_tokens.lora_embedding_A", ""),
    ],
)
def test_a_tensor_that_is_not_applied_is_an_error(parts, name, message):
    adapter, base, clip = parts
    write(adapter, **{PREFIX + name: torch.ones(32)})
    with pytest.raises(CheckpointError, match=message + name):
        inspect(adapter, base=base, tower=clip)


def test_half_a_pair_and_other_shapes_are_named(parts):
    adapter, base, clip = parts
    whole = load_file(adapter / "adapter_model.safetensors")
    first, second = (f"{PREFIX}{LAYER}.lora_{x}.weight" for x in "AB")
    save_file({first: whole[first]}, adapter / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="lora_A.weight has no .*lora_B.weight beside it"):
        inspect(adapter, base=base, tower=clip)
    save_file(whole | {second: torch.ones(16, 4)}, adapter / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r"lora_B.weight \[16, 4\] do not fit .* \[32, 32\]"):
        inspect(adapter, base=base, tower=clip)


def test_what_trained_whole_replaces_the_bases(parts):
    adapter, base, clip = parts
    head = torch.full((1024, 32), 3.0)
    write(adapter, **{f"{PREFIX}lm_head.weight": head})
    found = tensors_of(inspect(adapter, base=base, tower=clip))
    assert torch.equal(found["language_model.head.weight"], head)


def test_an_adapter_beside_whole_weights_is_not_ignored(parts):
    _, base, clip = parts
    write(base)
    done = run(
        "convert", base, base.parent / "out", "--layout", "onevision", "--vision-tower", clip
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "holds whole weights and LoRA adapters (adapter_config.json)" in done.stderr
    assert not (base.parent / "out").exists()


def test_a_base_or_a_tower_that_is_not_needed_is_not_ignored(parts, tmp_path):
    _, base, clip = parts
    with pytest.raises(CheckpointError, match=r"holds whole weights, .* leave --base out"):
        inspect(base, base=base, tower=clip)
    with pytest.raises(
        CheckpointError, match=r"a vision tower of its own, .* leave --vision-tower"
    ):
        inspect(tmp_path / "ours", tower=clip)
