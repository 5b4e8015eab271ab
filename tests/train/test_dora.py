"""DoRA: what it computes, its gradients, what is merged and written, beside PEFT's own."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from onevision.checkpoint.hub import BUNDLED
from onevision.checkpoint.load import inspect, load_network
from onevision.checkpoint.names import LLAVA_HF_5_6
from onevision.checkpoint.save import written_types
from onevision.conversation import Image, Text
from onevision.errors import ConfigError
from onevision.inputs.processor import Processor
from onevision.inputs.tokenizer import Tokenizer
from onevision.train.config import make_run_options
from onevision.train.cost.memory import count_trainable
from onevision.train.lora.files import PREFIX, save_adapter
from onevision.train.lora.layers import (
    LoraConfig,
    LoraLinear,
    adapted_layers,
    add_lora,
    lora_parameters,
    merge,
)
from onevision.train.optim import learning_parameters
from onevision.train.parallel import Processes
from onevision.train.sharded.export import TrainedWeights
from tests.parity.test_transformers import build_theirs, their_arguments, user
from tests.train.test_adapters_run import STAGE

pytestmark = pytest.mark.filterwarnings("ignore")
DORA = LoraConfig(rank=4, alpha=8, magnitudes=True, parts=("language_model", "vision_encoder"))


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("built")
    build_theirs().save_pretrained(path)
    (path / "tokenizer.json").write_bytes((BUNDLED["tiny"] / "tokenizer.json").read_bytes())
    return path


@pytest.fixture
def network(directory):
    return load_network(inspect(directory), dtype=torch.float32)


@pytest.fixture
def inputs(directory, picture):
    processor = Processor(inspect(directory).config.inputs, Tokenizer.from_directory(directory))
    return processor(user(Image(picture(90, 60)), Text("What?")))


def written(network, directory):
    """What a run writes of a network with adapters on the weights in `directory`."""
    config = inspect(directory).config
    weights = TrainedWeights(network, config, Processes(), base=directory)
    names = written_types(dict(weights.plain.state_dict()), config, dtype=None)
    return {name: weights.fetch(name) for name in names}


def learn(network):
    """Give adapters and lengths values as if they had learned."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for layer in adapted_layers(network).values():
            for name, parameter in layer.own_parameters().items():
                noise = 0.1 * torch.randn(parameter.shape, generator=generator)
                parameter.copy_(parameter * (1 + noise) if name == "magnitude" else noise)


def test_forward_gradients_and_merged_weights_are_those_of_peft(network, inputs, tmp_path):
    peft = pytest.importorskip("peft")
    add_lora(network, DORA)
    learn(network)
    save_adapter(network, DORA, tmp_path, base_model="base")
    theirs = peft.PeftModel.from_pretrained(build_theirs(), tmp_path, is_trainable=True).eval()
    ours, expected = network(inputs), theirs(**their_arguments(inputs, [1])).logits
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)
    for logits in (ours, expected):
        logits.sin().mean().backward()
    gradients = {n: p.grad for n, p in theirs.named_parameters() if p.grad is not None}
    compared = 0
    for name, layer in adapted_layers(network).items():
        path = PREFIX + LLAVA_HF_5_6.translate(f"{name}.weight").removesuffix("weight")
        for own, parameter in layer.own_parameters().items():
            kind = {"lora_a": "lora_A", "lora_b": "lora_B", "magnitude": "lora_magnitude_vector"}
            expected = gradients[f"{path}{kind[own]}.default.weight"]
            torch.testing.assert_close(parameter.grad, expected, atol=1e-6, rtol=1e-3)
            compared += 1
    assert compared == len(gradients) == 3 * len(adapted_layers(network)) > 0
    whole = theirs.merge_and_unload().state_dict()
    merge(network)
    for name, weight in network.state_dict().items():
        if ".blocks." in name:
            expected = whole[LLAVA_HF_5_6.translate(name)]
            torch.testing.assert_close(weight, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("base", ["full", "int8", "int4"])
def test_what_we_write_is_read_as_what_we_merge(network, directory, tmp_path, base):
    config = replace(DORA, base=base, stabilised=True)
    add_lora(network, config)
    learn(network)
    save_adapter(network, config, tmp_path, base_model=str(directory))
    read = load_network(inspect(directory, adapter=tmp_path), dtype=torch.float32).state_dict()
    for name, weight in written(network, directory).items():
        torch.testing.assert_close(read[name], weight, atol=1e-6, rtol=1e-6)


def test_what_has_learned_nothing_changes_nothing(network, inputs):
    with torch.no_grad():
        before = network(inputs)
        add_lora(network, DORA)
        assert torch.equal(network(inputs), before)
    assert len(lora_parameters(network)) == 3 * len(adapted_layers(network)) > 0


def test_lengths_over_int8_weights_are_those_of_the_weights_before(network, directory):
    """Merged onto the weights that were rounded, an adapter that has learned nothing is nothing."""
    original = inspect(directory).tensors
    add_lora(network, replace(DORA, base="int8"))
    after = written(network, directory)
    for name, tensor in original.items():
        assert torch.equal(after[name], tensor.read()), name


def test_an_int8_base_is_scaled_as_its_rounded_weights_are(network, inputs):
    add_lora(network, replace(DORA, base="int8"))
    learn(network)
    with torch.no_grad():
        found = network(inputs)
        merge(network)  # of the rounded weights
        torch.testing.assert_close(network(inputs), found, atol=1e-4, rtol=0)


def test_outputs_have_the_learned_lengths_by_hand():
    linear = nn.Linear(2, 2)
    linear.weight.data = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    linear.bias.data = torch.tensor([1.0, 2.0])
    layer = LoraLinear(linear, LoraConfig(rank=1, alpha=1, magnitudes=True))
    assert layer.magnitude.tolist() == pytest.approx([5, 0])
    layer.magnitude.data = torch.tensor([10.0, 7.0])
    y = layer(torch.tensor([[1.0, 1.0]]))  # twice the row's 7, and a row of zeros
    assert y.tolist() == [[15.0, 2.0]]
    assert layer.merge().weight.tolist() == [[6.0, 8.0], [0.0, 0.0]]


def test_bf16_arithmetic_is_near(network, inputs):
    add_lora(network, DORA)
    learn(network)
    with torch.no_grad():
        exact = network(inputs)
        with torch.autocast("cpu", torch.bfloat16):
            near = network(inputs).float()
    assert (near - exact).norm() < 0.05 * exact.norm()


def test_a_plan_counts_the_lengths(network, directory):
    config = inspect(directory).config
    add_lora(network, DORA)
    learning = learning_parameters(network, STAGE)
    count = sum(p.numel() for parameters in learning.values() for p in parameters)
    assert count_trainable(STAGE, config, DORA) == count
    assert count > count_trainable(STAGE, config, replace(DORA, magnitudes=False))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["lora_dora=true"], "lora_dora is True, but there are no adapters"),
        (
            ["lora_rank=4", "lora_dora=true", "sharing=shard"],
            "lora_dora needs whole rows in fp32",
        ),
    ],
)
def test_settings_that_cannot_be(settings, said):
    with pytest.raises(ConfigError, match=said):
        make_run_options(settings)
