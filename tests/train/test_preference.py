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
from onevision.train.lora.layers import LoraConfig, add_lora
from onevision.train.preference.data import Preference, preference_row, read_preferences
from onevision.train.preference.feed import pack_pairs
from onevision.train.preference.loss import (
    TERMS,
    PreferenceConfig,
    compute_log_probabilities,
    dpo_terms,
)
from onevision.train.preference.objective import PreferenceLearner
from onevision.train.preference.reference import (
    Reference,
    compute_reference,
    fingerprint,
    read_reference,
    write_reference,
)
from tests.conftest import randomise
from tests.data.conftest import write_clip

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
    return pack(toy, processor)


def pack(preferences, processor):
    """The pairs in one row."""
    rows = [preference_row(preference, processor) for preference in preferences]
    return pack_pairs(rows, processor.config, samples=[one.id for one in preferences])


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
        ({"rejected": "  "}, "field 'rejected': it is empty; write something"),
        ({"rejected": "a ring\n"}, "field 'rejected': it equals 'chosen'; there is nothing"),
        ({"prompt": ""}, "field 'prompt': it is empty"),
        ({"prompt": "<image> <image>"}, "markers <image> <image> but 1 media .* field 'image'"),
        ({"prompt": "<video>"}, "markers <video> but 1 media .*write one <image> per medium"),
        ({"image": None, "prompt": "<image>?"}, "markers <image> but 0 media"),
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
        found = compute_log_probabilities(network, batch)
        for row, preference in zip(found, toy, strict=True):
            for score, talk in zip(row, preference.conversations(), strict=True):
                example = processor.example(processor.outline(talk, label_rule="strict"))
                scores = network(processor.inputs(example))[0].log_softmax(-1)
                labelled = (example.labels != IGNORE).nonzero()[:, 0]
                alone = scores[labelled - 1, example.labels[labelled]].sum()
                assert score == pytest.approx(alone.item(), abs=2e-3)


def test_log_probabilities_do_not_depend_on_how_logits_are_cut(network, batch, monkeypatch):
    whole = compute_log_probabilities(network, batch)
    gradient = torch.autograd.grad(whole.sum(), network.projector.layers[0].weight)[0]
    monkeypatch.setattr("onevision.train.preference.loss.CHUNK_POSITIONS", 3)
    cut = compute_log_probabilities(network, batch)
    assert torch.allclose(cut, whole, atol=1e-4)
    again = torch.autograd.grad(cut.sum(), network.projector.layers[0].weight)[0]
    assert torch.allclose(again, gradient, rtol=1e-3, atol=1e-4)


def terms(policy, reference, *, beta=0.1, tokens=4):
    """What `dpo_terms` finds of pairs given as (chosen, rejected), by name."""
    columns = dpo_terms(
        torch.as_tensor(policy),
        torch.as_tensor(reference),
        beta=beta,
        chosen_tokens=torch.tensor([tokens] * len(policy)),
    )
    return dict(zip(TERMS, columns.unbind(1), strict=True))


def test_the_loss_by_hand():
    found = terms([[-10.0, -20.0], [-8.0, -5.0]], [[-12.0, -15.0], [-8.0, -6.0]])
    # Margins 0.1 * ((-10 + 12) - (-20 + 15)) = 0.7 and 0.1 * ((-8 + 8) - (-5 + 6)) = -0.1.
    expected = [math.log(1 + math.exp(-0.7)), math.log(1 + math.exp(0.1))]
    assert found["preference_loss"].tolist() == pytest.approx(expected)
    assert found["chosen_reward"].tolist() == pytest.approx([0.2, 0.0])
    assert found["rejected_reward"].tolist() == pytest.approx([-0.5, 0.1])
    assert found["accuracy"].tolist() == [1, 0]
    assert found["sft_loss"].tolist() == pytest.approx([10 / 4, 8 / 4])


def test_equal_to_the_reference_is_a_coin_toss():
    found = terms([[-3.0, -4.0]], [[-3.0, -4.0]])
    assert found["preference_loss"].item() == pytest.approx(math.log(2))
    assert found["accuracy"].item() == 0


def test_the_loss_is_finite_for_any_margin():
    for chosen in (-1e5, 1e5):
        policy = torch.tensor([[chosen, 0.0]], requires_grad=True)
        loss = terms(policy, [[0.0, 0.0]], beta=1.0, tokens=1)["preference_loss"].sum()
        loss.backward()
        assert loss.item() == pytest.approx(max(0.0, -chosen))
        assert policy.grad[0, 0].item() == pytest.approx(-1.0 if chosen < 0 else 0.0)


def test_the_gradient_is_that_of_the_formula():
    """d loss / d policy_chosen = -beta * sigmoid(-margin)."""
    policy = torch.tensor([[-3.0, -2.0]], requires_grad=True)
    terms(policy, [[-4.0, -4.0]], beta=0.5, tokens=1)["preference_loss"].sum().backward()
    margin = 0.5 * ((-3 + 4) - (-2 + 4))
    assert policy.grad[0, 0].item() == pytest.approx(-0.5 / (1 + math.exp(margin)))


def learn(network, pairs, reference, **config):
    """Return what the learner finds in some pairs that share a mean."""
    learner = PreferenceLearner(network, config=PreferenceConfig(**config), reference=reference)
    count = len(pairs.keys)
    return learner(pairs, torch.full((count,), 1 / count))


def test_the_sft_term_adds_the_cross_entropy_of_the_chosen_answer(network, batch):
    reference = compute_reference(network, [batch])
    plain, _, statistics = learn(network, batch, reference)
    with_sft, losses, _ = learn(network, batch, reference, sft_weight=0.5)
    sft = statistics[:, TERMS.index("sft_loss")]
    assert plain.item() == pytest.approx(math.log(2), abs=1e-5)
    assert with_sft.item() == pytest.approx(math.log(2) + 0.5 * sft.mean().item(), rel=1e-5)
    assert losses.tolist() == pytest.approx((math.log(2) + 0.5 * sft).tolist(), rel=1e-5)


@pytest.mark.parametrize("base", ["full", "int8"])
def test_the_margin_grows_over_images_and_a_video(network, batch, base):
    randomise(network, std=0.5)
    parameters = add_lora(network, replace(LORA, base=base))
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    with torch.autocast("cpu", torch.bfloat16):
        reference = compute_reference(network, [batch])  # fresh adapters change nothing
    history = []
    for _ in range(10):
        with torch.autocast("cpu", torch.bfloat16):
            loss, _, statistics = learn(network, batch, reference, sft_weight=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        means = dict(zip(TERMS, statistics.mean(0).tolist(), strict=True))
        history.append(means | PreferenceLearner.step_metrics(means))
    # The first step stands at the reference, but for the rounding of a pass with gradients in bf16.
    assert abs(history[0]["margin"]) < 0.02
    assert history[0]["preference_loss"] == pytest.approx(math.log(2), abs=0.02)
    assert history[-1]["margin"] > 0.5
    assert history[-1]["accuracy"] == 1
    assert history[-1]["preference_loss"] < history[0]["preference_loss"]
    assert history[-1]["sft_loss"] < history[0]["sft_loss"]


def test_micro_batches_add_up_to_a_batch(network, toy, processor, batch):
    values = {key: (-30.0 + 2 * n, -29.0 + 2 * n) for n, key in enumerate(batch.keys)}
    reference = Reference(model="", values=values)
    whole, *_ = learn(network, batch, reference, sft_weight=0.3)
    total = 0.0
    for rows in (slice(0, 1), slice(1, 4)):
        some = pack(toy[rows], processor)
        loss, *_ = learn(network, some, reference, sft_weight=0.3)
        total += loss.item() * len(some.keys) / 4
    assert total == pytest.approx(whole.item(), rel=1e-4)


def test_a_reference_comes_back_from_its_file(network, batch, tmp_path):
    reference = compute_reference(network, [batch])
    write_reference(reference, tmp_path / "reference.jsonl")
    again = read_reference(tmp_path / "reference.jsonl", model=fingerprint(network))
    assert torch.equal(again.look_up(batch.keys), reference.look_up(batch.keys))


def test_a_reference_of_another_model_is_refused(network, batch, tmp_path):
    path = tmp_path / "reference.jsonl"
    write_reference(compute_reference(network, [batch]), path)
    assert read_reference(path, model=fingerprint(network))
    randomise(network, std=0.2)
    with pytest.raises(CheckpointError, match="it is of model .* precompute it again from the"):
        read_reference(path, model=fingerprint(network))
    path.write_text("{}\n")
    with pytest.raises(CheckpointError, match="not a readable reference"):
        read_reference(path, model="")


def test_a_reference_of_other_data_is_refused(network, toy, processor, batch, picture, tmp_path):
    reference = compute_reference(network, [batch])
    picture(40, 50, seed=9).save(tmp_path / "0.png")  # the same name, other content
    with pytest.raises(DataError, match="1 of 2 pairs have no reference log-probabilities"):
        reference.look_up(pack(toy[:2], processor).keys)


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
