"""A draft model guesses tokens: answers are those without it, sampled ones too, in fewer steps."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch

from onevision import Conversation, Image, Message, Text, load
from onevision.accelerate.apply import accelerate
from onevision.checkpoint.hub import resolve
from onevision.checkpoint.load import inspect, load_network
from onevision.checkpoint.save import save
from onevision.errors import InputError
from onevision.generate.drafter import DRAFT_TOKENS, check_draft
from onevision.generate.sampler import Sampler, Sampling
from onevision.generate.settings import EngineSettings
from onevision.model.llava import LlavaNetwork
from tests.cli.invoke import invoke


@pytest.fixture(scope="module")
def model():
    return load("tiny", dtype="float32")


@pytest.fixture(scope="module")
def smaller(tmp_path_factory, model):
    """A directory with tiny less the last of its language blocks: near it, and not it."""
    place = tmp_path_factory.mktemp("drafts") / "smaller"
    whole = load_network(inspect(resolve("tiny")), dtype=torch.float32, device=torch.device("cpu"))
    language = replace(model.config.language, num_layers=model.config.language.num_layers - 1)
    config = replace(model.config, language=language)
    network = LlavaNetwork(config)
    own = network.state_dict()
    network.load_state_dict({name: whole.state_dict()[name] for name in own})
    save(network, config, model.processor.tokenizer, place)
    return place


@pytest.fixture(scope="module")
def drafting(smaller):
    return load("tiny", dtype="float32", draft=smaller)


def user(*parts):
    return Conversation([Message("user", list(parts))])


@pytest.fixture(scope="module")
def talks(picture):
    words = [user(Text(f"Tell me about {what}.")) for what in ("stars", "the number " * 40)]
    one = user(Image(picture(200, 130)), Text("What is this?"))
    two = user(Image(picture(98, 98)), Image(picture(98, 90)), Text("Compare them."))
    return [one, two, user(Image(picture(150, 120), keep=0.5), Text("What is this?")), *words]


GREEDY = {"max_new_tokens": 16, "end_ids": ()}
DRAWN = {"max_new_tokens": 16, "end_ids": (), "temperature": 0.7, "top_p": 0.95, "seed": 3}
PENALISED = {
    "max_new_tokens": 12,
    "end_ids": (),
    "repetition_penalty": 1.3,
    "temperature": 0.5,
    "seed": 1,
}


@pytest.mark.parametrize("options", [GREEDY, DRAWN, PENALISED, GREEDY | {"logprobs": 2}])
def test_answers_are_the_same_in_fewer_steps(model, drafting, talks, options):
    found, steps = [], []
    for one in (model, drafting):
        engine = one.new_engine()
        sampling = replace(one.sampling, **options)
        requests = [engine.submit(one.prompt(talk), sampling) for talk in talks]
        engine.run(requests)
        found.append([request.answers[0].ids for request in requests])
        steps.append(engine.stats.steps)
    assert found[0] == found[1]
    assert steps[1] < steps[0]
    assert 0 < engine.stats.accepted_tokens <= engine.stats.drafted_tokens


def test_a_model_that_guesses_for_itself_is_always_right(model, talks):
    itself = replace(model, draft=model)
    for options in (GREEDY, DRAWN):
        engine = itself.new_engine(EngineSettings(draft_tokens=5))
        request = engine.submit(model.prompt(talks[0]), replace(model.sampling, **options))
        engine.run([request])
        stats = engine.stats
        assert stats.accepted_tokens == stats.drafted_tokens == request.answers[0].drafted_tokens
        assert stats.drafted_tokens > 10


def test_several_answers_and_forms_are_drafted_too(model, drafting, talks):
    options = {"max_new_tokens": 10, "temperature": 1.5, "seed": 4, "num_answers": 3}
    for own in (options, {"regex": "[a-f]{4}[0-9]+", "max_new_tokens": 8}):
        ids = []
        for one in (model, drafting):
            engine = one.new_engine()
            request = engine.submit(one.prompt(talks[0]), replace(one.sampling, **own))
            engine.run([request])
            ids.append([answer.ids for answer in request.answers])
        assert ids[0] == ids[1]
        assert engine.stats.drafted_tokens > 0


def test_the_deterministic_mode_keeps_its_bits(model, drafting, talks):
    found = []
    for one in (model, drafting):
        engine = one.new_engine(EngineSettings(deterministic=True, draft_tokens=20))
        sampling = replace(one.sampling, **GREEDY, logprobs=0)
        requests = [engine.submit(one.prompt(talk), sampling) for talk in talks[:3]]
        engine.run(requests)
        found.append([[t.logprob for t in request.answers[0].tokens] for request in requests])
    assert found[0] == found[1]


def test_sampled_tokens_are_distributed_as_without_a_draft():
    """Drawn with the same random numbers: frequencies are the model's, and most guesses right."""
    likely, guessed = (torch.tensor(p).log() for p in ([0.5, 0.3, 0.2], [0.35, 0.4, 0.25]))
    drawn, right, count = Counter(), 0, 3000
    for seed in range(count):
        sampler = Sampler(Sampling(temperature=1.0, seed=seed))
        guess = sampler.fork().sample(guessed).id
        token = sampler.sample(likely).id
        assert token == Sampler(Sampling(temperature=1.0, seed=seed)).sample(likely).id
        drawn[token] += 1
        right += guess == token
    for token, share in enumerate((0.5, 0.3, 0.2)):
        assert abs(drawn[token] / count - share) < 0.04, drawn
    # Between (1 - d) / (1 + d) and 1 - d for distributions at a distance d, here 0.15.
    assert 0.85 / 1.15 - 0.03 < right / count < 0.85 + 0.03, right / count


def test_a_draft_with_fewer_or_more_ids_guesses_what_both_have(model, talks):
    for change in (-100, 64):
        language = replace(
            model.config.language, vocab_size=model.config.language.vocab_size + change
        )
        other = replace(model.config, language=language)
        torch.manual_seed(0)
        network = accelerate(LlavaNetwork(other).eval()).network
        one = replace(model, draft=replace(model, network=network, config=other))
        assert (
            one.ask(talks[3], max_new_tokens=5).text == model.ask(talks[3], max_new_tokens=5).text
        )


def test_a_draft_that_fails_harms_no_answer(model, drafting, talks, caplog):
    expected = model.ask(talks[0], max_new_tokens=8).text

    def fails(*_, **__):
        raise KeyError("a fault")

    for part in ("_run", "_read"):
        engine = drafting.new_engine()
        if part == "_run":
            engine.drafter._run = fails
        else:
            engine.drafter.prefiller.step = fails
        sampling = replace(model.sampling, max_new_tokens=8)
        request = engine.submit(model.prompt(talks[0]), sampling)
        engine.run([request])
        assert request.answers[0].whole_text.strip() == expected
        assert engine.stats.kv_bytes == engine.stats.drafted_tokens == 0
        assert "without it" in caplog.text
        caplog.clear()


def test_memory_of_both_is_counted(model, drafting, talks):
    sampling = replace(model.sampling, max_new_tokens=8)
    alone, both = (
        one.new_engine().submit(model.prompt(talks[3]), sampling).kv_bytes
        for one in (model, drafting)
    )
    layers = model.config.language.num_layers
    assert both * layers == alone * (2 * layers - 1)


def test_what_cannot_draft_is_refused(model):
    config = model.config
    shorter = replace(config, language=replace(config.language, max_positions=64))
    reads = replace(config, inputs=replace(config.inputs, template="plain"))
    for other, words in (
        (shorter, "reads 64 tokens, not 8192"),
        (reads, "reads pictures or chats"),
    ):
        with pytest.raises(InputError, match=f"draft model {words}.*of the same family"):
            check_draft(model, replace(model, config=other))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"draft": "tiny"}, "a draft model: not for a model on 2 devices"),
        ({"settings": EngineSettings(kv_int8=True)}, "keys and values in 8 bits: not for a model"),
    ],
)
def test_several_devices_are_refused_before_anything_is_read(options, words):
    with pytest.raises(InputError, match=words):
        load("tiny", devices=2, **options)


def test_ask_says_how_many_guesses_were_right(smaller):
    command = ["ask", "Count from one to ten.", "--max-new-tokens", "12", "--json"]
    plain, drafted = (
        json.loads(invoke(*command, *more)) for more in ([], ["--draft", str(smaller)])
    )
    assert drafted["text"] == plain["text"]
    assert plain["usage"]["drafted_tokens"] == 0
    usage = drafted["usage"]
    assert 0 < usage["drafted_tokens"] <= DRAFT_TOKENS * usage["completion_tokens"]
    assert usage["accepted_tokens"] <= usage["drafted_tokens"]
