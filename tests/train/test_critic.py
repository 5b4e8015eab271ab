"""LLaVA-Critic's recipe at toy scale: a critic learns a rule, then scores and judges by it."""

import hashlib
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image as PIL

from onevision.checkpoint.save import save
from onevision.cli.evaluation.judges import open_panel
from onevision.conversation import Image, Message, Text
from onevision.endpoint import EndpointConfig
from onevision.eval.judging.client import Query
from onevision.eval.judging.judge import Judge
from onevision.eval.judging.llava_critic import (
    ask_for_better,
    ask_for_score,
    read_better,
    read_score,
)
from onevision.eval.judging.parse import UnreadableReplyError
from onevision.model.llava import LlavaNetwork
from onevision.train.preference.critic import LocalCritic, score_answers
from onevision.train.preference.data import Prompt
from tests.cli.conftest import run as command
from tests.eval.judge_server import between, serve
from tests.train.runs import MICRO

# The rule: an answer that names things is worth 90 points, one of numbers 10.
WORDS = [f"{colour} {shape}" for colour in ("red", "blue", "green", "black", "white")
         for shape in ("ring", "star", "square", "circle")]  # fmt: skip
QUESTIONS = ["What is in the picture?", "What do you see?", "What is this?"]
# Rates for random weights: the recipe's are for a model of 7 billion.
RATES = ["learning_rate=6e-3", "vision_learning_rate=1.2e-3", "global_batch=8", "max_tokens=2048"]


def name_things(rng: random.Random) -> str:
    return ", ".join(rng.choices(WORDS, k=4))


def list_numbers(rng: random.Random) -> str:
    return ", ".join(str(rng.randint(1, 99)) for _ in range(6))


def grade(rng: random.Random) -> tuple[str, str]:
    """A prompt of LLaVA-Critic, and the reply that the rule gives."""
    names = rng.random() < 0.5
    answer = name_things(rng) if names else list_numbers(rng)
    return ask_for_score(rng.choice(QUESTIONS), answer).user, f"Score: {90 if names else 10}"


def write_records(folder: Path, *, count: int) -> Path:
    PIL.new("RGB", (56, 56), (90, 120, 150)).save(folder / "plain.png")
    rng, records = random.Random(0), []
    for number in range(count):
        said, reply = grade(rng)
        talk = [{"from": "human", "value": f"<image>\n{said}"}, {"from": "gpt", "value": reply}]
        records.append({"id": str(number), "image": "plain.png", "conversations": talk})
    (folder / "gradings.json").write_text(json.dumps(records))
    return folder / "gradings.json"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tokenizer):
    """A model with random weights, and the critic that it becomes."""
    folder = tmp_path_factory.mktemp("critic")
    save(LlavaNetwork(MICRO), MICRO, tokenizer, folder / "start")
    data = write_records(folder, count=960)
    told = ["--model", "llava-critic-7b", "--from", folder / "start", "--mixture", data]
    settings = [word for rate in RATES for word in ("--set", rate)]
    done = command("train", "critic", *told, "-o", folder / "run", *settings)
    assert done.returncode == 0, done.stderr
    return folder / "start", folder / "run" / "checkpoint"


class ShortReplies:
    """Asks a judge for a few tokens: random weights never end a reply."""

    def __init__(self, judge: Judge) -> None:
        self.judge, self.num_parallel = judge, 1

    def ask(self, query: Query) -> str:
        return self.judge.ask(replace(query, max_tokens=16))


def agreement(critic: Path, *, num_pairs: int) -> float:
    """The share of pairs of new answers that a critic in this process orders as the rule does."""
    picture = Image(PIL.new("RGB", (56, 56), (90, 120, 150)))
    prompt = Prompt(id="0", message=Message("user", [picture, Text(QUESTIONS[0])]), fields={})
    judge = LocalCritic(model="critic", path=critic).open(
        device="cpu", dtype="float32", memory=critic.parent / "replies", fingerprint="-"
    )
    rng, ordered = random.Random(1), []
    for _ in range(num_pairs):
        pair = name_things(rng), list_numbers(rng)
        answers = [{"text": text, "finish_reason": "stop"} for text in pair]
        lines = [{"row": 0, "answers": answers}]
        found = score_answers([prompt], lines, ShortReplies(judge), prompt="pointwise")
        named, listed = (one["score"] for one in found[0]["candidates"])
        ordered.append(None not in (named, listed) and named > listed)
    return sum(ordered) / len(ordered)


@pytest.mark.slow
def test_agreement_with_the_rule_rises(trained):
    start, critic = trained
    assert agreement(start, num_pairs=2) == 0  # random weights say nothing readable
    assert agreement(critic, num_pairs=12) >= 0.9


@pytest.mark.slow
def test_prefer_and_judges_run_the_critic_here(trained, tmp_path):
    _, critic = trained
    PIL.new("RGB", (56, 56), (90, 120, 150)).save(tmp_path / "plain.png")
    records = [{"id": f"p{n}", "image": "plain.png", "prompt": QUESTIONS[n]} for n in range(2)]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    own = ["--set", "num_answers=2", "--set", "max_new_tokens=12", "--set", "temperature=1.5"]
    told = ["prefer", path, "--from", "tiny", "--critic", critic, "--no-learn", *own]
    done = command(*told, "--set", "num_rounds=1", "-o", tmp_path / "out")
    files = tmp_path / "out" / "round-1"
    settings = json.loads((files / "run.json").read_text())
    assert settings["critic"]["model"] == str(critic)
    assert len(settings["critic"]["fingerprint"]) == 32
    lines = [json.loads(line) for line in (files / "scores.jsonl").read_text().splitlines()]
    found = [one for line in lines for one in line["candidates"]]
    assert all((one["score"] is None) == bool(one["problem"]) for one in found), done.stderr
    asked = [json.loads(p.read_text()) for p in (tmp_path / "out" / "critic").rglob("*.json")]
    assert len(asked) == len(found)
    assert all("Score the response out of 100" in one["asked"]["user"] for one in asked)
    panel = open_panel([str(critic)], tmp_path, model=None, prices=None, rounds=1)
    said = panel.judges[0].ask(ask_for_score(QUESTIONS[0], name_things(random.Random(2))))
    assert read_score(said) == 90


def test_pairwise_scores_are_shares_of_comparisons_won(tmp_path):
    """The longer of two answers is better; both orders are asked, and "four" cannot be compared."""

    def longer(words: str) -> str:
        first = between(words, "first response: [", "]")
        second = between(words, "second response: [", "]")
        if "four" in (first, second):
            return "Hard to say."
        if len(first) == len(second):
            return "Both responses are equally good."
        return f"The {'first' if len(first) > len(second) else 'second'} response is better."

    prompts = [Prompt(id="0", message=Message("user", "Say."), fields={})]
    texts = ["a", "bb", "cc", "four"]
    answers = [{"text": text, "finish_reason": "stop"} for text in texts]
    with serve(longer) as server:
        critic = Judge(EndpointConfig(base_url=server.url, model="rules", num_parallel=1))
        lines = [{"row": 0, "answers": answers}]
        found = score_answers(prompts, lines, critic, prompt="pairwise")[0]["candidates"]
        assert len(server.requests) == 12
        alone = score_answers(
            prompts, [{"row": 0, "answers": answers[:1]}], critic, prompt="pairwise"
        )
    assert {one["text"]: one["score"] for one in found} == {
        **{"a": 0, "bb": 75, "cc": 75},
        "four": None,
    }
    assert "no score in the critic's reply" in found[3]["problem"]
    (only,) = alone[0]["candidates"]
    assert (only["score"], only["problem"]) == (None, "there is no other answer to compare it with")


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("Score: 90\nThe answer is right.", 90),
        ("**Score:** 72.5/100. It is vague.", 72.5),
        ("I give it a score of 40, since it is short.", 40),
        ("85/100: it names both.", 85),
        ("60 points.", 60),
        ("It deserves 7 out of 100.", 7),
    ],
)
def test_scores_are_read(reply, score):
    assert read_score(reply) == score


@pytest.mark.parametrize("reply", ["", "It is right.", "Score: 120", "Score: 10 or Score: 90"])
def test_a_reply_without_one_score_is_unreadable(reply):
    with pytest.raises(UnreadableReplyError):
        read_score(reply)


@pytest.mark.parametrize(
    ("reply", "first_wins"),
    [
        ("The first response is better, as it names the ring.", 1),
        ("The second response is clearly better.", 0),
        ("Response 2 is better than Response 1.", 0),
        ("The better answer is the first.", 1),
        ("Both responses are equally good.", 0.5),
        ("Tie.", 0.5),
    ],
)
def test_preferences_are_read(reply, first_wins):
    assert read_better(reply) == first_wins


@pytest.mark.parametrize(
    "reply", ["", "Hard to say.", "The first response is better. The second response is better."]
)
def test_a_reply_without_one_preference_is_unreadable(reply):
    with pytest.raises(UnreadableReplyError):
        read_better(reply)


def test_the_prompts_are_the_released_ones():
    told = ask_for_score("What?", "A ring."), ask_for_better("What?", "A ring.", "A disc.")
    digests = [hashlib.sha256(one.user.encode()).hexdigest()[:16] for one in told]
    assert digests == ["4db073bc8af90df2", "b7581425e73cf3d9"]
    assert all(one.system == "" for one in told)
