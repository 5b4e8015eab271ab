"""`onevision finetune`: from a user's files to a model that answers, through the door."""

import base64
import html
import io
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import torch
from PIL import Image as PIL
from typer.testing import CliRunner

from onevision.checkpoint.load import inspect
from onevision.checkpoint.save import convert
from onevision.cli import app
from onevision.errors import OneVisionError
from onevision.train.config import read_train_config
from onevision.train.finetune.page import Change, held_out_section
from onevision.train.finetune.request import FinetuneDirectory
from tests.train.conftest import write_checkpoint
from tests.train.runs import MICRO, lines, wait_for_line
from tests.train.test_validation import validation

COLOURS = {"alpha": (220, 30, 30), "beta": (30, 170, 60), "gamma": (40, 70, 220)}
QUESTION = "Which code has the tile?"
# Of toy widths, for speed; a rate that such a model learns at.
FAST = ("precision=fp32", "learning_rate=1e-2", "projector_learning_rate=1e-2")


def write_tiles(directory, count=24, *, spoil=lambda records: None):
    """Write pictures of tiles and a JSON file of questions about them."""
    directory.mkdir(parents=True, exist_ok=True)
    records = []
    for number in range(count):
        code = list(COLOURS)[number % len(COLOURS)]
        tile = PIL.new("RGB", (56 + number, 56), COLOURS[code])
        tile.putpixel((number, 1), (255, 255, 255))
        tile.save(directory / f"{number}.png")
        turns = [
            {"from": "human", "value": f"<image>\n{QUESTION}"},
            {"from": "gpt", "value": code},
        ]
        records.append({"id": str(number), "image": f"{number}.png", "conversations": turns})
    spoil(records)
    (directory / "tiles.json").write_text(json.dumps(records))
    return directory / "tiles.json"


def call(*arguments, settings=FAST, code=0):
    """Call the command in this process; returns what it printed, the error included."""
    told = [word for one in settings for word in ("--set", one)]
    done = CliRunner().invoke(app, [*map(str, arguments), *told])
    if done.exit_code and not isinstance(done.exception, OneVisionError | SystemExit):
        raise AssertionError(done.output) from done.exception
    assert done.exit_code == code, done.output + str(done.exception)
    return done.output + (f"error: {done.exception}" if code else "")


def finetune(*arguments, **named):
    return call("finetune", *arguments, **named)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("finetune")
        patch.setenv("ONEVISION_CACHE", str(place / "cache"))
        yield place


@pytest.fixture(scope="module")
def finished(place):
    """A fine-tuned model with adapters, and what the command printed."""

    def lose_one(records):
        records[5]["image"] = "lost.png"

    base = write_checkpoint(place / "base", MICRO, dtype=torch.bfloat16, std=0.4)
    data = write_tiles(place / "data", spoil=lose_one)
    told = (data, "--from", base, "-o", place / "out", "--method", "lora", "--epochs", "6")
    return told, finetune(*told, "--held-out", "0.2")


def next_commands(said):
    """Return the commands that were printed last, without the program's name."""
    block = said.partition("\nnext\n")[2].strip().splitlines()
    commands = [shlex.split(line) for line in block]
    assert [words[:2] for words in commands] == [
        ["onevision", name] for name in ("ask", "serve", "eval")
    ]
    return [words[1:] for words in commands]


def ask_command(said):
    """Return the first command that was printed: ask."""
    return shlex.split(said.partition("\nnext\n")[2].strip().splitlines()[0])[1:]


def test_the_data_are_checked_and_the_plan_is_explained(finished):
    _, said = finished
    assert "tiles.json: 23 of 24 samples usable" in said
    assert "media: 1 (left out)" in said
    assert "lost.png: no such file" in said
    assert "lora: adapters of rank 16 on the language model, and the projector, as asked" in said
    assert "weights train" in said


def test_the_held_out_samples_are_learned_and_none_leaks(finished, place):
    _, said = finished
    losses = [line["loss"] for line in validation(place / "out")]
    assert min(losses) < 0.7 * losses[0]
    assert "held-out loss  " in said
    peak = max(line["memory_bytes"] for line in lines(place / "out")) / 2**30
    assert f"memory   {peak:.1f} GiB at most while training, as measured" in said
    asked = [
        json.loads(line)["id"]
        for line in (place / "out" / "held-out" / "held_out.jsonl").read_text().splitlines()
    ]
    assert len(asked) == 5
    assert lines(place / "out")[-1]["samples"] == 6 * (23 - 5)
    assert "0.2" in read_train_config(place / "out" / "settings.json").options.held_out


def test_everything_is_written_in_the_type_of_the_base(finished, place):
    out = place / "out"
    assert (out / "adapter" / "adapter_config.json").is_file()
    assert (out / "report.html").is_file()
    card = (out / "checkpoint" / "README.md").read_text()
    assert "| loss of 5 held-out samples (before: " in card
    assert "onevision eval --model" in card
    training = card.partition("## Training")[2].partition("## ")[0]
    assert "| template | qwen_1_5 |" in training
    assert "| projector learning rate | 0.01 |" in training
    assert not [word for word in ("not recorded", "|  |", "families", "vision") if word in training]
    assert (
        f"It lies on the weights of `{place / 'base'}`" in (out / "adapter/README.md").read_text()
    )
    tensors = inspect(out / "checkpoint").tensors.values()
    assert {tensor.read().dtype for tensor in tensors} == {torch.bfloat16}
    assert json.loads((out / "left_out.jsonl").read_text())["row"] == 5


def test_the_report_shows_answers_before_and_after(finished, place):
    page = (place / "out" / "report.html").read_text()
    assert "Loss of held-out samples" in page
    assert "slightly optimistic" in page
    result = json.loads((place / "out" / "result.json").read_text())["held_out"]
    assert f"<td>{result[0]['before']:.4g}<td>{result[0]['after']:.4g}<td>" in page
    low, high = (f"{result[0][end]:.4g}" for end in ("low", "high"))
    assert f"<td>{low} to {high}<td>5 samples" in page
    assert result[0]["low"] < result[0]["after"] < result[0]["high"]
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(pictures) == page.count("<figure>") == 5
    names = re.findall(r'<img alt="(media/[^"]+)"', page)
    for name, data in zip(names, pictures, strict=True):
        content = base64.b64decode(data)
        assert len(content) <= 20_000
        with PIL.open(io.BytesIO(content)) as shown, PIL.open(place / "out/held-out" / name) as own:
            assert shown.size == own.size
    for when in ("before", "after"):
        answers = (place / "out" / "eval" / when / "held_out" / "answers.jsonl").read_text()
        for line in map(json.loads, answers.splitlines()):
            assert html.escape(line["answer"] or "nothing") in page


def test_a_page_keeps_pictures_small_and_words_as_words(finished, place, tmp_path):
    """A noisy picture is the worst for JPEG; a question may look like HTML."""
    shutil.copytree(place / "out", tmp_path / "out")
    directory = FinetuneDirectory(tmp_path / "out")
    noise = torch.randint(0, 256, (900, 700, 3), dtype=torch.uint8).numpy()
    for picture in (directory.questions / "media").iterdir():
        PIL.fromarray(noise).save(picture)
    rows = (directory.questions / "held_out.jsonl").read_text()
    (directory.questions / "held_out.jsonl").write_text(rows.replace("Which", "<script>Which"))
    change = Change(name="held-out loss", before=2.0, after=1.0, num_samples=5, is_share=False)
    page = held_out_section(directory, (change,), is_chosen=False)
    assert "optimistic" not in page
    assert "<script>" not in page
    assert "&lt;script&gt;Which" in page
    sizes = [len(base64.b64decode(one)) for one in re.findall(r"base64,([^\"]+)", page)]
    assert len(sizes) == 5
    assert max(sizes) <= 20_000


def test_ask_and_eval_work_as_printed(finished, place, monkeypatch):
    monkeypatch.chdir(place)
    ask, _, evaluate = next_commands(finished[1])
    assert call(*ask, settings=()).strip()
    beside = [*ask[:2], "--model", place / "base", "--adapter", place / "out" / "adapter"]
    assert call(*beside, *ask[4:], settings=()).strip()
    said = call(*evaluate, settings=())
    after = json.loads((place / "out" / "result.json").read_text())["held_out"]
    (match,) = [one["after"] for one in after if one["name"] == "exact match"]
    assert f"held_out: 5 answers, exact_match {match:.4g}" in said


def test_a_root_may_hold_a_comma(place, tmp_path):
    write_tiles(tmp_path / "cats, dogs", 6)
    data = (tmp_path / "cats, dogs" / "tiles.json").rename(tmp_path / "tiles.json")
    said = finetune(data, "--root", tmp_path / "cats, dogs", "--plan")
    assert "6 of 6 samples usable" in said

    assert "; 2.06k tokens; " in said  # of the five that are not held out, three times


@pytest.mark.slow
def test_serve_works_as_printed(finished, free_port):
    _, serve, _ = next_commands(finished[1])
    told = [sys.executable, "-m", "onevision", *serve, "--port", str(free_port)]
    with subprocess.Popen(told, stderr=subprocess.PIPE, text=True) as server:
        try:
            end = time.monotonic() + 90
            while True:
                try:
                    with urlopen(f"http://127.0.0.1:{free_port}/v1/models") as reply:
                        models = json.load(reply)
                    break
                except URLError:
                    assert server.poll() is None, server.stderr.read()
                    assert time.monotonic() < end
                    time.sleep(0.2)
        finally:
            server.terminate()
    assert models["data"][0]["id"] == "out"


def test_a_second_call_says_that_it_is_finished(finished):
    told, _ = finished
    said = finetune(*told, "--held-out", "0.2")
    assert "is finished; give another --output" in said
    assert next_commands(said)


def test_what_is_missing_is_made_again(finished, place, tmp_path):
    told, _ = finished
    shutil.copytree(place / "out", tmp_path / "out")
    (tmp_path / "out" / "result.json").unlink()
    shutil.rmtree(tmp_path / "out" / "checkpoint")
    said = finetune(*told[:3], "-o", tmp_path / "out", *told[5:], "--held-out", "0.2")
    assert "continues as it began" in said
    assert next_commands(said)
    assert len(lines(tmp_path / "out")) == len(lines(place / "out"))  # no step is taken again
    first, second = (
        json.loads((one / "result.json").read_text()) for one in (place / "out", tmp_path / "out")
    )
    assert first == second


@pytest.mark.slow
def test_a_call_that_was_stopped_continues_with_the_same_command(finished, place, tmp_path):
    told, _ = finished
    out = tmp_path / "out"
    words = ["finetune", *told[:3], "-o", out, *told[5:], "--held-out", "0.2"]
    words += [word for one in FAST for word in ("--set", one)]
    command = [sys.executable, "-m", "onevision", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as stopped:
        wait_for_line(out, 5)
        stopped.send_signal(signal.SIGTERM)
        error = stopped.communicate()[1].decode()
    assert "stopped; run the same command again to resume" in error
    assert not (out / "checkpoint").exists()
    before = len(lines(out))
    assert next_commands(finetune(*words[1:10], "--held-out", "0.2"))
    assert before < len(lines(out)) == len(lines(place / "out"))
    assert validation(out)[-1]["loss"] == validation(place / "out")[-1]["loss"]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--epochs", "7"), "epochs: 6 -> 7"),
        (("--seed", "3"), "seed: 0 -> 3"),
        (("--method", "qlora"), "method: lora -> qlora"),
        (("--held-out", "none"), "held-out: 0.2 -> none"),
    ],
)
def test_a_directory_of_other_settings_is_refused_by_name(finished, option, said):
    told, _ = finished
    text = finetune(*told, "--held-out", "0.2", *option, code=1)
    assert "began with other settings" in text
    assert said in text


def test_a_directory_of_something_else_is_refused(finished, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    told, _ = finished
    said = finetune(*told[:3], "-o", tmp_path, code=1)
    assert "it holds other files (thesis.txt)" in said
    assert [one.name for one in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_plan_trains_and_writes_nothing(finished, tmp_path):
    told, _ = finished
    said = finetune(*told[:3], "-o", tmp_path / "out", "--plan")
    assert "full: all weights of projector and language model train" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--memory", "0.0001"), "the least that was tried needs"),
        (("--method", "full", "--lora-rank", "4"), "--lora-rank is for adapters"),
        (("--method", "lorra"), "method is 'lorra'"),
        (("--held-out", "2"), "expected a share above 0 and below 1"),
        (("--held-out", "nowhere.json"), "--held-out is 'nowhere.json'"),
        (("--epochs", "0"), "--epochs is 0; expected at least 1"),
        (("--set", "learning_rat=1"), "did you mean 'learning_rate'"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_written(finished, tmp_path, more, said):
    told, _ = finished
    text = finetune(*told[:3], "-o", tmp_path / "out", *more, code=1)
    assert said in text.partition("error: ")[2]
    assert "\n" not in text.partition("error: ")[2]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("data", "start", "said"),
    [
        ("nowhere.json", "tiny", "nowhere.json: no such"),
        (None, "somebody/model", "somebody/model: no such directory, and the hub cannot be"),
        (None, "nowhere", "no model 'nowhere'"),
    ],
)
def test_data_or_models_that_are_not_here(finished, tmp_path, data, start, said, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    told, _ = finished
    text = finetune(data or told[0], "--from", start, "-o", tmp_path / "out", code=1)
    assert said in text
    assert not (tmp_path / "out").exists()


def test_too_many_bad_samples_stop_it_with_the_way_out(finished, tmp_path):
    def lose(records):
        for one in records[:4]:
            one["image"] = "lost.png"

    told, _ = finished
    data = write_tiles(tmp_path / "data", 12, spoil=lose)
    text = finetune(data, *told[1:3], "-o", tmp_path / "out", code=1)
    assert "4 of 12 samples cannot be learned from, more than the 10%" in text
    assert "--set max_bad_share=0.34" in text


def test_data_without_samples_are_said(finished, tmp_path):
    told, _ = finished
    text = finetune(write_tiles(tmp_path, 0), *told[1:3], "-o", tmp_path / "out", code=1)
    assert "tiles.json: it holds no samples" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_samples_to_hold_some_out_are_said_before_anything_is_written(
    finished, tmp_path, count
):
    told, _ = finished
    data = write_tiles(tmp_path / "data", count)
    text = finetune(data, *told[1:3], "-o", tmp_path / "out", code=1)
    assert f"{count} usable sample" in text
    assert "give 4 at least, or learn from all without measuring (--held-out none)" in text
    assert not (tmp_path / "out").exists()
    said = finetune(data, *told[1:3], "-o", tmp_path / "out", "--held-out", "none", "--plan")
    assert f"{count} of {count} sample" in said


def test_targets_decide_what_trains(finished, tmp_path):
    told, _ = finished
    more = ("--epochs", "1", "--held-out", "none", "-o", tmp_path / "out", "--set")
    said = finetune(*told[:3], *more, "lora_targets=all")
    assert "lora: adapters of rank 16 on the language model and the vision encoder" in said
    values = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text())
    parts = {name.split(".")[1] for name in values["target_modules"]}
    assert parts == {"language_model", "vision_tower"}
    assert not [name for name in values["modules_to_save"] if "vision" in name]


# On an adapter


@pytest.fixture(scope="module")
def on_an_adapter(finished, place):
    """A model fine-tuned on the first one's adapter, and what the command printed."""
    told, _ = finished
    adapter = ("--adapter", place / "out" / "adapter")
    told_again = (*told[:3], *adapter, "-o", place / "second", "--method", "lora")
    return told_again, finetune(*told_again, "--epochs", "1", "--held-out", "0.2")


def test_training_starts_from_the_merged_adapter(on_an_adapter, place):
    merged, first = (inspect(place / one).tensors for one in ("second/base", "out/checkpoint"))
    assert merged.keys() == first.keys()
    assert all(torch.equal(merged[name].read(), first[name].read()) for name in first)
    scores = json.loads((place / "second" / "result.json").read_text())["held_out"]
    previous = json.loads((place / "out" / "result.json").read_text())["held_out"]
    (match,), (end,) = (
        [one for one in each if one["name"] == "exact match"] for each in (scores, previous)
    )
    assert match["before"] == end["after"]


def test_the_second_adapter_loads_on_the_base_that_it_names(on_an_adapter, place):
    _, said = on_an_adapter
    base, adapter = place / "second" / "base", place / "second" / "adapter"
    assert f"adapter  {adapter} (on {base})" in said
    ask, _, _ = next_commands(said)
    merged = call(*ask, settings=())
    beside = (*ask[:2], "--model", base, "--adapter", adapter, *ask[4:])
    assert call(*beside, settings=()) == merged
    wrong = (*ask[:2], "--model", place / "base", "--adapter", adapter, *ask[4:])
    assert f"by its own word those of '{base}'" in call(*wrong, settings=(), code=1)


@pytest.mark.parametrize("method", [pytest.param("full", marks=pytest.mark.slow), "lora"])
def test_an_adapter_of_another_model_is_refused_unless_told(on_an_adapter, place, tmp_path, method):
    told, _ = on_an_adapter
    wrong = (*told[:3], "--adapter", place / "second" / "adapter", "-o", tmp_path / "out")
    more = ("--method", method, "--epochs", "1", "--held-out", "none")
    assert "it was trained on other weights than these" in finetune(*wrong, *more, code=1)
    assert not (tmp_path / "out").exists()
    said = finetune(*wrong, *more, "--no-verify")
    assert call(*ask_command(said), "--max-new-tokens", "4", settings=()).strip()
    assert (tmp_path / "out" / "adapter").is_dir() == (method == "lora")


def test_a_plan_on_an_adapter_writes_nothing(on_an_adapter, tmp_path):
    told, _ = on_an_adapter
    finetune(*told[:5], "-o", tmp_path / "out", "--plan")
    assert not (tmp_path / "out").exists()
    said = finetune(*told[:3], "--adapter", tmp_path, "-o", tmp_path / "out", code=1)
    assert f"adapter {tmp_path}: holds none" in said


@pytest.mark.slow
def test_weights_that_were_changed_are_refused_unless_told(finished, place, tmp_path):
    told, _ = finished
    start = tmp_path / "start"
    shutil.copytree(place / "out" / "checkpoint", start)
    sums = json.loads((start / "checksums.json").read_text())
    text = json.dumps(sums)
    digest = re.search(r"[0-9a-f]{64}", text)[0]
    (start / "checksums.json").write_text(text.replace(digest, "0" * 64))
    more = ("--from", start, "-o", tmp_path / "out", "--epochs", "1", "--held-out", "none")
    assert "its bytes are not those of checksums.json" in finetune(told[0], *more, code=1)
    assert "\nnext\n" in finetune(told[0], *more, "--no-verify")


@pytest.mark.slow
def test_a_copied_checkpoint_is_tuned_like_the_original(finished, place, tmp_path):
    """What lies beside a checkpoint decides nothing."""
    told, _ = finished
    shutil.copytree(place / "out" / "checkpoint", tmp_path / "elsewhere")
    for number, start in enumerate((place / "out" / "checkpoint", tmp_path / "elsewhere")):
        told_again = (told[0], "--from", start, "-o", tmp_path / str(number), "--epochs", "1")
        finetune(*told_again, "--held-out", "none")
    first, second = (lines(tmp_path / one)[-1]["loss"] for one in "01")
    assert first == second


# Any checkpoint


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "rows"), [("onevision", 4160), ("llava-hf", 4096), ("lmms-lab", 5000)]
)
def test_any_layout_and_vocabulary_is_tuned(place, tmp_path, layout, rows):
    config = replace(MICRO, language=replace(MICRO.language, vocab_size=rows))
    start = write_checkpoint(tmp_path / "ours", config)
    if layout != "onevision":
        convert(inspect(start), tmp_path / "theirs", layout=layout)
        start = tmp_path / "theirs"
    data = write_tiles(tmp_path / "data", 8)
    said = finetune(data, "--from", start, "-o", tmp_path / "out", "--epochs", "1")
    ask, _, evaluate = next_commands(said)
    assert call(*ask, settings=()).strip()
    assert "held_out: 1 answer" in call(*evaluate, settings=())
    tuned = inspect(tmp_path / "out" / "checkpoint").config
    assert tuned.language.vocab_size == inspect(start).config.language.vocab_size


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llava-1.5", "llava-v1.6-mistral", "llama3-llava-next"])
def test_any_member_of_the_family_is_tuned(place, tmp_path, name):
    family = pytest.importorskip("tests.parity.family")
    member = family.MEMBERS[name]
    start = family.write(family.build(member), member, tmp_path / "theirs")
    data = write_tiles(tmp_path / "data", 8)
    said = finetune(data, "--from", start, "-o", tmp_path / "out", "--epochs", "1")
    ask, _, _ = next_commands(said)
    call(*ask, "--max-new-tokens", "4", settings=())  # random weights may answer nothing
    assert read_train_config(tmp_path / "out" / "settings.json").stage.template is None


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_learn_what_one_learns(finished, place, tmp_path):
    told, _ = finished
    for count in (1, 2):
        more = ("--epochs", "1", "--held-out", "none", "--devices", count, "--device", "cpu")
        finetune(*told[:3], "-o", tmp_path / str(count), *more)
    first, second = ([line["loss"] for line in lines(tmp_path / one)] for one in "12")
    assert first == pytest.approx(second, rel=1e-4)
