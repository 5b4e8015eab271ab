"""The log of a run: what it derives, what it survives, and where else it is shown."""

import io
import json
import math
import sys
import warnings
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from onevision.errors import InputError
from onevision.train.report.display import ProgressDisplay
from onevision.train.report.metrics import MetricsLog, StepMetrics, peak_memory_bytes, read_metrics


def measured(step, **changes):
    values = {
        "step": step,
        "num_steps": 100,
        "stage": "align",
        "loss": 2.0 / step,
        "loss_per_source": {"scenes": 1.5},
        "learning_rates": {"projector": 1e-3},
        "grad_norm": 0.5,
        "samples": 8 * step,
        "tokens": 1000,
        "supervised_tokens": 200,
        "seconds": 0.5,
        "data_seconds": 0.1,
        "memory_bytes": 2**30,
        "flops": 1e9,
        "skipped": False,
    }
    return StepMetrics(**values | changes)


def steps_in(directory):
    return [line["step"] for line in read_metrics(directory / "metrics.jsonl")]


def fill_disk(directory):
    """Make every write fail with "No space left on device"."""
    (directory / "metrics.jsonl").symlink_to("/dev/full")


@pytest.fixture
def heard():
    return []


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


def test_a_step_is_one_json_line(tmp_path):
    log = MetricsLog(tmp_path / "run")
    line = log.write(measured(1))
    text = (tmp_path / "run/metrics.jsonl").read_text()
    assert json.loads(text) == line
    assert text.count("\n") == 1
    plain = {key: value for key, value in asdict(measured(1)).items() if key != "statistics"}
    assert {key: line[key] for key in plain} == plain


def test_statistics_of_the_objective_stand_in_the_line(tmp_path):
    line = MetricsLog(tmp_path).write(measured(1, statistics={"margin": 0.5, "accuracy": 1.0}))
    assert (line["margin"], line["accuracy"]) == (0.5, 1.0)
    assert "statistics" not in line


def test_what_follows_from_the_measurements(tmp_path):
    line = MetricsLog(tmp_path, peak_flops=8e9).write(measured(1))
    assert line["tokens_per_second"] == 2000
    assert line["supervised_tokens_per_second"] == 400
    assert line["data_wait"] == 0.2
    assert line["mfu"] == 0.25  # 1e9 in half a second, of 8e9 a second


def test_without_a_known_peak_nothing_is_said_of_its_share(tmp_path):
    assert "mfu" not in MetricsLog(tmp_path).write(measured(1))


def test_of_operations_that_nobody_counted_there_is_no_share(tmp_path):
    assert "mfu" not in MetricsLog(tmp_path, peak_flops=8e9).write(measured(1, flops=0.0))


def test_a_step_that_took_no_time_is_written(tmp_path):
    assert MetricsLog(tmp_path).write(measured(1, seconds=0.0, data_seconds=0.0))["data_wait"] == 0


def test_the_rest_is_told_by_the_clock_and_counts_what_lies_between_steps(tmp_path):
    clock = Clock()
    log = MetricsLog(tmp_path, clock=clock)
    etas = []
    for step in (1, 2, 4):
        clock.seconds += 2.0 * (1 if step < 4 else 2)  # 0.5 of each in the step itself
        etas.append(log.write(measured(step))["eta_seconds"])
    assert etas == [99 * 0.5, 98 * (0.5 + 2) / 2, 96 * (0.5 + 2 + 2) / 3]


def test_past_its_last_step_a_run_has_nothing_left(tmp_path):
    assert MetricsLog(tmp_path).write(measured(3, num_steps=2))["eta_seconds"] == 0


def test_what_is_not_finite_is_null_and_named(tmp_path):
    sources = {"scenes": math.inf, "texts": 1.0}
    MetricsLog(tmp_path).write(measured(1, loss=math.nan, loss_per_source=sources))
    text = (tmp_path / "metrics.jsonl").read_text()
    line = json.loads(text, parse_constant=pytest.fail)
    assert line["loss"] is None
    assert line["loss_per_source"] == {"scenes": None, "texts": 1.0}
    assert line["not_finite"] == {"loss": "nan", "loss_per_source/scenes": "inf"}


def test_a_full_disk_warns_once_and_loses_nothing(tmp_path, heard):
    fill_disk(tmp_path)
    log = MetricsLog(tmp_path, warn=heard.append)
    for step in (1, 2, 3):
        log.write(measured(step))
    assert len(heard) == 1
    assert "No space left" in heard[0]
    assert "training continues" in heard[0]
    (tmp_path / "metrics.jsonl").unlink()
    log.write(measured(4))
    assert steps_in(tmp_path) == [1, 2, 3, 4]


def test_closing_tries_once_more(tmp_path, heard):
    fill_disk(tmp_path)
    with MetricsLog(tmp_path, warn=heard.append) as log:
        log.write(measured(1))
        (tmp_path / "metrics.jsonl").unlink()
    assert steps_in(tmp_path) == [1]


def test_by_default_it_warns_through_warnings(tmp_path):
    fill_disk(tmp_path)
    with pytest.warns(UserWarning, match="metrics cannot be written"):
        MetricsLog(tmp_path).write(measured(1))


def test_a_file_in_the_directorys_place_does_not_stop_a_run(tmp_path, heard):
    (tmp_path / "run").write_text("in the way")
    MetricsLog(tmp_path / "run", warn=heard.append).write(measured(1))
    assert len(heard) == 1


def test_a_line_torn_by_a_failing_write_is_replaced(tmp_path):
    log = MetricsLog(tmp_path)
    log.write(measured(1))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    log.write(measured(2))
    assert steps_in(tmp_path) == [1, 2]


def test_a_half_line_alone_is_replaced(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"ste')
    MetricsLog(tmp_path).write(measured(1))
    assert steps_in(tmp_path) == [1]


def test_a_removed_file_or_directory_is_begun_anew(tmp_path):
    log = MetricsLog(tmp_path / "run")
    log.write(measured(1))
    (tmp_path / "run/metrics.jsonl").rename(tmp_path / "rotated")
    log.write(measured(2))
    assert steps_in(tmp_path / "run") == [2]
    (tmp_path / "run/metrics.jsonl").unlink()
    (tmp_path / "run").rmdir()
    log.write(measured(3))
    assert steps_in(tmp_path / "run") == [3]


@pytest.mark.parametrize("tail", ["", '{"step": 7, "loss"', "\0\0\0\0", '{"step": 2}\n{"x'])
def test_rewinding_drops_newer_and_half_lines(tmp_path, tail):
    log = MetricsLog(tmp_path)
    for step in range(1, 6):
        log.write(measured(step))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(tail)
    resumed = MetricsLog(tmp_path)
    resumed.rewind(3)
    assert steps_in(tmp_path)[:3] == [1, 2, 3]
    assert max(steps_in(tmp_path)) == 3
    resumed.write(measured(4))
    assert steps_in(tmp_path)[-1] == 4
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_rewinding_keeps_lines_as_they_were_written(tmp_path):
    log = MetricsLog(tmp_path)
    log.write(measured(1))
    before = (tmp_path / "metrics.jsonl").read_bytes()
    log.write(measured(2))
    log.rewind(1)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_rewinding_to_the_start_or_without_a_file_is_no_error(tmp_path):
    log = MetricsLog(tmp_path)
    log.rewind(5)
    log.write(measured(1))
    log.rewind(0)
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_lines_that_wait_for_the_disk_are_rewound_too(tmp_path, heard):
    fill_disk(tmp_path)
    log = MetricsLog(tmp_path, warn=heard.append)
    log.write(measured(1))
    log.write(measured(2))
    (tmp_path / "metrics.jsonl").unlink()
    log.rewind(1)
    log.write(measured(2, loss=7.0))
    assert [line["loss"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [2.0, 7.0]


def test_a_crash_while_rewinding_leaves_the_old_lines(tmp_path, monkeypatch, heard):
    log = MetricsLog(tmp_path, warn=heard.append)
    log.write(measured(1))
    log.write(measured(2))

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", fail)
    log.rewind(1)
    assert steps_in(tmp_path) == [1, 2]
    assert "Input/output error" in heard[0]


def test_a_resumed_run_goes_on_counting_its_time(tmp_path):
    clock = Clock()
    log = MetricsLog(tmp_path, clock=clock)
    clock.seconds = 60.0
    log.write(measured(1))
    clock.seconds = 5.0  # another process, another origin
    resumed = MetricsLog(tmp_path, clock=clock)
    resumed.rewind(1)
    clock.seconds = 15.0
    assert resumed.write(measured(2))["elapsed_seconds"] == 70.0


def test_reading_skips_a_half_written_last_line_only(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert read_metrics(path) == [{"step": 1}, {"step": 2}]
    path.write_text('{"step": 1}\n{"st\n{"step": 2}\n')
    with pytest.raises(InputError, match="line 2 is not a JSON object with a step"):
        read_metrics(path)


def test_reading_says_where_there_are_none(tmp_path):
    with pytest.raises(InputError, match="no such file; give a directory"):
        read_metrics(tmp_path / "metrics.jsonl")


def test_peak_memory_is_what_this_process_took():
    device = torch.device("cpu")
    assert 50 * 2**20 < peak_memory_bytes(device) < 64 * 2**30


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_peak_memory_of_a_gpu_counts_its_tensors():
    device = torch.device("cuda")
    kept = torch.zeros(2**28, dtype=torch.uint8, device=device)
    assert peak_memory_bytes(device) >= kept.numel()


@pytest.mark.parametrize(
    ("package", "options"), [("tensorboard", {"tensorboard": True}), ("wandb", {"wandb": "mine"})]
)
def test_a_missing_package_is_named_with_its_command(tmp_path, monkeypatch, package, options):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"not installed; pip install 'onevision\[{package}\]'"):
        MetricsLog(tmp_path, **options)


def events(directory):
    """Read scalars back: {name: [(step, value), ...]}."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(directory))
    read.Reload()
    return {
        name: [(e.step, e.value) for e in read.Scalars(name)] for name in read.Tags()["scalars"]
    }


def test_tensorboard_shows_every_number(tmp_path):
    pytest.importorskip("tensorboard")
    with MetricsLog(tmp_path, tensorboard=True, peak_flops=8e9) as log:
        log.write(measured(1))
        log.write(measured(2, loss=math.nan))
        log.write(measured(3, skipped=True))
    read = events(tmp_path / "tensorboard")
    assert read["loss"] == [(1, 2.0), (3, pytest.approx(2 / 3))]
    assert read["loss_per_source/scenes"] == [(1, 1.5), (2, 1.5), (3, 1.5)]
    assert read["learning_rates/projector"][0] == (1, pytest.approx(1e-3))
    assert read["skipped"] == [(1, 0.0), (2, 0.0), (3, 1.0)]
    assert read["tokens_per_second"][0] == (1, 2000.0)
    assert read["mfu"] == [(1, 0.25), (2, 0.25), (3, 0.25)]


def test_tensorboard_forgets_what_was_rewound(tmp_path):
    pytest.importorskip("tensorboard")
    with MetricsLog(tmp_path, tensorboard=True) as log:
        for step in (1, 2, 3):
            log.write(measured(step))
        log.rewind(1)
        log.write(measured(2, loss=9.0))
    assert events(tmp_path / "tensorboard")["loss"] == [(1, 2.0), (2, 9.0)]


def test_tensorboard_without_room_does_not_stop_a_run(tmp_path, heard):
    pytest.importorskip("tensorboard")
    (tmp_path / "tensorboard").write_text("in the way")
    log = MetricsLog(tmp_path, tensorboard=True, warn=heard.append)
    log.write(measured(1))
    log.write(measured(2))
    assert steps_in(tmp_path) == [1, 2]
    assert len(heard) == 1
    assert heard[0].startswith("TensorBoard in")


class FakeWandb(SimpleNamespace):
    """Stands for the package, which is not needed to test what it is given."""

    class Error(Exception):
        pass

    def init(self, **options):
        if self.refuses:
            raise self.Error("no API key")
        self.options = options
        return SimpleNamespace(log=self.log, finish=self.finish, define_metric=lambda *_, **__: 0)

    def log(self, scalars):
        if self.breaks:
            raise self.Error("connection lost")
        self.logged.append(scalars)

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    package = FakeWandb(refuses=False, breaks=False, logged=[], finished=False)
    monkeypatch.setitem(sys.modules, "wandb", package)
    return package


def test_wandb_gets_every_number(tmp_path, wandb):
    with MetricsLog(tmp_path / "run-7", wandb="mine") as log:
        log.write(measured(1))
    assert wandb.options["project"] == "mine"
    assert wandb.options["name"] == "run-7"
    assert wandb.logged[0]["step"] == 1
    assert wandb.logged[0]["loss_per_source/scenes"] == 1.5
    assert wandb.finished


def test_wandb_that_cannot_open_is_said_at_once(tmp_path, wandb):
    wandb.refuses = True
    with pytest.raises(InputError, match="no API key.*wandb login"):
        MetricsLog(tmp_path, wandb="mine")


def test_wandb_that_breaks_does_not_stop_a_run(tmp_path, wandb, heard):
    wandb.breaks = True
    log = MetricsLog(tmp_path, wandb="mine", warn=heard.append)
    log.write(measured(1))
    log.write(measured(2))
    assert steps_in(tmp_path) == [1, 2]
    assert len(heard) == 1
    assert "connection lost" in heard[0]


def shown(lines, **console):
    output = io.StringIO()
    with ProgressDisplay(Console(file=output, **console), every_steps=2) as display:
        for line in lines:
            display.show(line)
    return output.getvalue()


@pytest.fixture
def lines(tmp_path):
    log = MetricsLog(tmp_path)
    changes = [{}, {"skipped": True, "loss": math.nan}, {}, {}, {}]
    return [log.write(measured(n, num_steps=5, **c)) for n, c in enumerate(changes, start=1)]


def test_without_a_terminal_there_is_a_plain_line_every_so_many_steps(lines):
    printed = shown(lines, width=40).splitlines()
    assert [line.split("  ")[0] for line in printed] == ["align 2/5", "align 4/5", "align 5/5"]
    assert printed[0].split("  ")[1:4] == ["loss 2", "2,000 tok/s", "waiting for data 20%"]
    assert printed[0].endswith("skipped 1")
    assert "\x1b" not in "".join(printed)


def test_a_terminal_gets_a_bar_with_the_figures(lines):
    printed = shown(lines, width=80, force_terminal=True)
    last = printed[printed.rindex("align 5/5") :]
    assert "100 %" in last
    assert "2,000 tok/s" in last
    assert "skipped 1" in last
    assert "\x1b[?25h" in last  # the cursor is back


def test_the_share_of_the_peak_is_shown_where_it_is_known(tmp_path):
    line = MetricsLog(tmp_path, peak_flops=8e9).write(measured(1, num_steps=1))
    assert "2,000 tok/s  MFU 25.0%  waiting" in shown([line])


def test_a_loss_that_was_never_finite_is_said(tmp_path):
    line = MetricsLog(tmp_path).write(measured(2, loss=math.nan))
    assert "loss not finite" in shown([line])


def test_nothing_is_warned_of_where_all_goes_well(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MetricsLog(tmp_path).write(measured(1))
