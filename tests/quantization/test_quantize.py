"""Rescaling changes no bit, makes rounding cost less, and layers above the bound stay."""

import copy

import pytest
import torch

from onevision.accelerate.int8 import Int8Linear
from onevision.errors import ConfigError
from onevision.quantization.groups import HEAD, list_groups
from onevision.quantization.quantize import QuantizeConfig, quantize_network
from onevision.quantization.rescale import fold
from onevision.quantization.rounding import (
    W4A16,
    W8A8,
    fit_group,
    fits,
    multiply,
    round_weight,
)
from onevision.quantization.statistics import observe, run_sample
from tests.quantization.networks import outlier_network, picture_samples, text_samples


@pytest.fixture(scope="module")
def samples():
    return [*picture_samples(), *text_samples()]


def logits(network, samples):
    with torch.inference_mode():
        return [run_sample(network, one, num_places=100) for one in samples]


def quantized(samples, **options):
    config = QuantizeConfig(all_layers=True, **options)
    return quantize_network(outlier_network(), samples, config)


def test_every_linear_layer_but_the_projector_is_in_one_group():
    network = outlier_network()
    names = [name for group in list_groups(network) for name in group.layers]
    linear = {n for n, m in network.named_modules() if isinstance(m, torch.nn.Linear)}
    assert len(names) == len(set(names))
    assert set(names) == {name for name in linear if not name.startswith("projector.")}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_rescaling_changes_no_bit(samples, dtype):
    network = outlier_network(dtype)
    before = logits(network, samples)
    for group in list_groups(network):
        if group.source is None:
            continue
        width = network.get_submodule(group.layers[0]).in_features
        steps = torch.randint(-3, 4, (width,), generator=torch.Generator().manual_seed(width))
        scale = group.source.widen(group.source.narrow(steps.float().exp2()))
        fold(network, group, scale)
    for old, new in zip(before, logits(network, samples), strict=True):
        assert torch.equal(old, new)


def test_rescaling_makes_rounding_cost_less(samples):
    plain = quantized(samples, scheme=W8A8, rescale=False, max_error=9)
    better = quantized(samples, scheme=W8A8, max_error=9)
    assert better.kl < plain.kl / 4
    assert better.same > plain.same
    assert {group.alpha for group in plain.groups} == {None}
    for before, after in zip(plain.groups, better.groups, strict=True):
        assert after.error <= before.error == after.plain_error
    by_layer = {group.layers[0]: group for group in better.groups}
    assert by_layer["language_model.blocks.0.mlp.gate"].alpha is not None
    assert by_layer["vision_encoder.blocks.0.mlp.down"].alpha is None


def test_the_reported_error_is_that_of_the_layers(samples):
    network = outlier_network()
    exact = copy.deepcopy(network).float()
    name = "language_model.blocks.0.mlp.down"
    groups = [group for group in list_groups(exact) if group.layers == (name,)]
    rows = observe(network, groups, samples).inputs[name].rows.float()
    expected = exact.get_submodule(name)(rows).detach()
    config = QuantizeConfig(scheme=W8A8, rescale=False, max_error=9, all_layers=True)
    done = quantize_network(network, samples, config)
    found = done.network.get_submodule(name)(rows)
    error = float((found - expected).norm() / expected.norm())
    reported = next(group.error for group in done.groups if group.layers == (name,))
    assert error == pytest.approx(reported, rel=0.01)


def test_layers_above_the_bound_stay_as_they_are(samples):
    free = quantized(samples, scheme=W8A8, max_error=9)
    errors = sorted(group.error for group in free.groups)
    bound = errors[len(errors) // 2]
    done = quantized(samples, scheme=W8A8, max_error=bound)
    plain = outlier_network()
    for group, same in zip(done.groups, free.groups, strict=True):
        assert group.error == same.error
        assert (group.kept == "") == (group.error <= bound)
        for name in group.layers:
            layer = done.network.get_submodule(name)
            assert isinstance(layer, Int8Linear) == (not group.kept)
            if group.kept and name.endswith("mlp.down"):
                assert torch.equal(layer.weight, plain.get_submodule(name).weight)
    assert done.kl <= free.kl


def test_head_and_last_block_are_kept_by_choice(samples):
    done = quantized(samples, scheme=W8A8, max_error=9, keep_head=True, keep_last_block=True)
    kept = {group.layers[0] for group in done.groups if group.kept}
    assert kept == {
        HEAD,
        *(f"language_model.blocks.1.{n}" for n in ("attention.query", "attention.output")),
        *(f"language_model.blocks.1.{n}" for n in ("mlp.gate", "mlp.down")),
    }
    assert isinstance(done.network.language_model.head, torch.nn.Linear)


def test_a_tied_head_gets_a_weight_of_its_own_only_if_it_is_rounded(samples):
    for keep_head in (False, True):
        network = outlier_network()
        decoder = network.language_model
        decoder.head.weight = decoder.embedding.weight
        config = QuantizeConfig(scheme=W8A8, max_error=9, keep_head=keep_head)
        head = quantize_network(network, samples, config).network.language_model.head
        assert (head.weight is decoder.embedding.weight) == keep_head
        assert isinstance(head, Int8Linear) != keep_head


@pytest.mark.parametrize("all_layers", [False, True])
def test_what_vllm_could_not_read_stays_unless_asked_for(samples, all_layers):
    """It reads MLPs of SigLIP whose widths, here 32 and 48, are multiples of 64."""
    config = QuantizeConfig(scheme=W8A8, max_error=9, all_layers=all_layers)
    done = quantize_network(outlier_network(), samples, config)
    kept = {name for group in done.groups if group.kept for name in group.layers}
    mlps = {f"vision_encoder.blocks.{n}.mlp.{part}" for n in (0, 1) for part in ("up", "down")}
    assert kept == (set() if all_layers else mlps)
    assert all("--all-layers" in group.kept for group in done.groups if group.kept)


def test_four_bits_leave_the_vision_encoder(samples):
    done = quantized(samples, scheme=W4A16, max_error=9)
    assert done.scheme.group == 32
    for group in done.groups:
        is_vision = group.layers[0].startswith("vision_encoder.")
        assert group.kept == ("4 bits are for the language model" if is_vision else "")


def test_groups_are_the_largest_that_fit_most_weights():
    assert fit_group(W4A16, {256: 100, 48: 1}).group == 128
    assert fit_group(W4A16, {256: 100, 192: 10}).group == 64
    assert fit_group(W8A8, {256: 100}).group is None


def test_four_bits_round_to_sixteen_numbers():
    weight = torch.randn(8, 256)
    rounded = round_weight(weight, W4A16)
    assert rounded.scale.shape == (8, 2)
    assert torch.equal(rounded.scale, rounded.scale.bfloat16().float())
    assert (int(rounded.numbers.min()), int(rounded.numbers.max())) in ((-7, 7), (-8, 7))
    error = (rounded.dequantise() - weight).abs().unflatten(1, (2, -1))
    assert (error <= 0.51 * rounded.scale[:, :, None] + 1e-6).all()
    rows = torch.randn(3, 256)
    product = multiply(rows, rounded, W4A16)
    assert torch.allclose(product, rows @ rounded.dequantise().T, atol=1e-4)
    assert fits(W4A16, 256) and not fits(W4A16, 192) and fits(W8A8, 7)


def test_a_bound_that_is_none_is_refused():
    with pytest.raises(ConfigError, match=r"max_error is 0; expected a number above 0"):
        QuantizeConfig(scheme=W8A8, max_error=0)
