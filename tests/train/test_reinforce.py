"""Learning from rewards: rewards, advantages and the loss by hand; prompts; rows; a gradient."""

import json
import math
from dataclasses import replace

import pytest
import torch

from onevision.boxes import Box
from onevision.conversation import Message
from onevision.data.packing import PREFIX
from onevision.errors import ConfigError, DataError
from onevision.inputs.chat import IGNORE
from onevision.inputs.processor import Processor
from onevision.model.llava import LlavaNetwork
from onevision.train.parallel import Processes
from onevision.train.preference.loss import compute_token_log_probabilities
from onevision.train.reinforce.config import ReinforceConfig
from onevision.train.reinforce.data import RewardedPrompt, fingerprint, read_rewarded
from onevision.train.reinforce.feed import ReinforceFeed
from onevision.train.reinforce.loss import group_advantages, grpo_terms, normalise_batch
from onevision.train.reinforce.objective import ReinforceLearner
from onevision.train.reinforce.rewards import reward_answer
from onevision.train.reinforce.rollouts import Group, SampledAnswer, read_rollout, write_rollout
from onevision.train.reinforce.selection import measure
from onevision.train.stages import REINFORCE
from tests.conftest import randomise

CONFIG = ReinforceConfig(num_answers=4, max_new_tokens=4, steps_per_rollout=1)


def prompt(kind, expected=None, *, boxes=(), options=(), words="What?"):
    return RewardedPrompt(
        id="p", message=Message("user", words), type=kind, expected=expected, boxes=boxes,
        options=options,
    )  # fmt: skip


BOX = Box(left=0.2, top=0.2, right=0.6, bottom=0.6)
REWARDED = [
    (prompt("choice", "B"), "B. a dog", 1.0),
    (prompt("choice", "B"), "A", 0.0),
    (prompt("choice", "C", options=("a", "b")), "C", 0.0),  # it is no option
    (prompt("number", "200"), "208.", 1.0),
    (prompt("number", "200"), "215", 0.0),
    (prompt("exact", ("a ring", "ring")), "Ring.", 1.0),
    (prompt("exact", ("a ring",)), "two rings", 0.0),
    (prompt("text", ("hello",)), "hallo", 0.8),
    (prompt("text", ("hello",)), "no", 0.0),
    (prompt("box", boxes=(BOX,)), "[0.20, 0.20, 0.60, 0.40]", 0.5),
    (prompt("box", boxes=(BOX,)), "[0.2, 0.2, 0.6, 0.6] or [0.0, 0.0, 0.1, 0.1]", 0.5),
    (prompt("box", boxes=(BOX,)), "on the left", 0.0),
    (prompt("point", boxes=(BOX,)), "[0.30, 0.50]", 1.0),
    (prompt("point", boxes=(BOX,)), "[0.90, 0.50]", 0.0),
    (prompt("point", boxes=(BOX,)), "[0.30, 0.50] [0.90, 0.50]", 0.0),
    (prompt("json", {"a": 1, "b": ["x", "y"]}), '{"a": 1, "b": ["x", "z"]}', 2 / 3),
    (prompt("json", {"a": 1}), '```json\n{"a": 1, "b": 2}\n```', 0.5),
    (prompt("json", {"a": 1}), "a is 1", 0.0),
]


@pytest.mark.parametrize(("asked", "answer", "reward"), REWARDED)
def test_an_answer_is_rewarded_by_its_type(asked, answer, reward):
    assert reward_answer(answer, asked, coordinates="unit") == pytest.approx(reward)


def test_boxes_are_read_as_the_model_writes_them():
    asked = prompt("box", boxes=(BOX,))
    assert reward_answer("(200,200),(600,600)", asked, coordinates="thousandths") == 1
    assert reward_answer("(200,200),(600,600)", asked, coordinates="unit") == 0


def test_tags_mark_the_answer():
    asked = prompt("exact", ("ring",))
    options = {"coordinates": "unit", "answer_tags": True}
    assert reward_answer("<think>a cat?</think><answer>ring</answer>", asked, **options) == 1
    assert reward_answer("ring", asked, **options) == 0


def test_advantages_by_hand():
    """Rewards 1, 0, 0, 1 are 5, -5, -5, 5 after (r - 0.5) * 10: mean 0, deviation 5."""
    found = group_advantages([1, 0, 0, 1], bias=-0.5, scale=10)
    assert found == pytest.approx([1, -1, -1, 1], abs=1e-5)
    assert group_advantages([0.5, 0.5, 0.5]) == [0, 0, 0]
    found = group_advantages([1, None, 0, 0.5])  # mean 0.5, deviation sqrt(1/6)
    assert found == pytest.approx([1.22474, 0, -1.22474, 0], abs=1e-3)
    assert group_advantages([None, None]) == [0, 0]


def test_a_batch_has_mean_0_and_deviation_1():
    values = [1.0, 1.0, -1.0, 3.0]
    sums = {"count": 4, "total": sum(values), "squares": sum(v**2 for v in values)}
    normal = [normalise_batch(one, **sums) for one in values]
    assert sum(normal) == pytest.approx(0)
    assert sum(one**2 for one in normal) == pytest.approx(4, abs=1e-3)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.0, 2.0, -2.0, 0),
        (1.1, 2.0, -2.2, 0),
        (1.5, 2.0, -2.56, 1),  # 1.28 * 2: no more than 1 + 0.28
        (0.5, 2.0, -1.0, 0),  # a better answer that became rarer is still pulled back
        (0.5, -2.0, 1.6, 1),  # 0.8 * -2: no less than 1 - 0.2
        (1.5, -2.0, 3.0, 0),
    ],
)
def test_the_loss_by_hand(ratio, advantage, loss, clipped):
    old = torch.tensor([-1.0])
    policy = old + math.log(ratio)
    losses, figures = grpo_terms(policy, old, old, torch.tensor([advantage]), config=CONFIG)
    assert losses.tolist() == pytest.approx([loss])
    assert figures[0].tolist() == pytest.approx([clipped, 0, ratio - 1 - math.log(ratio)], abs=1e-6)


def test_a_weight_corrects_the_engine_and_too_large_ones_leave_out():
    """The trainer finds the first token twice as likely as the engine, the second six times."""
    old, advantages = torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 1.0])
    behaviour = old - torch.tensor([2.0, 6.0]).log()
    losses, figures = grpo_terms(old, old, behaviour, advantages, config=CONFIG)
    assert losses.tolist() == pytest.approx([-2.0, 0.0])
    assert figures[:, 1].tolist() == [0, 1]


def test_the_price_of_moving_away_by_hand():
    policy, reference = torch.tensor([-1.0]), torch.tensor([-1.5])
    nothing, config = torch.tensor([0.0]), replace(CONFIG, kl_weight=2.0)
    losses, _ = grpo_terms(policy, policy, policy, nothing, config=config, reference=reference)
    assert losses.tolist() == pytest.approx([2 * (math.exp(-0.5) + 0.5 - 1)])


def test_the_gradient_is_that_of_finite_differences():
    generator = torch.Generator().manual_seed(0)
    columns = [torch.randn(12, generator=generator, dtype=torch.float64) for _ in range(5)]
    policy, proximal, behaviour, advantages, reference = columns
    policy.requires_grad_(True)
    config = replace(CONFIG, kl_weight=0.3)

    def total(policy):
        given = (policy, proximal, behaviour, advantages)
        return grpo_terms(*given, config=config, reference=reference)[0].sum()

    assert torch.autograd.gradcheck(total, (policy,))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"num_answers": 1}, "num_answers is 1; expected 2 to 128"),
        ({"clip_low": 1.5}, "clip_low is 1.5; expected 0 to 1"),
        ({"weight_cap": 0.5}, "weight_cap is 0.5; expected 1 to inf"),
        ({"reward_scale": 0}, "reward_scale is 0; expected more than 0"),
        ({"select_range": (0.9, 0.1)}, "select_range is 0.9,0.1; expected two rewards"),
    ],
)
def test_settings_out_of_range_are_refused(changes, problem):
    with pytest.raises(ConfigError, match=problem):
        ReinforceConfig(**changes)


def write(directory, *records):
    path = directory / "prompts.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


GOOD = {"prompt": "What?", "type": "exact", "answer": "a ring"}
SPOILT = [
    ({"type": "colour"}, "'type': it is 'colour'; expected one of choice, number, exact"),
    ({"type": None}, "field 'type': it is missing"),
    ({"answer": ""}, "field 'answer': it is ''; expected a text, or a list of texts"),
    ({"type": "choice", "answer": "cat"}, "'answer': it is 'cat'; expected a letter"),
    ({"type": "number"}, "'answer': it is 'a ring'; expected a number"),
    ({"type": "json"}, "'answer': it is 'a ring'; expected a JSON object or list"),
    ({"type": "box", "answer": [10, 20, 30, 40]}, r"\[left, top, right, bottom\] as shares"),
    ({"type": "box", "answer": [0.5, 0.1, 0.2, 0.4]}, r"\[left, top, right, bottom\] as shares"),
    ({"options": "A"}, "field 'options': it is 'A'; expected a list of texts"),
    ({"prompt": " "}, "field 'prompt': it is empty"),
]


@pytest.mark.parametrize(("changes", "problem"), SPOILT)
def test_a_bad_prompt_is_named(tmp_path, changes, problem):
    with pytest.raises(DataError, match=rf"prompts.jsonl.*{problem}"):
        read_rewarded(write(tmp_path, GOOD | changes))


def test_prompts_need_answers_and_ids_of_their_own(tmp_path):
    with pytest.raises(DataError, match="field 'answer': it is missing, and an answer of type"):
        read_rewarded(write(tmp_path, {"prompt": "What?", "type": "exact"}))
    with pytest.raises(DataError, match="field 'id': 'a' is also the id of row 0"):
        read_rewarded(write(tmp_path, GOOD | {"id": "a"}, GOOD | {"id": "a"}))
    with pytest.raises(DataError, match="the file is empty"):
        read_rewarded(write(tmp_path))


def test_a_changed_answer_changes_the_fingerprint(tmp_path):
    before = fingerprint(read_rewarded(write(tmp_path, GOOD | {"id": "a"})))
    after = fingerprint(read_rewarded(write(tmp_path, GOOD | {"id": "a", "answer": "a cat"})))
    assert before != after


def group(*rewards, place=0):
    answers = tuple(
        SampledAnswer(
            text="x", ids=(5 + n, 7), logprobs=(-1.0 - n, -0.5), finish_reason="stop",
            reward=reward,
        )
        for n, reward in enumerate(rewards)
    )  # fmt: skip
    return Group(place=place, id="p", answers=answers)


@pytest.mark.parametrize(
    ("rewards", "kept"),
    [
        ((1.0, 0.0, 0.0, 1.0), True),
        ((1.0, 1.0, 1.0, 1.0), False),  # nothing to learn
        ((0.0, 0.0, 0.0, 0.0), False),  # out of reach
        ((0.55, 0.5, 0.5, 0.5), False),  # the best is hardly better
    ],
)
def test_prompts_are_kept_where_the_best_beats_the_mean(rewards, kept):
    line = measure(group(*rewards), CONFIG)
    assert line["kept"] is kept
    assert line["pass_at_1"] == pytest.approx(sum(rewards) / 4)
    assert line["pass_at_n"] == max(rewards)


def test_a_rollout_is_read_back_to_the_last_bit(tmp_path):
    groups = [group(0.1 + 0.2, None, place=3), group(1 / 3, place=5)]
    write_rollout(groups, tmp_path, number=2, rank=0)
    assert read_rollout(tmp_path, number=2, places=[3, 5]) == groups
    with pytest.raises(Exception, match="rollout 2 lacks 1 of 3 prompts"):
        read_rollout(tmp_path, number=2, places=[3, 5, 9])


class Said:
    """Answers of a table in place of a model's."""

    def __init__(self, *rewards):
        self.rewards, self.asked = rewards, []

    def sample(self, prompts, *, name, num_answers=None):
        self.asked.append((name, [place for place, _ in prompts]))
        return [group(*self.rewards, place=place) for place, _ in prompts]


def make_feed(micro_config, tokenizer, said, tmp_path, *, num_prompts=3, **changes):
    prompts = [prompt("exact", ("a",), words=f"Say {n}.") for n in range(num_prompts)]
    prompts = [replace(one, id=f"p{n}") for n, one in enumerate(prompts)]
    stage = replace(REINFORCE.learning_from("x.jsonl"), global_batch=2, max_tokens=300)
    return ReinforceFeed(
        replace(stage, **changes),
        Processor(micro_config.inputs, tokenizer),
        prompts,
        name="x.jsonl",
        config=CONFIG,
        answers=said,
        max_positions=512,
        seed=0,
        output=tmp_path,
        processes=Processes(),
    )


def test_answers_are_sampled_when_their_step_comes(micro_config, tokenizer, tmp_path):
    said = Said(1.0, 0.0, None)
    feed = make_feed(micro_config, tokenizer, said, tmp_path, epochs=2)
    steps = feed.steps(0)
    next(steps)
    assert said.asked == [("0", [0, 1])]
    assert [len(share) for share in steps] == [1, 1]
    assert said.asked == [("0", [0, 1]), ("1", [2, 3]), ("2", [4, 5])]
    assert {feed.prompt_at(place).id for place in range(3)} == {"p0", "p1", "p2"}


def test_a_row_holds_what_was_sampled_and_nothing_else_is_learned(
    micro_config, tokenizer, tmp_path
):
    feed = make_feed(micro_config, tokenizer, Said(1.0, 0.0, None), tmp_path)
    (batch,) = next(feed.steps(0))
    assert batch.batch.targets.tolist() == [5, 7, 6, 7] * 2  # the third has no reward
    assert batch.behaviour.tolist() == [-1.0, -0.5, -2.0, -0.5] * 2
    assert batch.advantages.tolist() == pytest.approx([1, 1, -1, -1] * 2, abs=1e-4)
    last = [[0.0] * 6, [1, 1, 1, 1, 1, 1], [0.0] * 6, [1, 0, 1, 0, 0, 0]]
    assert batch.figures.tolist() == last * 2
    assert batch.samples == ("x.jsonl, p",) * 2


def test_answers_that_do_not_fit_become_more_rows(micro_config, tokenizer, tmp_path):
    feed = make_feed(micro_config, tokenizer, Said(1.0, 0.0, 1.0), tmp_path, max_tokens=60)
    parts = next(feed.steps(0))
    assert len(parts) > 1
    assert sum(len(one.batch.targets) for one in parts) == 2 * 3 * 2
    assert sum(float(one.figures[:, 3].sum()) for one in parts) == 2  # each prompt counts once


def test_a_prompt_without_room_for_an_answer_is_refused(micro_config, tokenizer, tmp_path):
    with pytest.raises(DataError, match=r"3 of 3 prompts leave no room .* within 10 tokens: 'p0'"):
        make_feed(micro_config, tokenizer, Said(1.0), tmp_path, max_tokens=10)


def test_branches_are_scored_as_if_alone(micro_config, tokenizer, tmp_path):
    network = randomise(LlavaNetwork(micro_config), std=0.1)
    together = make_feed(micro_config, tokenizer, Said(1.0, 0.0), tmp_path)
    (batch,) = next(together.steps(0))
    alone = make_feed(micro_config, tokenizer, Said(1.0, 0.0), tmp_path, max_tokens=45)
    parts = next(alone.steps(0))
    assert len(parts) == 4
    with torch.no_grad():
        whole = compute_token_log_probabilities(network, batch.batch)
        each = [compute_token_log_probabilities(network, one.batch) for one in parts]
    assert torch.allclose(whole, torch.cat(each), atol=1e-5)
    assert PREFIX not in batch.batch.targets  # ids, not branches
    assert IGNORE not in batch.batch.targets


def test_a_step_raises_the_better_answer(micro_config, tokenizer, tmp_path):
    network = randomise(LlavaNetwork(micro_config), std=0.1)
    feed = make_feed(micro_config, tokenizer, Said(1.0, 0.0), tmp_path)
    (batch,) = next(feed.steps(0))
    learner = ReinforceLearner(network, config=CONFIG)
    with torch.no_grad():
        before = compute_token_log_probabilities(network, batch.batch)
    batch = replace(batch, behaviour=before)  # as if the engine had sampled them so
    weights = torch.full((len(before),), 1 / len(before))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    terms = learner(batch, weights)
    terms.loss.backward()
    optimizer.step()
    with torch.no_grad():
        change = compute_token_log_probabilities(network, batch.batch) - before
    assert (change * batch.advantages).sum() > 0
    means = dict(zip(learner.statistics, terms.statistics.mean(0).tolist(), strict=True))
    metrics = learner.step_metrics(means)
    assert metrics["reward"] == pytest.approx(0.5)
    assert metrics["best_reward"] == pytest.approx(1)
    assert metrics["answer_tokens"] == pytest.approx(2)
    assert metrics["informative"] == pytest.approx(1)


def test_halves_of_a_batch_teach_what_the_whole_does(micro_config, tokenizer, tmp_path):
    feed = make_feed(micro_config, tokenizer, Said(1.0, 0.0), tmp_path)
    (batch,) = next(feed.steps(0))
    first, second = batch.halves()
    for name in ("advantages", "behaviour", "figures"):
        parts = [getattr(first, name), getattr(second, name)]
        assert torch.equal(torch.cat(parts), getattr(batch, name))
