"""The family's recipes from end to end: every stage of each, on toy models of its architecture."""

import json
from dataclasses import replace

import pytest
import torch

from onevision import Conversation, Image, Message, Text, load
from onevision.checkpoint.load import inspect
from onevision.data.mixture import published_mixtures
from onevision.inputs.templates import end_ids
from onevision.known_models import ARCHITECTURES
from onevision.train.config import TrainConfig
from onevision.train.cost.amounts import simulate_mixture
from onevision.train.cost.devices import get_device_kind
from onevision.train.cost.plan import plan_training
from onevision.train.run import run_stage
from onevision.train.stage import stage_config
from onevision.train.stages import CURRICULA
from onevision.train.start import Starts
from tests.checkpoint.test_family import FAMILY, with_inputs
from tests.sentencepiece import CHATML, LLAMA_3, llama
from tests.train.runs import OPTIONS

MIXTURES = published_mixtures()
# The grids of high definition, at the toys' crops.
HD_GRIDS = replace(FAMILY["next"].inputs.image, grids=((1, 1), (1, 2), (2, 1), (2, 2)))
QWEN = replace(FAMILY["next"], language=replace(FAMILY["next"].language, attention_bias=True))
RECIPES = {
    "llava-v1-7b": FAMILY["v1"],
    "llava-1.5-7b": FAMILY["v1.5"],
    "llava-1.5-hd-13b": with_inputs(FAMILY["next"], image=HD_GRIDS),
    "llava-next-vicuna-7b": FAMILY["next"],
    "llava-next-mistral-7b": FAMILY["mistral"],
    "llava-next-llama3-8b": FAMILY["next"],
    "llava-next-34b": FAMILY["next"],
    "llava-next-qwen1.5-72b": QWEN,
    "llava-interleave-7b": QWEN,
}
# Of the formats that end an answer by another token than "</s>": their tokenizer's controls.
CONTROLS = {
    "llava-next-llama3-8b": LLAMA_3,
    "llava-next-34b": CHATML,
    "llava-next-qwen1.5-72b": CHATML,
    "llava-interleave-7b": CHATML,
}


@pytest.fixture
def mixture(tmp_path, picture):
    """Four rows about pictures and one of words alone, in the reference's own format."""
    rows = []
    for number in range(4):
        picture(60 + 40 * number, 80, seed=number).save(tmp_path / f"{number}.png")
        talk = [{"from": "human", "value": "<image>\nWhat is this?"},
                {"from": "gpt", "value": "a red ring"}]  # fmt: skip
        rows.append({"id": str(number), "image": f"{number}.png", "conversations": talk})
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    words = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "a human"}]
    (tmp_path / "words.json").write_text(json.dumps([{"id": "w", "conversations": words}]))

    def write(*names):
        path = tmp_path / f"{'-'.join(names)}.yaml"
        entries = [f"  - json_path: {name}.json\n    sampling_strategy: all\n" for name in names]
        path.write_text("datasets:\n" + "".join(entries))
        return str(path)

    return write


def train(stage, target, output, *, starts, tokenizer):
    """Run a stage as the command does, two samples a step; returns its checkpoint."""
    stage = replace(stage, global_batch=2, max_tokens=600, epochs=1)
    result = run_stage(
        TrainConfig(stage=stage, target=target, options=replace(OPTIONS, num_workers=0)),
        tokenizer=tokenizer,
        starts=starts,
        output=output,
    )
    return result.checkpoint


def changed(before, after):
    """The parts whose tensors a stage has moved."""
    one, two = inspect(before), inspect(after)
    return {
        name.partition(".")[0]
        for name, tensor in two.tensors.items()
        if name in one.tensors and not torch.equal(one.tensors[name].read(), tensor.read())
    }


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_end_to_end(tmp_path, name, mixture, picture):
    template = ARCHITECTURES[name].inputs.template
    target = with_inputs(RECIPES[name], template=template)
    tokenizer = llama(controls=CONTROLS.get(name, ()))
    align, *later = CURRICULA[name].values()
    begin = align.learning_from(mixture("rows"))
    first = train(begin, target, tmp_path / "align", starts=Starts(), tokenizer=tokenizer)
    assert inspect(first).config == stage_config(align, target)
    learned = {part for part in ("vision_encoder", "projector", "language_model")}
    made = {align.name: first}
    for stage in later:
        told, before = stage.learning_from(mixture("rows", "words")), made[stage.starts_from[0]]
        starts = Starts(previous=(before,))
        result = train(told, target, tmp_path / stage.name, starts=starts, tokenizer=tokenizer)
        made[stage.name] = result
        assert inspect(result).config == target
        moved = changed(before, result) - {"image_newline"}  # it moves with the language model
        assert moved == learned & set(stage.trainable)
        model = load(result, dtype="float32")
        assert model.sampling.end_ids == end_ids(template, tokenizer)
        talk = Conversation([Message("user", [Image(picture(90, 60)), Text("What is this?")])])
        assert model.ask(talk, max_new_tokens=2).usage.completion_tokens


def planned_hours(size, *, devices=8):
    """Hours of all stages on A100s of 80 GB, as `--plan` counts them."""
    hours = {}
    for stage in CURRICULA[size].values():
        inputs = stage_config(stage, ARCHITECTURES[size]).inputs
        amounts = simulate_mixture(MIXTURES / stage.mixture, stage, inputs)
        kind = get_device_kind("a100-80gb", price_per_hour=None)
        plan = plan_training(stage, ARCHITECTURES[size], amounts, kind=kind, num_devices=devices)
        assert plan.fits
        hours[stage.name] = plan.hours
    return hours


@pytest.mark.parametrize(
    ("size", "align", "instruct"), [("llava-1.5-7b", 3.5, 10), ("llava-1.5-13b", 5.5, 20)]
)
def test_the_plan_of_1_5_is_of_the_published_size(size, align, instruct):
    """The README of LLaVA gives these hours on 8 A100s; of the paper's "about a day", 13B's sum."""
    hours = planned_hours(size)
    assert hours["align"] == pytest.approx(align, rel=0.4)
    assert hours["instruct"] == pytest.approx(instruct, rel=0.4)


@pytest.mark.parametrize("size", ["llava-v1-7b", "llava-1.5-hd-13b", "llava-next-vicuna-7b"])
def test_every_recipe_can_be_planned(size):
    assert min(planned_hours(size).values()) > 0
