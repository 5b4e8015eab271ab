"""A user's data and checkpoint, from the command to the result: nothing is lost silently."""

import json
import shutil
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from typer.testing import CliRunner

from onevision.checkpoint.hub import BUNDLED
from onevision.checkpoint.load import inspect, load_network
from onevision.cli import app
from onevision.errors import OneVisionError
from onevision.known_models import ARCHITECTURES, TINY
from onevision.train.config import make_run_options
from onevision.train.stages import stage_named
from onevision.train.start import Starts
from onevision.train.target import choose_model, choose_target
from tests.train.conftest import write_checkpoint
from tests.train.runs import MICRO, SHORT, Told, lines, tensors
from tests.train.test_faults import Spoil

LONG = "word " * 3000


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))


def train(stage, data, start, output, *settings, more=()):
    """Trains through the command; returns what it said, the error included."""
    told = ["train", stage, "--model", "tiny", "--from", start, "--mixture", data, "-o", output]
    for setting in ("precision=fp32", "num_workers=0", *settings):
        told += ["--set", setting]
    done = CliRunner().invoke(app, [*map(str, told), *more])
    if done.exit_code and not isinstance(done.exception, OneVisionError):
        raise AssertionError(done.output) from done.exception
    return done.stderr + (f"error: {done.exception}" if done.exit_code else "")


def samples_per_step(output):
    seen = [0, *(line["samples"] for line in lines(output))]
    return [after - before for before, after in pairwise(seen)]


# Steps


@pytest.mark.parametrize(("batch", "steps"), [(4, [4, 4, 4, 4]), (7, [7, 7, 2])])
def test_no_step_is_taken_on_nothing(pictures, small, tmp_path, batch, steps):
    train("onevision", pictures(16), small, tmp_path / "run", f"global_batch={batch}")
    assert samples_per_step(tmp_path / "run") == steps
    assert all(line["loss"] > 0 for line in lines(tmp_path / "run"))


def nothing(share, feed):
    return []


def test_a_step_whose_samples_are_all_unreadable_changes_nothing(nursery, tmp_path):
    empty = Spoil(nothing, 3)
    told = Told(output=tmp_path, stage=replace(SHORT, num_samples=24), spoil=empty)
    said = nursery.train(told.but(save_steps=1, keep=9))
    assert "step 3 was skipped: it holds no sample" in said
    assert tensors(tmp_path, 2) == tensors(tmp_path, 1) != tensors(tmp_path, 3)


def test_many_empty_steps_are_not_taken_for_a_run_gone_wrong(nursery, tmp_path):
    empty = Spoil(nothing)
    told = Told(output=tmp_path, stage=replace(SHORT, num_samples=24), spoil=empty)
    said = nursery.train(told)
    assert "no step of 6 changed a weight" in said


def test_a_run_of_one_step_learns(pictures, small, tmp_path):
    said = train("onevision", pictures(4), small, tmp_path / "run")
    (line,) = lines(tmp_path / "run")
    assert all(rate > 0 for rate in line["learning_rates"].values())
    assert "changed a weight" not in said
    before = load_network(inspect(small)).projector.state_dict()
    after = load_network(inspect(tmp_path / "run" / "checkpoint")).projector.state_dict()
    assert not any(torch.equal(before[name], after[name]) for name in before)


def test_a_run_of_one_step_on_pairs_learns(small, tmp_path):
    pairs = [{"id": str(n), "prompt": f"What {n}?", "chosen": "A", "rejected": "B"} for n in "1234"]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    told = ("dpo", tmp_path / "pairs.jsonl", "--from", small, "-o", tmp_path / "run")
    done = CliRunner().invoke(app, [*map(str, told), "--set", "precision=fp32"])
    assert done.exit_code == 0, done.exception
    (line,) = lines(tmp_path / "run")
    assert all(rate > 0 for rate in line["learning_rates"].values())
    assert "changed a weight" not in done.stderr


# Samples that planning refuses


def lose_pictures(records):
    for one in records[3:5]:
        one["image"] = f"lost-{one['id']}.png"


def lengthen_answers(records):
    for one in records[3:5]:
        one["conversations"][1]["value"] = LONG


def empty_answers(records):
    for one in records[3:5]:
        one["conversations"][1]["value"] = " "


def misname_speakers(records):
    for one in records[3:5]:
        one["conversations"][0]["from"] = "robot"


@pytest.mark.parametrize(
    "spoil", [lose_pictures, lengthen_answers, empty_answers, misname_speakers]
)
def test_what_planning_refuses_is_counted_and_named(pictures, small, tmp_path, spoil):
    data, output = pictures(16, spoil), tmp_path / "run"
    told = ("onevision", data, small, output, "max_tokens=1500", "global_batch=8")
    said = train(*told)
    assert "error: 2 of 16 samples are broken, more than the 1.0% allowed" in said
    assert "the first is mine.json, row 3" in said
    assert not (output / "checkpoint").exists()
    noted = [json.loads(line) for line in (output / "quarantine.jsonl").read_text().splitlines()]
    assert [(line["source"], line["row"]) for line in noted] == [("mine.json", 3), ("mine.json", 4)]
    said = train(*told, "max_bad_share=0.2")
    assert "warning: 2 of 16 samples cannot be learned from and are left out; the first is" in said
    assert len((output / "quarantine.jsonl").read_text().splitlines()) == 2
    assert sum(samples_per_step(output)) == 14


def test_what_is_cut_to_fit_is_counted(pictures, small, tmp_path):
    def prolong(records):
        turns = records[0]["conversations"]
        turns += [{"from": "human", "value": "More?"}, {"from": "gpt", "value": LONG}]

    said = train("onevision", pictures(8, prolong), small, tmp_path / "run", "max_tokens=1500")
    assert "samples are cut: 1 of 8 have fewer turns" in said


@pytest.mark.parametrize("share", ["-0.1", "1.5"])
def test_the_share_of_bad_samples_is_a_share(share):
    with pytest.raises(OneVisionError, match="expected a share of the samples, 0 to 1"):
        make_run_options([f"max_bad_share={share}"])


def test_a_stage_and_its_check_refuse_the_same_for_the_same_reason(pictures, small, tmp_path):
    def talk(records):
        for one in records:
            one["conversations"] += [
                {"from": "human", "value": "And?"},
                {"from": "gpt", "value": "No."},
            ]

    data = pictures(4, talk)
    said = train("align", data, small, tmp_path / "run")
    reason = said.partition("row 0: ")[2].partition(";")[0]
    assert "4 of 4 samples are broken" in said
    assert reason
    check = ["data", "check", str(data), "--num-workers", "0"]
    assert CliRunner().invoke(app, check).exit_code == 0
    done = CliRunner().invoke(app, [*check, "--stage", "align"])
    assert done.exit_code == 1
    assert reason in done.stdout
    done = CliRunner().invoke(app, [*check, "--stage", "alignn"])
    assert "no stage 'alignn' of tiny" in str(done.exception)


# Other forms than LLaVA's


def test_a_folder_of_pictures_with_captions_is_learned(small, tmp_path, picture):
    """From files as a user has them to a loss; one answer is switched off, one picture linked."""
    pets, elsewhere = tmp_path / "pets", tmp_path / "else, where"
    pets.mkdir()
    elsewhere.mkdir()
    for number in range(3):
        picture(40 + number, 50, seed=number).save(pets / f"{number}.png")
    picture(44, 50, seed=9).save(elsewhere / "9.png")
    (pets / "linked").symlink_to(elsewhere)
    turns = [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": "Miaow."}]
    records = [
        {"file_name": "0.png", "text": "A cat."},
        {"image": "1.png", "query": "What is it?", "response": "A cat."},
        {"messages": [turns[0], turns[1] | {"weight": 0}, *turns]},
        {"images": ["linked/9.png"], "texts": [{"user": "What is it?", "assistant": "A cat."}]},
    ]
    (pets / "captions.jsonl").write_text("\n".join(map(json.dumps, records)))
    told = ("onevision", pets, small, tmp_path / "run", "global_batch=2")
    assert "allow its folder: --root" in train(*told)
    said = train(*told, more=("--root", pets, "--root", elsewhere))
    assert "cannot be learned" not in said
    assert samples_per_step(tmp_path / "run") == [2, 2]
    assert all(line["loss"] > 0 for line in lines(tmp_path / "run"))


# Where to start


@pytest.mark.parametrize("command", ["train", "dpo"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing/", "no model 'missing/': neither bundled (tiny), nor a directory"),
        ("0.5b", "its weights are not bundled; use"),
        ("run/adapter", "it holds adapters alone, not a whole checkpoint; give run/checkpoint"),
        ("run", "it holds no config.json, so it is no checkpoint; give run/checkpoint"),
    ],
)
def test_a_start_that_is_none_is_said_in_a_line(command, name, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(BUNDLED["tiny"], "run/checkpoint")
    (tmp_path / "run" / "adapter").mkdir()
    (tmp_path / "run" / "adapter" / "adapter_config.json").write_text("{}")
    first = ["onevision"] if command == "train" else ["pairs.jsonl"]
    done = CliRunner().invoke(app, [command, *first, "--from", name, "-o", "out"])
    assert isinstance(done.exception, OneVisionError), done.exception
    assert said in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_a_bundled_model_is_a_start(tmp_path):
    done = CliRunner().invoke(
        app, ["train", "onevision", "--from", "tiny", "--plan", "-o", str(tmp_path / "run")]
    )
    assert done.exit_code == 0, done.exception


@pytest.mark.parametrize("command", ["train", "data"])
@pytest.mark.parametrize("name", ["tokenizer.json", ""])
def test_a_tokenizer_is_a_file_or_its_directory(command, name, pictures, tmp_path):
    told = {
        "data": ["data", "check", pictures(4)],
        "train": ["train", "onevision", "--mixture", pictures(4), "--plan", "-o", tmp_path / "a"],
    }[command]
    words = BUNDLED["tiny"] / name
    done = CliRunner().invoke(app, [*map(str, told), "-m", "0.5b", "--tokenizer", str(words)])
    assert done.exit_code == 0, done.exception
    done = CliRunner().invoke(app, [*map(str, told), "-m", "0.5b", "--tokenizer", "nowhere"])
    assert "--tokenizer is nowhere, but nowhere cannot be read" in str(done.exception)


@pytest.mark.parametrize("rows", [4096, 4160, 5000])
def test_a_padded_vocabulary_is_trained_as_it_is(pictures, tmp_path, rows):
    config = replace(MICRO, language=replace(MICRO.language, vocab_size=rows))
    start = write_checkpoint(tmp_path / "start", config)
    said = train("onevision", pictures(4), start, tmp_path / "run")
    assert f"note: the architecture is that of {start}" in said
    trained = inspect(tmp_path / "run" / "checkpoint").config
    assert trained.language == config.language
    assert trained.inputs == config.inputs


@pytest.mark.parametrize("resolution", ["one_crop", "five_crops"])
def test_the_output_of_an_early_stage_grows(pictures, small, tmp_path, resolution):
    first = tmp_path / "first"
    told = (f"resolution={resolution}", "max_tokens=1500")
    train("align" if resolution == "one_crop" else "knowledge", pictures(4), small, first, *told)
    starts = Starts(previous=(first / "checkpoint",))
    grown = choose_target(stage_named("onevision"), TINY, starts)
    assert grown.inputs == MICRO.inputs
    assert grown.language == MICRO.language
    assert grown.image_newline


def test_the_curriculum_is_found_by_size(small, tmp_path):
    assert choose_model(()) == choose_model((BUNDLED["tiny"],)) == "tiny"
    with pytest.raises(OneVisionError, match="no known architecture has its size; give --model"):
        choose_model((small,))


def test_the_bundled_model_is_what_the_table_says():
    starts = Starts(previous=(BUNDLED["tiny"],))
    for stage in ("onevision", "align"):
        assert choose_target(stage_named(stage), ARCHITECTURES["tiny"], starts) == TINY


# Going on


def test_another_batch_is_refused_half_way(nursery, tmp_path):
    told = Told(output=tmp_path, stage=replace(SHORT, num_samples=24))
    nursery.train(told.but(stop_after=2))
    other = told.but(stage=replace(told.stage, global_batch=8), allow_change=("global_batch",))
    said = nursery.train(other, code=1)
    assert "(global_batch: 4 -> 8), and a run that resumes with a new one would skip" in said
    nursery.train(told)
    assert sum(samples_per_step(tmp_path)) == 24


@pytest.mark.parametrize(("key", "value"), [("seed", 1), ("stage.max_tokens", 500)])
def test_samples_that_may_be_lost_are_warned_about(nursery, tmp_path, key, value):
    told = Told(output=tmp_path, stage=replace(SHORT, num_samples=24))
    nursery.train(told.but(stop_after=2))
    name = key.removeprefix("stage.")
    changed = {"stage": replace(told.stage, **{name: value})} if name != key else {name: value}
    said = nursery.train(told.but(**changed, allow_change=(name,)))
    assert "resumes with other samples in its steps" in said


def test_the_order_of_stages_travels_with_a_checkpoint(pictures, small, tmp_path):
    first = tmp_path / "first"
    train("align", pictures(4), small, first, "max_tokens=1500")
    shutil.copytree(first / "checkpoint", tmp_path / "elsewhere")
    for start in (first / "checkpoint", tmp_path / "elsewhere"):
        said = train("onevision", pictures(4), start, tmp_path / "second")
        assert "it is of stage align; onevision starts from single_image" in said
    (tmp_path / "elsewhere" / "training.json").write_text("{")
    said = train("onevision", pictures(4), tmp_path / "elsewhere", tmp_path / "second")
    assert "training.json: cannot be read" in said


@pytest.mark.parametrize("origin", ["dpo", "finetune"])
def test_a_whole_model_may_be_trained_further(pictures, small, tmp_path, origin):
    (small / "training.json").write_text(json.dumps({"stage": origin}))
    said = train("onevision", pictures(4), small, tmp_path / "run", "max_tokens=1500")
    assert "error" not in said


@pytest.mark.parametrize(("told", "kind"), [("auto", torch.bfloat16), ("float32", torch.float32)])
def test_a_result_has_the_type_of_its_start_unless_told(pictures, tmp_path, told, kind):
    start = write_checkpoint(tmp_path / "start", MICRO, dtype=torch.bfloat16)
    data, output = pictures(4), tmp_path / "run"
    train("onevision", data, start, output, "max_tokens=1500", f"result_dtype={told}")
    tensors = inspect(output / "checkpoint").tensors.values()
    assert {tensor.read().dtype for tensor in tensors} == {kind}


def test_answers_alone_are_learned_if_told(pictures, small, tmp_path):
    counts = []
    for labels in ("reference", "answers"):
        output = tmp_path / labels
        train("onevision", pictures(4), small, output, "max_tokens=1500", f"labels={labels}")
        counts.append(lines(output)[0]["supervised_tokens"])
    assert counts[1] < counts[0]


# Devices


def test_a_gpu_is_taken_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert make_run_options([]).device == "cuda"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # two processes, one GPU
    assert make_run_options([]).device == "cpu"
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert make_run_options(["device=cpu"]).device == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert make_run_options([]).device == "cpu"


@pytest.mark.parametrize(
    ("name", "said"), [("gpu", "expected cpu, cuda or cuda:N"), ("cuda:99", "none has number 99")]
)
def test_a_device_that_is_not_here_is_said_in_a_line(name, said, pictures, small, tmp_path):
    assert said in train("onevision", pictures(2), small, tmp_path / "run", f"device={name}")
