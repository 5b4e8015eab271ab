import pytest
import torch

from onevision.conversation import Conversation, Image, Message, Text, Video
from onevision.data.packing import collate, join, share_prefix
from onevision.inputs.chat import IGNORE
from onevision.inputs.processor import Processor
from onevision.model.llava import LlavaNetwork
from onevision.train.loss import weighted_loss
from tests.conftest import randomise


@pytest.fixture
def processor(micro_config, tokenizer):
    return Processor(micro_config.inputs, tokenizer)


@pytest.fixture
def examples(processor, picture):
    answers = (("What?", "a red ring"), ("Where is it?", "top left"), ("How many?", "3"))
    media = ((Image(picture(70, 50)),), (Video([picture(9, 9), picture(9, 9)]),), ())
    return [
        processor.examples_sharing_media(
            [
                Conversation([Message("user", [*m, Text(q)]), Message("assistant", a)])
                for q, a in answers
            ]
        )
        for m in media
    ]


def test_leak_every_branch_learns_what_it_would_alone(micro_config, processor, examples):
    """Logits at every scored position of a packed batch equal those of the example by itself."""
    network = randomise(LlavaNetwork(micro_config))
    rows = [share_prefix(group) for group in examples]
    batch = collate(rows, micro_config.inputs)
    with torch.inference_mode():
        tokens = network.encode(batch.pixel_values, batch.layouts)
        x = network.place(batch.input_ids, batch.visual_mask, tokens)
        hidden = network.run(x, batch.position_ids, mask=batch.mask).flatten(0, 1)
        packed = list(zip(batch.targets.tolist(), network.head(hidden[batch.sources]), strict=True))
        for group in examples:
            for number, example in enumerate(group):
                logits = network(processor.inputs(example))[0]
                labels = example.labels
                visual = example.visual_mask.nonzero()
                shared = int(visual[-1]) + 1 if len(visual) else 0
                for position in range(1, len(labels)):
                    if labels[position] == IGNORE or (number and position < shared):
                        continue
                    target, scored = packed.pop(0)
                    assert target == labels[position]
                    assert torch.allclose(scored, logits[position - 1], atol=1e-4)
    assert packed == []


def test_leak_gradients_of_a_pack_are_those_of_its_examples(micro_config, examples):
    """One row of three branches without a prefix, against three rows of one."""
    text_only = examples[2]
    network = randomise(LlavaNetwork(micro_config))
    gradients = []
    for rows in ([share_prefix(text_only)], [share_prefix([e]) for e in text_only]):
        network.zero_grad()
        batch = collate(rows, micro_config.inputs)
        weights = torch.full(batch.targets.shape, 1 / len(batch.targets))
        weighted_loss(network, batch, weights)[0].backward()
        gradients.append([p.grad.clone() for p in network.language_model.parameters()])
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_leak_no_sample_of_a_pack_sees_another(micro_config, processor, picture):
    """Image, images, video and text in one row: logits and gradients of each are its own."""
    media = (
        (Image(picture(70, 50)),),
        (),
        (Image(picture(9, 30, seed=1)), Image(picture(40, 40, seed=2))),
        (Video([picture(9, 9), picture(9, 9, seed=3)]),),
    )
    samples = [
        processor.example(
            Conversation([Message("user", [*m, Text("What?")]), Message("assistant", f"ring {n}")])
        )
        for n, m in enumerate(media)
    ]
    network = randomise(LlavaNetwork(micro_config))
    batch = collate([join([share_prefix([sample]) for sample in samples])], micro_config.inputs)
    assert batch.input_ids.shape == (1, sum(len(s.input_ids) for s in samples))
    parameters = [p for p in network.parameters() if p.requires_grad]
    logits = scores(network, batch)
    gradients = torch.autograd.grad(losses(logits, batch), parameters)

    alone = [collate([share_prefix([sample])], micro_config.inputs) for sample in samples]
    each = [scores(network, one) for one in alone]
    assert torch.allclose(logits, torch.cat(each), atol=1e-5)
    total = sum(losses(one, batch) for one, batch in zip(each, alone, strict=True))
    for a, b in zip(gradients, torch.autograd.grad(total, parameters), strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, atol=1e-5, rtol=1e-4)


def scores(network, batch):
    tokens = network.encode(batch.pixel_values, batch.layouts)
    x = network.place(batch.input_ids, batch.visual_mask, tokens)
    hidden = network.run(x, batch.position_ids, mask=batch.mask)
    return network.head(hidden.flatten(0, 1)[batch.sources])


def losses(logits, batch):
    return torch.nn.functional.cross_entropy(logits, batch.targets, reduction="sum")


def test_positions_go_on_from_the_prefix(examples):
    row = share_prefix(examples[0])
    prefix = int((row.branch == 0).sum())
    for branch in (1, 2, 3):
        where = (row.branch == branch).nonzero()[:, 0]
        assert row.position_ids[where].tolist() == list(range(prefix, prefix + len(where)))
        assert row.previous[where[0]] == prefix - 1


def test_padding_is_never_scored(micro_config, examples):
    batch = collate([share_prefix(examples[0]), share_prefix(examples[2])], micro_config.inputs)
    assert (batch.targets != IGNORE).all()
    assert int(batch.sources.max()) < batch.input_ids.numel()
    assert batch.mask.any(-1).all()  # no query is left without a key
