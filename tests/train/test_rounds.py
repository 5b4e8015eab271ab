"""Learning from one's own answers in rounds, graded by a critic that is a rule behind HTTP."""

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from onevision.checkpoint.hub import BUNDLED
from onevision.checkpoint.load import inspect, load_network
from onevision.endpoint import EndpointConfig
from onevision.errors import ConfigError, DataError, JudgeError
from onevision.eval.judging.judge import Judge
from onevision.inputs.processor import Processor
from onevision.inputs.tokenizer import Tokenizer
from onevision.synth.worlds.shapes import scenes
from onevision.train.config import read_train_config
from onevision.train.options import RunOptions
from onevision.train.preference.candidates import RoundsConfig
from onevision.train.preference.critic import MAX_FRAMES, score_answers
from onevision.train.preference.data import (
    preference_row,
    read_preferences,
    read_prompts,
)
from onevision.train.preference.feed import pack_pairs
from onevision.train.preference.loss import compute_log_probabilities
from onevision.train.preference.pairing import ALL_ALIKE, ALL_EQUAL, NOT_ASKED, NOT_SCORED, pair_up
from onevision.train.preference.rounds import Rounds, RoundsCallbacks, run_rounds
from onevision.train.stages import DPO
from tests.cli.conftest import run as command
from tests.data.conftest import write_clip
from tests.eval.judge_server import between, said, serve

START = Path(BUNDLED["tiny"])
STAGE = replace(DPO, global_batch=2, learning_rate=1.2e-4, vision_learning_rate=1.2e-4)
# Warmer than the recipe: the embedded model is sure of its answers, and equal ones make no pair.
DRAWN = RoundsConfig(max_new_tokens=24, temperature=1.3, top_p=1.0)
NUM_PROMPTS = 20


def by_letters(words):
    """Grade by the letters of the answer: the name of a thing is worth more than a number."""
    if "<answer>" not in words:
        return "yes"
    answer = between(words, "<answer>", "</answer>")
    return f"Things should be named.\nScore: {sum(map(str.isalpha, answer))}"


def write_prompts(directory, numbers):
    """Write prompts about small pictures of the procedural worlds."""
    path, records = directory / f"prompts-{numbers[0]}.jsonl", []
    for number in numbers:
        picture = scenes.make("train", number).media[0].source
        picture.resize((98, 98)).save(directory / f"{number}.png")
        words = {"prompt": "What is in the picture?"}
        records.append({"id": f"p{number}", "image": f"{number}.png"} | words)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def rounds(prompts, output, server, **changes):
    told = {
        "start": START,
        "prompts": prompts,
        "output": output,
        "critic": EndpointConfig(
            base_url=server.url, model="rules", first_wait_seconds=0.001, max_attempts=2
        ),
        "stage": STAGE,
        "config": DRAWN,
        "options": RunOptions(precision="fp32"),
    }
    return Rounds(**told | changes)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@dataclass
class World:
    """A directory with 20 prompts that were learned from and 16 that were not."""

    directory: Path
    server: object
    told: Rounds
    held_out: Path  # pairs
    said: list[str] = field(default_factory=list)

    def round(self, number):
        return self.told.output / f"round-{number}"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    directory = tmp_path_factory.mktemp("world")
    with serve(by_letters) as server:
        others = write_prompts(directory, range(500, 516))
        run_rounds(rounds(others, directory / "held", server, learns=False), RoundsCallbacks())
        told = rounds(write_prompts(directory, range(NUM_PROMPTS)), directory / "out", server)
        pairs = directory / "held" / "round-1" / "pairs.jsonl"
        world = World(directory=directory, server=server, told=told, held_out=pairs)
        outcome = run_rounds(told, RoundsCallbacks(on_message=world.said.append))
        assert outcome.checkpoint == world.round(3) / "run" / "checkpoint"
        yield world


def margins(checkpoint, pairs, root):
    """By how much the chosen answer of each pair is the likelier one: [P]."""
    info = inspect(checkpoint)
    network = load_network(info, dtype=torch.float32)
    processor = Processor(info.config.inputs, Tokenizer.from_directory(checkpoint))
    rows = [preference_row(pair, processor) for pair in read_preferences(pairs, root=root)]
    with torch.inference_mode():
        batch = pack_pairs(rows, info.config.inputs, samples=[""] * len(rows))
        found = compute_log_probabilities(network, batch)
    return found[:, 0] - found[:, 1]


@pytest.mark.slow
def test_preference_accuracy_rises(world):
    """Measured on pairs of prompts that were never learned from: 36 % before, 57 % after."""
    before, after = (
        margins(path, world.held_out, world.directory)
        for path in (START, world.round(3) / "run" / "checkpoint")
    )
    assert len(before) >= 8
    assert (after > 0).float().mean() >= (before > 0).float().mean() + 0.2
    assert after.mean() > before.mean() + 1
    scores = [json.loads((world.round(n) / "results.json").read_text()) for n in (1, 2, 3)]
    assert min(scores[1]["mean_score"], scores[2]["mean_score"]) > scores[0]["mean_score"] + 1


@pytest.mark.slow
def test_a_round_begins_with_the_last_ones_model(world):
    starts = [read_train_config(world.round(n) / "run" / "settings.json").starts for n in (1, 2, 3)]
    made = [(str(world.round(n) / "run" / "checkpoint"),) for n in (1, 2)]
    assert starts == [(str(START),), *made]
    texts = [(world.round(n) / "answers.jsonl").read_text() for n in (1, 2, 3)]
    assert len(set(texts)) == 3


@pytest.mark.slow
def test_a_pair_is_the_best_and_the_worst_of_five(world):
    answers, pairs = lines(world.round(1) / "answers.jsonl"), lines(world.round(1) / "pairs.jsonl")
    assert {len(line["answers"]) for line in answers} == {5}
    drawn = {  # an answer that was cut off or says nothing is no candidate
        line["id"]: [
            a["text"] for a in line["answers"] if a["finish_reason"] == "stop" and a["text"]
        ]
        for line in answers
    }
    for pair in pairs:
        grades = [sum(map(str.isalpha, text)) for text in drawn[pair["id"]]]
        assert (pair["chosen_score"], pair["rejected_score"]) == (max(grades), min(grades))
        assert {pair["chosen"], pair["rejected"]} <= set(drawn[pair["id"]])
    figures = json.loads((world.round(1) / "results.json").read_text())
    assert figures["pairs"] == len(pairs)
    assert figures["pairs"] + sum(figures["left_out"].values()) == figures["prompts"] == NUM_PROMPTS
    assert 0 <= figures["accuracy"] <= 1
    assert world.said[0].startswith(f"round 1: {len(pairs)} pairs from {NUM_PROMPTS} prompts")


@pytest.mark.slow
def test_what_is_there_is_not_done_again(world):
    before = {path: path.stat().st_mtime_ns for path in world.told.output.rglob("*.safetensors")}
    num_asked = len(world.server.requests)
    run_rounds(world.told, RoundsCallbacks())
    assert len(world.server.requests) == num_asked
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"config": replace(DRAWN, temperature=0.9)}, "temperature: 1.3 -> 0.9"),
        ({"options": RunOptions(precision="fp32", seed=3)}, "seed: 0 -> 3"),
        ({"critic": EndpointConfig(model="other")}, "critic.model: 'rules' -> 'other'"),
    ],
)
def test_a_changed_setting_is_refused_by_name(world, changes, error):
    with pytest.raises(DataError, match=error):
        run_rounds(replace(world.told, **changes), RoundsCallbacks())


@pytest.mark.slow
def test_changed_prompts_models_and_lessons_are_refused(world, tmp_path):
    other = write_prompts(world.directory, range(700, 701))
    with pytest.raises(DataError, match=r"data\.fingerprint: "):
        run_rounds(replace(world.told, prompts=other), RoundsCallbacks())
    with pytest.raises(DataError, match=r"model\.fingerprint: "):
        start = world.round(1) / "run" / "checkpoint"
        run_rounds(replace(world.told, start=start), RoundsCallbacks())
    with pytest.raises(ConfigError, match=r"round-1/run began with .*learning_rate: 0.00012"):
        run_rounds(replace(world.told, stage=replace(STAGE, learning_rate=1e-3)), RoundsCallbacks())


@pytest.mark.slow
def test_a_round_that_was_cut_short_ends_the_same(world, tmp_path):
    whole = world.held_out.parent
    cut = tmp_path / "held" / "round-1"
    shutil.copytree(whole.parent, tmp_path / "held")
    for name in ("scores.jsonl", "pairs.jsonl", "results.json"):
        (cut / name).unlink()
    half = (whole / "answers.jsonl").read_text()[:2000]
    (cut / "answers.jsonl").write_text(half)
    num_asked = len(world.server.requests)
    others = world.directory / "prompts-500.jsonl"
    run_rounds(rounds(others, tmp_path / "held", world.server, learns=False), RoundsCallbacks())
    for name in ("answers.jsonl", "scores.jsonl", "pairs.jsonl"):
        assert (cut / name).read_text() == (whole / name).read_text()
    assert len(world.server.requests) == num_asked + 1  # a word, to see whether the critic is there


def test_a_critic_that_is_not_there_costs_no_answers(tmp_path, free_port):
    nobody = EndpointConfig(
        base_url=f"http://127.0.0.1:{free_port}/v1",
        model="rules",
        first_wait_seconds=0.001,
        max_attempts=2,
    )
    told = Rounds(
        start=START,
        prompts=write_prompts(tmp_path, range(1)),
        output=tmp_path / "out",
        critic=nobody,
        stage=STAGE,
    )
    with pytest.raises(JudgeError, match="in 2 attempts; the last one failed with: .*refused"):
        run_rounds(told, RoundsCallbacks())
    assert not (tmp_path / "out" / "round-1" / "answers.jsonl").read_text()
    with serve(by_letters, failures=[(400, {})]) as server:
        critic = replace(nobody, base_url=server.url)
        with pytest.raises(JudgeError, match="refuses a plain question .*model's name, 'rules'"):
            run_rounds(replace(told, critic=critic), RoundsCallbacks())


def test_prompts_that_give_no_pair_are_counted_and_told(tmp_path):
    path = write_prompts(tmp_path, range(2))
    (tmp_path / "1.png").write_bytes(b"no picture")
    with serve(lambda words: "It is lovely.") as server:
        told = rounds(path, tmp_path / "out", server)
        with pytest.raises(DataError) as error:
            run_rounds(told, RoundsCallbacks())
    message = str(error.value)
    assert "0 pairs from 2 prompts" in message
    assert f"1 without: {NOT_ASKED}" in message
    assert f"1 without: {NOT_SCORED}" in message
    assert "\n" not in message
    left = lines(tmp_path / "out" / "round-1" / "left_out.jsonl")
    assert [line["id"] for line in left] == ["p0", "p1"]
    assert "1.png" in left[1]["problem"]
    candidates = lines(tmp_path / "out" / "round-1" / "scores.jsonl")[0]["candidates"]
    assert all("0 lines with 'Score'" in one["problem"] for one in candidates)


def drawn(*texts, cut_off=()):
    answers = [{"text": t, "finish_reason": "length" if t in cut_off else "stop"} for t in texts]
    return {"row": 0, "id": "a", "answers": answers, "problem": None}


@pytest.mark.parametrize(
    ("line", "scores", "expected"),
    [
        (drawn("a", "b", "c"), {"a": 5, "b": 9, "c": 1}, ("b", "c")),
        (drawn("a", "b", "c", "d"), {"a": 9, "b": 9, "c": 1, "d": 1}, ("a", "c")),
        (drawn("a", "b", "c"), {"a": 5, "b": None, "c": 1}, ("a", "c")),
        (drawn("a", "a", ""), {"a": 5}, ALL_ALIKE),
        (drawn("a", "b", cut_off=("b",)), {"a": 5}, ALL_ALIKE),
        (drawn("a", "b"), {"a": 5, "b": None}, NOT_SCORED),
        (drawn("a", "b"), {"a": 5, "b": 5}, ALL_EQUAL),
    ],
)
def test_which_answers_become_a_pair(tmp_path, line, scores, expected):
    prompts = read_prompts(write_prompts(tmp_path, range(1)))
    graded = [{"text": text, "score": score, "problem": None} for text, score in scores.items()]
    pairing = pair_up(prompts, [line], {0: {"candidates": graded}})
    assert pairing.num_answers == len(line["answers"])
    assert pairing.num_unscored == list(scores.values()).count(None)
    if isinstance(expected, str):
        assert pairing.reasons == {expected: 1}
    else:
        ((pair,), (chosen, rejected)) = pairing.pairs, expected
        assert (pair["chosen"], pair["rejected"]) == (chosen, rejected)


def test_the_critic_sees_what_the_model_saw(tmp_path, picture):
    """Pictures in order, a video's frames, words without marks; the same answer is graded once."""
    picture(8, 8).save(tmp_path / "a.png")
    write_clip(tmp_path / "clip.mp4", frames=20)
    records = [
        {"image": ["a.png", "a.png"], "prompt": "<image>\n<image>\nSame?"},
        {"video": "clip.mp4", "prompt": "What moves?"},
        {"prompt": "Say $yes."},
    ]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    asked = [drawn("a ring", "a ring", "", "no", cut_off=("no",)) | {"row": n} for n in range(3)]
    with serve(by_letters) as server:
        critic = Judge(EndpointConfig(base_url=server.url, model="rules", num_parallel=1))
        scores = score_answers(read_prompts(path, num_frames=32), asked, critic)
    assert [scores[n]["candidates"][0]["score"] for n in range(3)] == [5.0, 5.0, 5.0]
    assert len(server.requests) == 3
    contents = [request["messages"][-1]["content"] for request in server.requests]
    shown = [[part["type"] for part in c].count("image_url") for c in contents[:2]]
    assert shown == [2, MAX_FRAMES]
    words = [said(request) for request in server.requests]
    questions = [between(text, "<question>", "</question>") for text in words]
    assert questions == ["Same?", "What moves?", "Say $yes."]


def test_the_recipe_is_the_published_one():
    config = RoundsConfig()
    assert (config.num_rounds, config.num_answers) == (3, 5)
    assert (config.temperature, config.top_p, DPO.epochs) == (0.7, 0.9, 1)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"num_answers": 1}, "num_answers is 1; expected 2 to"),
        ({"num_rounds": 0}, "num_rounds is 0"),
        ({"temperature": 0.0}, "temperature is 0.0; expected more than 0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
    ],
)
def test_settings_that_cannot_give_pairs_are_refused(changes, error):
    with pytest.raises(ConfigError, match=error):
        RoundsConfig(**changes)


def test_prompts_that_cannot_be_told_apart_are_refused(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"id": "a", "prompt": "Hi"}\n{"id": "a", "prompt": "Ho"}\n')
    with pytest.raises(DataError, match=r"row 1, field 'id': 'a' is also the id of row 0"):
        read_prompts(path)
    (tmp_path / "none.json").write_text("[]")
    with pytest.raises(DataError, match="it has no prompt"):
        read_prompts(tmp_path / "none.json")


def test_several_processes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    told = Rounds(
        start=START,
        prompts=tmp_path,
        output=tmp_path,
        critic=EndpointConfig(model="rules"),
        stage=STAGE,
    )
    with pytest.raises(ConfigError, match=r"without torchrun and with --no-learn"):
        run_rounds(told, RoundsCallbacks())


def test_the_command_goes_on_where_others_have_learned(tmp_path):
    path, output = write_prompts(tmp_path, range(4)), tmp_path / "out"
    told = ("prefer", path, "--from", "tiny", "-o", output)
    with serve(by_letters) as server:
        told_more = (*told, "--critic", "rules", "--critic-url", server.url, "--no-learn")
        own = ("--set", "max_new_tokens=24", "--set", "num_rounds=1")
        done = command(*told_more, *own, "--set", "precision=fp32")
        assert done.returncode == 0, done.stderr
        assert " pairs from 4 prompts" in done.stdout
        assert lines(output / "round-1" / "pairs.jsonl")
        said = done.stdout.partition("to learn from them: onevision ")[2].partition(",")[0]
        learned = command(*said.split(), "--set", "precision=fp32")
        assert learned.returncode == 0, learned.stderr
        again = command(*told_more, *own, "--set", "precision=fp32")
    assert again.returncode == 0, again.stderr
    assert again.stdout.endswith(f"wrote {output / 'round-1' / 'run' / 'checkpoint'}\n")


@pytest.mark.slow
def test_targets_decide_what_trains(tmp_path):
    path, output = write_prompts(tmp_path, range(4)), tmp_path / "out"
    settings = ("max_new_tokens=24", "num_rounds=1", "precision=fp32", "lora_targets=language")
    words = [word for one in settings for word in ("--set", one)]
    with serve(by_letters) as server:
        told = ("prefer", path, "--from", "tiny", "-o", output, *words)
        told += ("--critic", "rules", "--critic-url", server.url)
        wrong = command(*told)
        assert "lora_targets is 'language', but there are no adapters" in wrong.stderr
        done = command(*told, "--set", "lora_rank=2")
    assert done.returncode == 0, done.stderr
    assert "trains whole" not in done.stderr
    adapter = output / "round-1" / "run" / "adapter" / "adapter_config.json"
    values = json.loads(adapter.read_text())
    assert {name.split(".")[1] for name in values["target_modules"]} == {"language_model"}
    assert not [name for name in values["modules_to_save"] if "vision" in name]


def test_the_command_needs_a_critic(tmp_path):
    path = write_prompts(tmp_path, range(1))
    wrong = command("prefer", path, "--from", "tiny", "-o", tmp_path / "out")
    assert wrong.returncode == 1
    assert wrong.stderr == "error: the judge has no model; set ONEVISION_JUDGE_MODEL\n"
