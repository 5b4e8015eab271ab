import math
import pickle
from dataclasses import fields, replace

import pytest
import torch

from onevision.anyres import SingleCrop, plan
from onevision.config import VisionConfig
from onevision.data.entries import read_datasets
from onevision.data.mixture import published_mixtures
from onevision.errors import ConfigError
from onevision.known_models import ARCHITECTURES, ONEVISION_7B, TINY
from onevision.model.llava import LlavaNetwork
from onevision.native import Native
from onevision.synth.families import FAMILIES
from onevision.train.objectives.table import OBJECTIVES, objective_maker
from onevision.train.stage import stage_config
from onevision.train.stages import (
    CURRICULA,
    Stage,
    stage_named,
)

STAGES = CURRICULA["tiny"]
MIXTURES = published_mixtures()
EVERY = [(size, stage) for size, stages in CURRICULA.items() for stage in stages.values()]
# Pictures of every shape, from a pixel to far beyond the largest canvas.
SIZES = [(w, h) for w in (1, 300, 384, 770, 1200, 4000, 9000) for h in (1, 384, 777, 2304, 9000)]

# Of tiny alone: its last stage goes on, and then it learns to read.
MORE = ("onevision_more", "onevision_clips")
READING = ("letters", "onevision_reading")


def differing(old: Stage, new: Stage) -> set[str]:
    return {f.name for f in fields(Stage) if vars(old)[f.name] != vars(new)[f.name]}


@pytest.mark.parametrize("size", ["0.5b", "7b", "72b"])
def test_the_papers_numbers(size):
    align, *later = CURRICULA[size].values()
    assert [s.name for s in (align, *later)] == ["align", "knowledge", "single_image", "onevision"]
    assert align.trainable == ("projector",)
    assert (align.learning_rate, align.vision_learning_rate) == (1e-3, None)
    assert (align.template, align.global_batch) == ("plain", 512)
    for stage in later:
        assert stage.trainable == ("vision_encoder", "projector", "language_model")
        assert [stage.rate_of(part) for part in stage.trainable] == [2e-6, 1e-5, 1e-5]
        assert (stage.template, stage.global_batch) == ("qwen_1_5", 256)
    for stage in (align, *later):
        assert (stage.epochs, stage.warmup, stage.weight_decay) == (1, 0.03, 0)
        assert (stage.betas, stage.epsilon, stage.max_grad_norm) == ((0.9, 0.999), 1e-8, 1.0)
        assert stage.num_frames == 32


def test_the_familys_numbers():
    rates = {
        (size, stage.name): (stage.learning_rate, stage.global_batch, stage.epochs)
        for size, stage in EVERY
        if size in ("llava-v1-7b", "llava-1.5-7b", "llava-next-vicuna-7b")
    }
    assert rates == {
        ("llava-v1-7b", "align"): (2e-3, 128, 1),
        ("llava-v1-7b", "instruct"): (2e-5, 32, 3),
        ("llava-v1-7b", "science_qa"): (2e-5, 32, 12),
        ("llava-1.5-7b", "align"): (1e-3, 256, 1),
        ("llava-1.5-7b", "instruct"): (2e-5, 128, 1),
        ("llava-next-vicuna-7b", "align"): (1e-3, 256, 1),
        ("llava-next-vicuna-7b", "instruct"): (1e-5, 128, 1),
    }
    for size in ("llava-v1-7b", "llava-1.5-7b", "llava-1.5-hd-13b"):
        assert "vision_encoder" not in stage_named("instruct", size).trainable
    assert stage_named("instruct", "llava-next-34b").vision_learning_rate == 2e-6


def test_what_goes_on_from_onevision():
    where = {"name", "starts_from", "mixture"}
    base = CURRICULA["7b"]["onevision"]
    video = stage_named("video", "llava-video-7b")
    assert differing(base, video) == {"name", "mixture", "num_frames", "video_rule"}
    assert (video.num_frames, stage_named("video", "llava-video-72b").num_frames) == (64, 32)
    critic = stage_named("critic", "llava-critic-7b")
    assert differing(base, critic) == where | {"global_batch", "learning_rate"}
    assert (critic.global_batch, critic.learning_rate, critic.epochs) == (32, 2e-6, 1)


def test_interleave_freezes_the_encoder():
    before, last = (stage_named(s, "llava-interleave-7b") for s in ("instruct", "interleave"))
    assert differing(before, last) == {
        *("name", "starts_from", "mixture"),
        *("trainable", "vision_learning_rate"),
    }
    assert "vision_encoder" not in last.trainable


@pytest.mark.parametrize("size", ARCHITECTURES)
def test_every_known_model_has_a_curriculum(size):
    target = ARCHITECTURES[size]
    *_, last = CURRICULA[size].values()
    assert stage_config(last, target) == target
    align = stage_config(stage_named("align", size), target)
    if isinstance(target.inputs.image, Native):  # the first stage reads pictures as the last does
        assert align == target
        return
    assert (align.inputs.template, align.image_newline) == ("plain", False)
    crops = isinstance(target.vision, VisionConfig) and target.vision.class_token
    assert align.inputs.image.fit == ("crop" if crops else "squash")


def test_derived_stages_differ_only_where_they_should():
    published, tiny = CURRICULA["7b"], CURRICULA["tiny"]
    where = {"name", "starts_from", "mixture"}
    assert differing(published["knowledge"], published["single_image"]) == where | {"resolution"}
    assert differing(published["single_image"], published["onevision"]) == where
    for name in ("knowledge", "single_image", "onevision"):
        assert differing(published[name], CURRICULA["72b"][name]) == {"max_tokens"}
    drawn = {"name", "starts_from", "families", "num_samples"}
    assert differing(tiny["knowledge"], tiny["single_image"]) == drawn | {
        "resolution",
        "max_questions",
        "learning_rate",
        "vision_learning_rate",
    }
    assert differing(tiny["single_image"], tiny["onevision"]) == drawn
    for name in (*MORE, "onevision_reading"):
        longer = {"name", "starts_from", "families", "num_samples"}
        assert differing(tiny["onevision"], tiny[name]) == longer


def test_tiny_makes_its_parts_first_and_teaches_properties():
    assert list(STAGES) == ["vision", "language", *CURRICULA["0.5b"], *MORE, *READING]
    assert STAGES["align"].starts_from == ("vision", "language")
    assert [s.name for s in STAGES.values() if not s.aspects] == ["language", "align"]
    for stage in STAGES.values():
        assert (stage.vision_objective == "patches") == (stage.name == "letters")
        assert stage.betas == (0.9, 0.98)
        assert stage.optimizer == "muon"


def test_the_next_tiny_keeps_its_trunk_and_its_size():
    """At most 12 million parameters, 25 MB in bf16 with the tokenizer's megabyte."""
    stages = CURRICULA["tiny-v2"]
    assert list(stages) == ["language", "align", "knowledge", "single_image", "onevision"]
    assert all("vision_encoder" not in stage.trainable for stage in stages.values())
    with torch.device("meta"):
        network = LlavaNetwork(ARCHITECTURES["tiny-v2"])
    assert sum(p.numel() for p in network.parameters()) == 11_389_168


@pytest.mark.parametrize(("size", "stage"), EVERY)
def test_every_stage_can_be_learned_from_what_it_names(size, stage):
    for start in stage.starts_from:
        assert start in CURRICULA[size]
    assert set(stage.families) <= set(FAMILIES)
    if stage.mixture is not None:
        assert read_datasets(MIXTURES / stage.mixture)
    assert pickle.loads(pickle.dumps(stage)) == stage


@pytest.mark.parametrize(("stage", "crops"), [("align", 1), ("knowledge", 5), ("onevision", 37)])
def test_the_ladder_of_crops(stage, crops):
    rule = stage_config(stage_named(stage, "7b"), ONEVISION_7B).inputs.image
    layouts = [plan(width=w, height=h, rule=rule) for w, h in SIZES]
    assert max(layout.num_crops for layout in layouts) == crops


def test_the_ladder_of_tokens():
    def most(stage: str) -> int:
        """The most patches of any picture, without the end-of-row vectors."""
        rule = stage_config(stage_named(stage, "7b"), ONEVISION_7B).inputs.image
        layouts = [plan(width=w, height=h, rule=rule) for w, h in SIZES]
        return max(layout.num_tokens - layout.out_rows * layout.newline for layout in layouts)

    assert most("align") == 729
    assert most("knowledge") == 5 * 729
    # Nine crops' budget may be exceeded by a tenth on each side before it is enforced.
    assert 9 * 729 < most("onevision") <= 729 + 9 * 729 * 1.1**2
    square = plan(
        width=2304,
        height=2304,
        rule=stage_config(stage_named("single_image", "7b"), ONEVISION_7B).inputs.image,
    )
    assert square.num_tokens - square.out_rows <= 10 * 729


def test_align_has_no_newline_and_the_models_own_rules_come_back():
    for size in ("tiny", "7b"):
        target = ARCHITECTURES[size]
        align = stage_config(stage_named("align", size), target)
        assert isinstance(align.inputs.image, SingleCrop)
        assert align.inputs.multi_image == align.inputs.image
        assert (align.image_newline, align.inputs.template) == (False, "plain")
        first = {"tiny": "single_image", "7b": "knowledge"}[size]
        config = stage_config(stage_named(first, size), target)
        assert replace(config, inputs=target.inputs) == target
        assert stage_config(stage_named("onevision", size), target) == target


def test_the_vision_stage_reads_captions_off_a_small_decoder():
    config = stage_config(STAGES["vision"], TINY)
    assert config.vision == TINY.vision
    assert config.language.num_layers == 3
    assert stage_config(STAGES["language"], TINY).language == TINY.language


def test_steps_follow_from_the_data():
    assert stage_named("align", "7b").num_steps(558_000) == math.ceil(558_000 / 512) == 1090
    assert stage_named("instruct", "llava-v1-7b").num_steps(158_000) == math.ceil(158_000 * 3 / 32)
    assert STAGES["align"].num_steps() == 188
    with pytest.raises(ConfigError, match=r"its steps follow from the rows of align\.yaml"):
        stage_named("align", "7b").num_steps()


def test_a_mixture_takes_the_place_of_families():
    stage = STAGES["knowledge"].learning_from("mine.yaml")
    assert differing(STAGES["knowledge"], stage) == {"mixture", "families", "num_samples"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trainable": ("projector",)}, "vision_learning_rate is 2e-06; expected none"),
        ({"vision_learning_rate": None}, "expected a rate, since vision_encoder is among"),
        ({"trainable": ("image_newline",)}, "expected some of vision_encoder, projector"),
        ({"families": {"scenes": 1.0}}, "mixture is 'knowledge.yaml'; expected none beside"),
        ({"num_samples": 5}, "num_samples is 5; expected none: count rows"),
        ({"mixture": None, "families": {"scenes": 1.0}}, "num_samples is None; expected a number"),
        ({"global_batch": 0}, "global_batch is 0; expected more than 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0; expected more than 0"),
        ({"warmup": 1.0}, "warmup is 1.0; expected a share of the steps"),
        ({"betas": (0.9, 1.0)}, r"betas is \(0.9, 1.0\); expected two numbers"),
    ],
)
def test_a_stage_refuses_to_contradict_itself(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(stage_named("knowledge", "7b"), **changes)


def test_unknown_names():
    with pytest.raises(ConfigError, match="no stage 'letters' of 7b; expected one of align, know"):
        stage_named("letters", "7b")
    with pytest.raises(ConfigError, match="no stage 'aligm' of 7b; did you mean 'align'"):
        stage_named("aligm", "7b")
    with pytest.raises(ConfigError, match="no curriculum 'onevison-1.5-4b'; did you mean 'onevis"):
        stage_named("align", "onevison-1.5-4b")
    with pytest.raises(ConfigError, match="no curriculum '8b'; there are .*, such as tiny, "):
        stage_named("align", "8b")


def test_an_encoder_taught_alone_keeps_the_newline_of_its_start():
    tiny = ARCHITECTURES["tiny"]
    assert stage_config(stage_named("letters"), tiny).image_newline
    assert not stage_config(stage_named("vision"), tiny).image_newline
    alone = replace(stage_named("letters"), starts_from=())
    assert not stage_config(alone, tiny).image_newline


def test_every_stage_names_an_objective():
    names = {stage.vision_objective for stages in CURRICULA.values() for stage in stages.values()}
    assert names == {"caption", "patches"} <= OBJECTIVES.keys()
    with pytest.raises(ConfigError, match="vision_objective is 'words'; expected one of caption,"):
        objective_maker("words")
