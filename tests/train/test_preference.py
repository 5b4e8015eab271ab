"""Preferences: records, rows of two branches, the loss, and the reference it compares with."""

import json
import math
from dataclasses import replace

import pytest
import torch

from onevision.conversation import Image, Message, Text, Video
from onevision.errors import CheckpointError, ConfigError, DataError
from onevision.inputs.chat import IGNORE
from onevision.inputs.processor import Processor
from onevision.model.llava import LlavaNetwork
from onevision.train.lora.layers import LoraConfig, add_lora, lora_parameters, merge
from onevision.train.preference.data import (
    Preference,
    preference_batch,
    preference_row,
    read_preferences,
)
from onevision.train.preference.loss import (
    PreferenceConfig,
    dpo_loss,
    preference_loss,
    sequence_log_probabilities,
)
from onevision.train.preference.reference import (
    adapter_off_reference,
    fingerprint,
    precompute_reference,
    read_reference,
    write_reference,
)
from tests.conftest import randomise
from tests.data.conftest import write_clip
from tests.train.test_lora import shake

LORA = LoraConfig(rank=4, alpha=8)
GOOD = {"id": "7", "image": "0.png", "prompt": "What?", "chosen": "a ring", "rejected": "a cat"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def network(micro_config):
    return randomise(LlavaNetwork(micro_config), std=0.3)


@pytest.fixture
def processor(micro_config, tokenizer):
    return Processor(micro_config.inputs, tokenizer)


@pytest.fixture
def read(tmp_path, picture):
    """Return a function: records -> what is read of a file of them, media lying beside it."""
    for number in range(3):
        picture(40 + 30 * number, 50, seed=number).save(tmp_path / f"{number}.png")
    write_clip(tmp_path / "clip.mp4")

    def read(*records, **options):
        path = tmp_path / "pairs.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return read_preferences(path, **options)

    return read


@pytest.fixture
def toy(read):
    """An image, two images, a video, and text alone."""
    return read(
        GOOD,
        GOOD | {"image": ["1.png", "2.png"], "prompt": "Same?", "chosen": "no", "rejected": "yes"},
        {"video": "clip.mp4", "prompt": "<video>\nWhat moves?", "chosen": "it", "rejected": "not"},
        {"prompt": "Say yes.", "chosen": "yes", "rejected": "never in my whole life"},
        num_frames=3,
    )


@pytest.fixture
def batch(toy, processor):
    rows = [preference_row(preference, processor) for preference in toy]
    return preference_batch(rows, processor.config)


def parts(preference):
    """The prompt as a list of words and kinds of media."""
    names = {Image: "image", Video: "video"}
    return [p.text if isinstance(p, Text) else names[type(p)] for p in preference.prompt.parts]


def test_the_documented_format_runs(read, tmp_path):
    (preference,) = read(GOOD)
    assert preference == Preference(
        id="7",
        prompt=Message(
            "user", [Image(str(tmp_path / "0.png")), Text("\nWhat?")], media_separator=""
        ),
        chosen="a ring",
        rejected="a cat",
    )
    chosen, rejected = preference.conversations()
    assert chosen.media == rejected.media
    assert [c.messages[1].parts for c in (chosen, rejected)] == [
        (Text("a ring"),),
        (Text("a cat"),),
    ]


def test_media_stand_where_they_are_marked_and_else_in_front(read):
    two = GOOD | {"image": ["0.png", "1.png"]}
    records = (
        two,
        two | {"prompt": "Is <image> like <image>?"},
        {k: v for k, v in GOOD.items() if k != "image"}
        | {"video": "clip.mp4", "prompt": "<image>"},
        GOOD | {"chosen": "<image>"},
    )
    assert [parts(p) for p in read(*records)] == [
        ["image", "\n", "image", "\nWhat?"],
        ["Is ", "image", " like ", "image", "?"],
        ["video"],
        ["image", "\nWhat?"],
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen": None}, "field 'chosen': it is missing; expected a string"),
        ({"chosen": ["a"]}, r"field 'chosen': it is list .*; expected a string"),
        ({"rejected": "  "}, "field 'rejected': it is empty; give its words"),
        ({"rejected": "a ring\n"}, "field 'rejected': it equals 'chosen'; there is nothing"),
        ({"prompt": ""}, "field 'prompt': it is empty"),
        ({"prompt": "<image> <image>"}, "marks <image> <image> but 1 media .* field 'image'"),
        ({"prompt": "<video>"}, "marks <video> but 1 media .*write one <image> for each"),
        ({"image": None, "prompt": "<image>?"}, "marks <image> but 0 media"),
        ({"video": "clip.mp4"}, "field 'video': the record has an image as well"),
        ({"image": 7}, "field 'image': it is int '7'; expected a path"),
        ({"image": "../../x.png"}, "field 'image': .* lies outside the media root"),
    ],
)
def test_bad_rows_are_refused(read, change, message):
    with pytest.raises(DataError, match=rf"^pairs\.jsonl, row 1, .*{message}"):
        read(GOOD, GOOD | change)


def test_a_line_that_is_no_record_is_refused(read, tmp_path):
    with pytest.raises(DataError, match="row 1: it is list; expected an object"):
        read(GOOD, [])


def test_a_pair_is_one_row_with_its_media_once(toy, processor):
    row = preference_row(toy[1], processor)
    assert len(row.layouts) == 2
    assert row.branch.unique().tolist() == [0, 1, 2]
    decode = processor.tokenizer.decode
    for branch, words in ((1, "no<|im_end|>"), (2, "yes<|im_end|>")):
        labels = row.labels[(row.branch == branch) & (row.labels != IGNORE)]
        assert labels.tolist()[-1] == processor.tokenizer.id_of("<|im_end|>")
        assert decode(labels.tolist()[:-1]) == words.removesuffix("<|im_end|>")


def test_an_answer_in_a_row_is_as_likely_as_alone(network, toy, processor, batch):
    """Against a plain forward pass over each conversation by itself."""
    with torch.inference_mode():
        found = sequence_log_probabilities(network, batch)
        for row, preference in zip(found, toy, strict=True):
            for score, talk in zip(row, preference.conversations(), strict=True):
                example = processor.example(processor.outline(talk, label_rule="strict"))
                scores = network(processor.inputs(example))[0].log_softmax(-1)
                labelled = (example.labels != IGNORE).nonzero()[:, 0]
                alone = scores[labelled - 1, example.labels[labelled]].sum()
                assert score == pytest.approx(alone.item(), abs=2e-3)


def test_log_probabilities_do_not_depend_on_how_logits_are_cut(network, batch, monkeypatch):
    whole = sequence_log_probabilities(network, batch)
    gradient = torch.autograd.grad(whole.sum(), network.projector.layers[0].weight)[0]
    monkeypatch.setattr("onevision.train.preference.loss.CHUNK_POSITIONS", 3)
    cut = sequence_log_probabilities(network, batch)
    assert torch.allclose(cut, whole, atol=1e-4)
    again = torch.autograd.grad(cut.sum(), network.projector.layers[0].weight)[0]
    assert torch.allclose(again, gradient, rtol=1e-3, atol=1e-4)


def dpo(policy, reference, **options):
    """The loss of pairs given as (chosen, rejected)."""
    columns = (torch.tensor(pairs).unbind(1) for pairs in (policy, reference))
    settings = {"beta": 0.1, "sft_weight": 0.0, "chosen_tokens": torch.tensor([4] * len(policy))}
    return dpo_loss(*next(columns), *next(columns), **settings | options)


def test_the_loss_by_hand():
    loss, metrics = dpo([[-10.0, -20.0], [-8.0, -5.0]], [[-12.0, -15.0], [-8.0, -6.0]])
    # Margins 0.1 * ((-10 + 12) - (-20 + 15)) = 0.7 and 0.1 * ((-8 + 8) - (-5 + 6)) = -0.1.
    expected = (math.log(1 + math.exp(-0.7)) + math.log(1 + math.exp(0.1))) / 2
    assert loss.item() == pytest.approx(expected)
    assert metrics.preference_loss == pytest.approx(expected)
    assert metrics.chosen_reward == pytest.approx(0.1)
    assert metrics.rejected_reward == pytest.approx(-0.2)
    assert metrics.margin == pytest.approx(0.3)
    assert metrics.accuracy == 0.5
    assert metrics.sft_loss == pytest.approx((10 / 4 + 8 / 4) / 2)


def test_equal_to_the_reference_is_a_coin_toss():
    loss, metrics = dpo([[-3.0, -4.0]], [[-3.0, -4.0]])
    assert loss.item() == pytest.approx(math.log(2))
    assert (metrics.margin, metrics.accuracy) == (0, 0)


def test_the_sft_term_adds_the_cross_entropy_of_the_chosen_answer():
    loss, _ = dpo([[-6.0, -4.0]], [[-6.0, -4.0]], sft_weight=0.5, chosen_tokens=torch.tensor([3]))
    assert loss.item() == pytest.approx(math.log(2) + 0.5 * 6 / 3)


def test_the_loss_is_finite_for_any_margin():
    for chosen in (-1e5, 1e5):
        policy = torch.tensor([chosen], requires_grad=True)
        zero = torch.zeros(1)
        loss, _ = dpo_loss(
            policy, zero, zero, zero, beta=1.0, sft_weight=0.0, chosen_tokens=torch.ones(1)
        )
        loss.backward()
        assert loss.item() == pytest.approx(max(0.0, -chosen))
        assert policy.grad.item() == pytest.approx(-1.0 if chosen < 0 else 0.0)


def test_the_gradient_is_that_of_the_formula():
    """d loss / d policy_chosen = -beta * sigmoid(-margin)."""
    policy = torch.tensor([-3.0], requires_grad=True)
    other, reference = torch.tensor([-2.0]), torch.tensor([-4.0])
    loss, _ = dpo_loss(
        policy, other, reference, reference,
        beta=0.5, sft_weight=0.0, chosen_tokens=torch.ones(1),
    )  # fmt: skip
    loss.backward()
    margin = 0.5 * ((-3 + 4) - (-2 + 4))
    assert policy.grad.item() == pytest.approx(-0.5 / (1 + math.exp(margin)))


@pytest.mark.parametrize("base", ["full", "int8"])
def test_the_margin_grows_over_images_and_a_video(network, batch, base):
    randomise(network, std=0.5)
    parameters = add_lora(network, replace(LORA, base=base))
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    config = PreferenceConfig(sft_weight=0.1)
    history = []
    for _ in range(10):
        with torch.autocast("cpu", torch.bfloat16):
            reference = adapter_off_reference(network, batch)
            loss, metrics = preference_loss(network, batch, reference, config)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(metrics)
    # Fresh adapters are the reference, but for the rounding of a pass with gradients in bf16.
    assert abs(history[0].margin) < 0.02
    assert history[0].preference_loss == pytest.approx(math.log(2), abs=0.02)
    assert history[-1].margin > 0.5
    assert history[-1].accuracy == 1
    assert history[-1].preference_loss < history[0].preference_loss
    assert history[-1].sft_loss < history[0].sft_loss


def test_micro_batches_add_up_to_a_batch(network, toy, processor, batch):
    reference = torch.arange(8).view(4, 2) - 30.0
    config = PreferenceConfig(sft_weight=0.3)
    whole, _ = preference_loss(network, batch, reference, config)
    total = 0.0
    for rows in (slice(0, 1), slice(1, 4)):
        some = preference_batch([preference_row(p, processor) for p in toy[rows]], processor.config)
        loss, _ = preference_loss(network, some, reference[rows], config)
        total += loss.item() * len(some.keys) / 4
    assert total == pytest.approx(whole.item(), rel=1e-4)


def test_adapters_off_is_the_precomputed_reference(network, batch):
    precomputed = precompute_reference(network, [batch])
    add_lora(network, LORA)
    shake(network)
    assert torch.equal(adapter_off_reference(network, batch), precomputed.of(batch))
    assert precompute_reference(network, [batch]) == precomputed
    assert not torch.equal(sequence_log_probabilities(network, batch), precomputed.of(batch))


def test_a_reference_comes_back_from_its_file(network, batch, tmp_path):
    reference = precompute_reference(network, [batch])
    write_reference(reference, tmp_path / "reference.jsonl")
    again = read_reference(tmp_path / "reference.jsonl", model=fingerprint(network))
    assert torch.equal(again.of(batch), reference.of(batch))


def test_a_reference_of_another_model_is_refused(network, batch, tmp_path):
    path = tmp_path / "reference.jsonl"
    write_reference(precompute_reference(network, [batch]), path)
    add_lora(network, LORA)
    shake(network)
    assert read_reference(path, model=fingerprint(network))  # adapters do not count
    merge(network)
    with pytest.raises(CheckpointError, match="it is of model .* precompute it again from the"):
        read_reference(path, model=fingerprint(network))
    path.write_text("{}\n")
    with pytest.raises(CheckpointError, match="not a readable reference"):
        read_reference(path, model="")


def test_a_reference_of_other_data_is_refused(network, toy, processor, batch, picture, tmp_path):
    reference = precompute_reference(network, [batch])
    picture(40, 50, seed=9).save(tmp_path / "0.png")  # the same name, other content
    rows = [preference_row(preference, processor) for preference in toy[:2]]
    with pytest.raises(DataError, match="1 of 2 pairs have no reference log-probabilities"):
        reference.of(preference_batch(rows, processor.config))


def test_adapters_off_must_be_a_fixed_reference(network, batch):
    with pytest.raises(ConfigError, match="no adapters to turn off; precompute the reference"):
        adapter_off_reference(network, batch)
    add_lora(network, LORA)
    network.projector.requires_grad_(True)
    with pytest.raises(ConfigError, match=r"projector\.layers\.0 trains beside the adapters"):
        adapter_off_reference(network, batch)
    assert len(lora_parameters(network)) == 28


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"beta": 0.0}, "beta is 0.0; expected more than 0"),
        ({"beta": float("inf")}, "beta is inf"),
        ({"sft_weight": -1.0}, "sft_weight is -1.0; expected 0 or more"),
    ],
)
def test_contradictions_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        PreferenceConfig(**values)
