"""A sharded run holds only its part of the model, from the first number to the checkpoint."""

import os
import resource
import threading
import time
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from onevision.errors import ConfigError
from onevision.known_models import ARCHITECTURES
from onevision.model.llava import LlavaNetwork
from onevision.train.sharded.hollow import start_hollow
from onevision.train.start import Starts, start_network
from tests.native import NATIVE_2
from tests.train.conftest import write_checkpoint
from tests.train.runs import MICRO, SHORT, Told, killed_at_last, loss_values, tensors
from tests.train.test_faults import Does, Spoil

FEW = replace(SHORT, num_samples=8)
ALIGN = replace(FEW, name="align", trainable=("projector",), vision_learning_rate=None)
TIED = replace(MICRO, language=replace(MICRO.language, tie_embeddings=True))
CLASS_TOKEN = replace(MICRO, vision=replace(MICRO.vision, class_token=True, num_spare_layers=1))


def written(output):
    return load_file(output / "checkpoint" / "model.safetensors")


@pytest.mark.parametrize("draws_later", [True, False])
@pytest.mark.parametrize("config", [MICRO, TIED, CLASS_TOKEN, NATIVE_2, ARCHITECTURES["tiny"]])
def test_random_weights_are_those_of_one_process(config, draws_later):
    torch.manual_seed(7)
    whole = dict(start_network(SHORT, config, Starts()).named_parameters())
    after = torch.rand(3)
    torch.manual_seed(7)
    hollow = start_hollow(SHORT, config, Starts(), draws_later=draws_later)
    if draws_later:
        assert torch.equal(torch.rand(3), after)
    drawn = {name: tensor.clone() for name, tensor in hollow.draws.replay()}
    if not draws_later:
        assert torch.equal(torch.rand(3), after)
    held = dict(hollow.network.named_parameters())
    assert whole.keys() == held.keys()
    for name, tensor in whole.items():
        if held[name].is_meta:
            assert torch.equal(drawn[name], tensor), name
        else:
            assert torch.equal(held[name], tensor), name
            assert tensor.numel() <= 4 * config.language.hidden_size
    assert not list(hollow.network.buffers())


def test_nothing_is_drawn_if_the_starts_hold_every_weight(small):
    state = torch.get_rng_state()
    hollow = start_hollow(FEW, MICRO, Starts(previous=(small,)), draws_later=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert hollow.stored.keys() == dict(hollow.network.named_parameters()).keys()
    assert all(parameter.is_meta for parameter in hollow.network.parameters())


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A checkpoint that gives the language model, and one that gives the vision encoder."""
    place = tmp_path_factory.mktemp("parts")
    for name, seed in (("language", 1), ("vision", 2)):
        torch.manual_seed(seed)
        write_checkpoint(place / name, MICRO)
    return Starts(language_model=place / "language", vision_encoder=place / "vision")


@pytest.mark.distributed
@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_parts_and_a_new_projector_begin_as_in_one_process(nursery, tmp_path, parts, replicas):
    told = Told(output=tmp_path / "one", stage=ALIGN, starts=parts)
    nursery.train(told)
    shared = told.but(output=tmp_path / "shared", sharing="shard", replicas=replicas)
    nursery.train(shared, 2 * replicas)
    assert loss_values(shared.output)[0] == pytest.approx(loss_values(told.output)[0], rel=1e-6)
    one, other = written(told.output), written(shared.output)
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        if name.startswith("projector."):
            torch.testing.assert_close(other[name], tensor, atol=1e-5, rtol=1e-4)
        else:
            assert torch.equal(other[name], tensor), name


@pytest.mark.distributed
@pytest.mark.parametrize("base", [pytest.param("full", marks=pytest.mark.slow), "int8", "int4"])
def test_adapters_over_shards_learn_what_they_do_in_one_process(nursery, tmp_path, small, base):
    told = Told(output=tmp_path / "one", stage=FEW, starts=Starts(previous=(small,)))
    told = told.but(lora_rank=2, lora_targets="language", lora_base=base, save_steps=1, keep=9)
    nursery.train(told)
    shared = told.but(output=tmp_path / "two", sharing="shard")
    nursery.train(shared.but(stop_after=1), 2)
    nursery.train(shared, 2)  # its frozen weights are read again, its adapters from the snapshot
    assert loss_values(shared.output) == pytest.approx(loss_values(told.output), rel=1e-5)
    assert tensors(shared.output).keys() == tensors(told.output).keys()
    for file in ("checkpoint/model.safetensors", "adapter/adapter_model.safetensors"):
        one, other = load_file(told.output / file), load_file(shared.output / file)
        assert one.keys() == other.keys()
        for name, tensor in one.items():
            torch.testing.assert_close(other[name], tensor, atol=1e-5, rtol=1e-4)


@pytest.mark.distributed
def test_a_number_that_is_not_finite_ends_every_process_with_a_line(nursery, tmp_path, small):
    (small / "checksums.json").unlink()
    file = small / "model.safetensors"
    held = load_file(file)
    held["language_model.embedding.weight"][-1, 0] = torch.nan  # in the second one's rows
    save_file(held, file, {"format": "pt"})
    told = Told(output=tmp_path / "run", stage=FEW, starts=Starts(previous=(small,)))
    with killed_at_last(nursery.start(told.but(sharing="shard"), 2)) as children:
        assert [child.wait() for child in children] == [1, 1]
    assert "another process could not load its rows" in children[0].said
    assert "embedding.weight holds NaN or infinite numbers" in children[1].said
    assert "Traceback" not in children[0].said + children[1].said


@pytest.mark.slow
@pytest.mark.distributed
def test_changed_files_are_found_by_the_first_process(nursery, tmp_path, small):
    file = small / "model.safetensors"
    held = load_file(file)
    held["language_model.norm.weight"] += 1
    save_file(held, file, {"format": "pt"})
    told = Told(output=tmp_path / "run", stage=FEW, starts=Starts(previous=(small,)))
    said = nursery.train(told.but(sharing="shard"), 2, code=1)
    assert "its bytes are not those of checksums.json" in said
    nursery.train(told.but(sharing="shard", verify=False), 2)


def test_starts_of_another_shape_are_refused(small):
    wider = replace(MICRO, language=replace(MICRO.language, intermediate_size=60))
    with pytest.raises(ConfigError, match="its language model does not fit this model"):
        start_hollow(FEW, wider, Starts(previous=(small,)), draws_later=False)


@dataclass(frozen=True)
class FullDisk:
    """The first process can write no large file once the given line of metrics is there."""

    output: Path
    lines: int

    def __call__(self):
        if os.environ["RANK"] == "0":
            threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self):
        metrics = self.output / "metrics.jsonl"
        while not metrics.is_file() or metrics.read_bytes().count(b"\n") < self.lines:
            time.sleep(0.001)
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))


@pytest.mark.distributed
def test_a_checkpoint_that_cannot_be_written_leaves_no_process_waiting(nursery, tmp_path):
    told = Told(output=tmp_path, stage=FEW, before=FullDisk(tmp_path, 1))
    told = told.but(sharing="shard", save_steps=10**6, save_strict=False)
    with killed_at_last(nursery.start(told, 2)) as children:
        codes = [child.wait(30) for child in children]
    assert codes == [1, 0], children[0].said + children[1].said
    assert "checkpoint: cannot be written (File too large)" in children[0].said
    assert "Traceback" not in children[0].said + children[1].said


# 21 million numbers in fp32, the largest tensor an eighth of it.
LARGE = replace(
    MICRO,
    language=replace(
        MICRO.language, hidden_size=256, intermediate_size=3000, num_layers=8, num_heads=4
    ),
)


PEAK = {"bytes": 0, "sampling": True}  # of this process; a run is a process of its own


def sample_own_memory():
    """Sample this process's own memory, without pages of files, until `note_peak`."""
    import_module("torch._dynamo")  # a compiler, which dividing brings, is no part of the model

    def sample():
        first = own_bytes()
        while PEAK["sampling"]:
            PEAK["bytes"] = max(PEAK["bytes"], own_bytes() - first)
            time.sleep(0.001)

    threading.Thread(target=sample, daemon=True).start()


def own_bytes():
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) * 1024


def note_peak(directory):
    PEAK["sampling"] = False
    (directory / f"peak-{os.environ['RANK']}").write_text(str(PEAK["bytes"]))


@pytest.mark.distributed
@pytest.mark.parametrize("from_checkpoint", [pytest.param(True, marks=pytest.mark.slow), False])
def test_no_process_holds_the_whole_model_before_it_is_divided(
    nursery, tmp_path, monkeypatch, from_checkpoint
):
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")  # what is freed leaves no gaps
    with torch.device("meta"):
        sizes = [p.nbytes for p in LlavaNetwork(LARGE).parameters()]
    assert max(sizes) < sum(sizes) / 8
    starts = Starts()
    if from_checkpoint:
        torch.manual_seed(0)
        starts = Starts(
            previous=(write_checkpoint(tmp_path / "start", LARGE, dtype=torch.bfloat16),)
        )
    told = Told(
        output=tmp_path / "run", stage=replace(ALIGN, num_samples=4), target=LARGE, starts=starts,
        before=sample_own_memory, spoil=Spoil(Does(note_peak, (tmp_path,)), 1),
    ).but(sharing="shard", num_workers=0)  # fmt: skip
    nursery.train(told, 2)
    for rank in range(2):
        peak = int((tmp_path / f"peak-{rank}").read_text())
        share = (peak - max(sizes)) / sum(sizes)
        assert 0.4 < share < 0.75, f"process {rank}: {share:.2f} of the weights"


@pytest.mark.slow
@pytest.mark.distributed
def test_tied_weights_stay_one(nursery, tmp_path):
    told = Told(output=tmp_path / "one", stage=FEW, target=TIED)
    nursery.train(told)
    nursery.train(told.but(output=tmp_path / "two", sharing="shard"), 2)
    assert loss_values(tmp_path / "two") == pytest.approx(loss_values(tmp_path / "one"), rel=1e-5)
    one, other = written(tmp_path / "one"), written(tmp_path / "two")
    assert one.keys() == other.keys()
    assert "language_model.head.weight" not in one
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, atol=1e-4, rtol=1e-3)
