"""The curriculum's stages hand over to one another, and the parts learn that should."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from torch.nn import functional as F

from onevision.checkpoint.hub import BUNDLED
from onevision.checkpoint.load import inspect, load_network
from onevision.errors import ConfigError, TrainingError
from onevision.inputs.processor import Processor
from onevision.inputs.tokenizer import Tokenizer
from onevision.known_models import TINY
from onevision.model.llava import LlavaNetwork
from onevision.train.config import TrainConfig, read_train_config
from onevision.train.learner import Learner
from onevision.train.objectives.words import FamilyFeed
from onevision.train.optim import make_optimizer, set_learning_rate
from onevision.train.options import RunOptions
from onevision.train.parallel import Processes
from onevision.train.run import run_stage
from onevision.train.stage import stage_config
from onevision.train.stages import CURRICULA, stage_named
from onevision.train.start import Starts, start_network
from onevision.train.trainer import Trainer
from tests.conftest import randomise
from tests.train.runs import MICRO, SHORT, lines

STAGES = CURRICULA["tiny"]
BRIEF = {"num_samples": 6, "global_batch": 3, "max_tokens": 1500}


def trained(stage, target, starts, output, tokenizer):
    options = RunOptions(patience_seconds=200, precision="fp32")
    return run_stage(
        TrainConfig(stage=stage, target=target, options=options),
        tokenizer=tokenizer,
        starts=Starts(previous=tuple(starts)),
        output=output,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All stages, a few samples each."""
    root, tokenizer = tmp_path_factory.mktemp("runs"), Tokenizer.from_directory(BUNDLED["tiny"])
    for name, stage in STAGES.items():
        starts = [root / start / "checkpoint" for start in stage.starts_from]
        outcome = trained(replace(stage, **BRIEF), MICRO, starts, root / name, tokenizer)
        assert outcome.exit_code == 0
        assert outcome.checkpoint == root / name / "checkpoint"
    return root


def weights(root, name):
    return load_network(inspect(root / name / "checkpoint")).state_dict()


def test_the_stages_hand_over_to_one_another(runs):
    assert inspect(runs / "onevision" / "checkpoint").config == MICRO
    assert [(line["step"], line["samples"]) for line in lines(runs / "onevision")] == [
        (1, 3),
        (2, 6),
    ]
    assert read_train_config(runs / "onevision" / "settings.json").stage == replace(
        STAGES["onevision"], **BRIEF
    )


def test_align_trains_the_projector_alone(runs):
    align, vision, language = (weights(runs, name) for name in ("align", "vision", "language"))
    for name, tensor in align.items():
        if name.startswith("vision_encoder."):
            assert torch.equal(tensor, vision[name])
        if name.startswith("language_model."):
            assert torch.equal(tensor, language[name])


def test_the_newline_begins_where_pictures_are_cut_into_crops(runs):
    have = {name for name in STAGES if "image_newline" in weights(runs, name)}
    cut = {name for name, stage in STAGES.items() if stage.resolution != "one_crop"}
    assert have == cut | {"letters"}  # which leaves what its start has
    assert weights(runs, "onevision")["image_newline"].shape == (32,)


def test_letters_train_the_vision_encoder_alone(runs):
    before, after = weights(runs, "onevision_clips"), weights(runs, "letters")
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed and all(name.startswith("vision_encoder.") for name in changed)


def test_later_stages_train_everything(runs):
    before, after = weights(runs, "knowledge"), weights(runs, "single_image")
    same = {n for n, t in before.items() if torch.equal(t, after[n])}
    assert same == {"vision_encoder.post_norm.weight", "vision_encoder.post_norm.bias"}


@pytest.fixture
def feed(tokenizer):
    processor = Processor(MICRO.inputs, tokenizer)
    return lambda **place: FamilyFeed(SHORT, processor, **({"seed": 1} | place))


def test_the_same_seed_gives_the_same_batches(feed):
    for one, other in zip(next(feed().steps(5)), list(feed().steps(4))[1], strict=True):
        assert torch.equal(one.batch.input_ids, other.batch.input_ids)
        assert torch.equal(one.batch.pixel_values, other.batch.pixel_values)
        assert one.samples == other.samples
        assert one.batch.input_ids.numel() <= SHORT.max_tokens or len(one.samples) == 1
    others = feed(seed=2).row(0)[1]
    assert not torch.equal(feed().row(0)[1].input_ids, others.input_ids)


def test_a_step_is_dealt_out_to_all_processes(feed):
    def samples(share):
        return {name for one in share for name in one.samples}

    whole = samples(next(feed().steps(3)))
    shares = [samples(next(feed(rank=rank, ranks=3).steps(3))) for rank in range(3)]
    assert len(whole) == SHORT.global_batch
    assert sorted(whole) == sorted(name for share in shares for name in share)


@pytest.fixture
def make_trainer(feed):
    def make(feed=feed, **options):
        network = randomise(LlavaNetwork(MICRO), std=0.05).train()
        return Trainer(
            SHORT,
            Learner(network),
            make_optimizer(network, SHORT),
            feed(),
            processes=Processes(),
            options=RunOptions(precision="fp32", **options),
        )

    return make


def mean_losses(trainer, share):
    """Return the loss of every target, micro-batch by micro-batch, by the plain way."""
    network, terms = trainer.learner.network, []
    for batch in (one.batch for one in share):
        visual = network.encode(batch.pixel_values, batch.layouts)
        x = network.place(batch.input_ids, batch.visual_mask, visual)
        hidden = network.run(x, batch.position_ids, mask=batch.mask).flatten(0, 1)
        logits = network.head(hidden[batch.sources])
        terms.append(F.cross_entropy(logits, batch.targets, reduction="none"))
    return terms


@pytest.mark.parametrize("loss_mean", ["tokens", "micro_batches"])
def test_the_gradient_is_that_of_the_mean(make_trainer, feed, loss_mean):
    """Of all tokens of the step; or, as the reference has it, of the means of its micro-batches."""
    trainer, share = make_trainer(loss_mean=loss_mean), next(feed().steps(0))
    terms = mean_losses(trainer, share)
    assert len({len(one) for one in terms}) > 1  # otherwise both means are one
    mean = torch.cat(terms).mean()
    if loss_mean == "micro_batches":
        mean = torch.stack([one.mean() for one in terms]).mean()
    parameters = trainer.parameters
    expected = torch.autograd.grad(mean, parameters, allow_unused=True)
    totals, suspects = trainer._compute_gradients(share)
    assert totals.loss == pytest.approx(torch.cat(terms).mean().item(), rel=1e-5)
    assert suspects == []
    for parameter, gradient in zip(parameters, expected, strict=True):
        gradient = torch.zeros_like(parameter) if gradient is None else gradient
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def test_sources_have_losses_of_their_own(make_trainer):
    for metrics in islice(make_trainer().steps(), 3):
        assert set(metrics.loss_per_source) <= {"scenes", "texts"}
        low, high = min(metrics.loss_per_source.values()), max(metrics.loss_per_source.values())
        assert low <= metrics.loss <= high


def test_a_long_gradient_is_shortened(make_trainer):
    trainer = make_trainer()
    for parameter in trainer.parameters:
        parameter.grad = torch.zeros_like(parameter)
    trainer.parameters[0].grad += 10
    norm = trainer._clip()
    assert norm == pytest.approx(10 * trainer.parameters[0].numel() ** 0.5)
    assert float(trainer.parameters[0].grad.norm()) == pytest.approx(SHORT.max_grad_norm, rel=1e-4)


def test_too_many_skipped_steps_end_the_run(make_trainer):
    trainer = make_trainer(max_spike=1e-9, max_skipped=2)
    with pytest.raises(TrainingError, match="steps skipped in a row: 2.*max_spike"):
        list(trainer.steps())
    assert (trainer.progress.step, trainer.progress.updates) == (2, 0)


def test_every_part_has_its_rate():
    network = LlavaNetwork(TINY)
    stage = replace(
        stage_named("onevision"),
        optimizer="adamw",
        learning_rate=1e-3,
        vision_learning_rate=2e-4,
        warmup=0.1,
    )
    optimizer = make_optimizer(network, stage)
    set_learning_rate(optimizer, progress=0.1, warmup=0.1)
    assert {g["name"]: g["lr"] for g in optimizer.param_groups} == {
        "vision_encoder": 2e-4,
        "projector": 1e-3,
        "language_model": 1e-3,
    }
    newline = next(g for g in optimizer.param_groups if g["name"] == "language_model")["params"][-1]
    assert newline is network.image_newline
    set_learning_rate(optimizer, progress=0.05, warmup=0.1)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)
    set_learning_rate(optimizer, progress=1.0, warmup=0.1)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0)


def test_starts_that_do_not_fit_are_refused(runs):
    with pytest.raises(ConfigError, match="stage align starts from vision and language; 0"):
        start_network(STAGES["align"], stage_config(STAGES["align"], MICRO), Starts())
    other = replace(MICRO, vision=replace(MICRO.vision, hidden_size=32))
    align = Starts(previous=(runs / "align" / "checkpoint",))
    with pytest.raises(ConfigError, match="does not fit this model"):
        start_network(STAGES["knowledge"], stage_config(STAGES["knowledge"], other), align)
    with pytest.raises(
        ConfigError, match="it is of stage align; onevision starts from single_image"
    ):
        start_network(STAGES["onevision"], stage_config(STAGES["onevision"], MICRO), align)
    with pytest.raises(ConfigError, match="no stage 'alining'"):
        stage_named("alining")
