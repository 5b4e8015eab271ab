"""Exact resume over workers and ranks, bad samples in quarantine, dead workers replaced."""

import json
import os
import signal
import time
from dataclasses import dataclass, fields

import pytest
import torch

from onevision.data.loader import Loader
from onevision.data.order import Order
from onevision.data.packs import pack
from onevision.data.plan import MODALITIES
from onevision.data.planner import make_plan
from onevision.data.quarantine import BadSample, Quarantine
from onevision.data.samples import SampleReader
from onevision.data.slots import Slots
from onevision.data.workers import Workers
from onevision.errors import DataError

MAX_TOKENS = 400


class Epoch:
    """Everything a loader needs, for one epoch of a reader's mixture."""

    def __init__(self, reader):
        self.reader = reader
        self.plan = make_plan(reader, num_workers=0)
        self.order = Order(self.plan.restrict(reader.mixture), seed=3, epoch=0)
        lengths = self.plan.lengths(self.order)
        self.packs = pack(lengths, max_tokens=MAX_TOKENS)

    def load(self, packs=None, *, directory=None, max_share=1.0, **options):
        quarantine = Quarantine(
            directory=directory, num_samples=len(self.order), max_share=max_share
        )
        options = {"num_workers": 0} | options
        loader = Loader(
            reader=self.reader,
            order=self.order,
            packs=self.packs,
            quarantine=quarantine,
            **options,
        )
        return list(loader.load(range(len(self.packs)) if packs is None else packs))


def ids(loaded):
    rows = [(row.input_ids.tolist(), int(row.crops.sum())) for row in loaded.rows]
    return loaded.pack, rows


def test_planned_lengths_are_the_loaded_ones(reader):
    epoch = Epoch(reader)
    loaded = epoch.load()
    assert [sum(map(len, pack.rows)) for pack in loaded] == epoch.packs.num_tokens.tolist()
    assert sum(len(pack.rows) for pack in loaded) == len(reader.mixture) == 76
    assert epoch.packs.num_tokens.max() <= MAX_TOKENS


def test_resume_on_the_same_next_samples_whatever_the_workers_and_ranks(reader):
    epoch = Epoch(reader)
    whole = [ids(pack) for pack in epoch.load()]
    assert len(whole) >= 12
    for ranks, workers, first in [(1, 2, 0), (2, 1, 1), (3, 0, 2), (3, 1, 4)]:
        dealt = [range(first + rank, len(whole), ranks) for rank in range(ranks)]
        for packs in dealt:
            loaded = [ids(pack) for pack in epoch.load(packs, num_workers=workers)]
            assert loaded == [whole[number] for number in packs]


def test_quarantine_holes_do_not_shift_the_packs(reader, mixture_file, tmp_path):
    epoch = Epoch(reader)
    whole = epoch.load()
    (mixture_file.parent / "3.png").write_bytes(b"no picture any more")
    damaged = epoch.load(directory=tmp_path / "run")
    assert [pack.pack for pack in damaged] == [pack.pack for pack in whole]
    holes = sum(pack.num_holes for pack in damaged)
    assert holes == sum(len(p.rows) for p in whole) - sum(len(p.rows) for p in damaged) > 0
    written = (tmp_path / "run" / "quarantine.jsonl").read_text()
    lines = [json.loads(line) for line in written.splitlines()]
    assert len(lines) == holes
    assert {line["source"] for line in lines} == {"singles.json", "pairs.json"}
    assert all("3.png: not an image" in line["reason"] for line in lines)
    for a, b in zip(whole, damaged, strict=True):
        if b.num_holes == 0:
            assert ids(a) == ids(b)


def test_quarantine_stops_the_run_when_the_budget_is_spent(reader, mixture_file, tmp_path):
    epoch = Epoch(reader)
    for number in range(6):
        (mixture_file.parent / f"{number}.png").unlink()
    with pytest.raises(DataError, match=r"samples are broken, more than the 1\.0% allowed"):
        epoch.load(directory=tmp_path / "run", max_share=0.01)


def test_quarantine_counts_a_sample_once(tmp_path):
    quarantine = Quarantine(directory=tmp_path, num_samples=1000)
    for _ in range(50):
        quarantine.add(BadSample(source="a", row=1, reason="gone"))
    assert quarantine.count == 1


def test_quarantine_goes_on_where_an_earlier_run_stopped(tmp_path):
    first = Quarantine(directory=tmp_path, num_samples=300)
    for row in range(3):
        first.add(BadSample(source="a", row=row, reason="gone"))
    path = tmp_path / "quarantine.jsonl"
    with path.open("a") as file:
        file.write('{"source": "a", "ro')  # killed while it wrote
    again = Quarantine(directory=tmp_path, num_samples=300)
    again.add(BadSample(source="a", row=1, reason="gone"))
    assert (again.count, len(path.read_text().splitlines())) == (3, 3)
    with pytest.raises(DataError, match=r"4 of 300 samples .* move quarantine\.jsonl away"):
        again.add(BadSample(source="b", row=1, reason="gone"))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["source"], row["row"]) for row in rows] == [("a", 0), ("a", 1), ("a", 2), ("b", 1)]


def test_quarantine_is_one_for_all_processes(tmp_path):
    one, two = (Quarantine(directory=tmp_path, num_samples=1000) for _ in range(2))
    for quarantine, row in ((one, 1), (two, 2), (one, 2), (two, 1), (two, 3), (one, 3)):
        quarantine.add(BadSample(source="a", row=row, reason="gone"))
    assert len((tmp_path / "quarantine.jsonl").read_text().splitlines()) == 3
    assert (one.count, two.count) == (3, 3)


def test_a_killed_worker_is_replaced_and_its_sample_tried_again(reader):
    samples = [(0, row) for row in range(12)]
    expected = [reader.decode(*sample).input_ids.tolist() for sample in samples]
    with Workers(reader, num_workers=1) as workers:
        workers.submit(samples)
        first = workers.result()
        os.kill(workers._workers[0].process.pid, signal.SIGKILL)
        rest = [workers.result() for _ in samples[1:]]
    assert [row.input_ids.tolist() for row in (first, *rest)] == expected


def test_what_kills_two_workers_is_reported_and_the_rest_goes_on(reader):
    samples = [(0, 0), (0, 1), (0, 2)]
    with Workers(reader, num_workers=1) as workers:
        workers.submit(samples)
        task = workers._order[0]
        while task.result is None:
            if task.tries < 2 and workers._workers[0].tasks[0] is task:
                os.kill(workers._workers[0].process.pid, signal.SIGKILL)
            workers._advance()
        results = [workers.result() for _ in samples]
    assert results[0].startswith("2 workers died reading it")
    expected = [reader.decode(*sample).input_ids.tolist() for sample in samples[1:]]
    assert [row.input_ids.tolist() for row in results[1:]] == expected


@dataclass(frozen=True, kw_only=True)
class HangsAt(SampleReader):
    """Reads samples as ever, but for one row of the first data set, which never comes."""

    never: int

    def decode(self, dataset, row):
        if (dataset, row) == (0, self.never):
            time.sleep(600)
        return super().decode(dataset, row)


@pytest.mark.parametrize("num_workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_hangs_is_given_up_and_the_rest_goes_on(reader, tmp_path, num_workers):
    hanging = HangsAt(**vars(reader), never=5)
    epoch = Epoch(reader)
    expected = [ids(pack) for pack in epoch.load()]
    epoch.reader = hanging
    loaded = epoch.load(directory=tmp_path / "run", num_workers=num_workers, max_seconds=4)
    assert sum(pack.num_holes for pack in loaded) == 1
    (line,) = (tmp_path / "run" / "quarantine.jsonl").read_text().splitlines()
    reason = "2 workers took longer than 4 s to read it"
    assert json.loads(line) == {"source": "singles.json", "row": 5, "reason": reason}
    for one, whole in zip(loaded, expected, strict=True):
        if not one.num_holes:
            assert ids(one) == whole


def test_a_parent_that_is_busy_for_long_ends_nobody(reader):
    with Workers(reader, num_workers=1, max_seconds=0.5) as workers:
        workers.submit([(0, row) for row in range(4)])
        first = workers._workers[0].process.pid
        time.sleep(8)  # starting takes most of it
        assert not any(isinstance(workers.result(), str) for _ in range(4))
        assert workers._workers[0].process.pid == first


def test_text_alone_takes_no_pixels(reader):
    row = reader.decode(3, 0)
    assert len(row.crops) == 0
    assert row.layouts == ()


def test_lengths_are_found_for_any_order(reader):
    plan = make_plan(reader, num_workers=0)
    order = Order(reader.mixture, seed=5, epoch=2)
    places = list(zip(order.datasets.tolist(), order.rows.tolist(), strict=True))
    assert plan.lengths(order).tolist() == [len(reader.decode(*place)) for place in places]
    shown = ["single_image", "multi_image", "video", "text"]
    kinds = [{MODALITIES[kind] for kind in one.modality} for one in plan.datasets]
    assert kinds == [{kind} for kind in shown]


def test_rows_cross_between_processes_unchanged(reader):
    slots = Slots()
    rows = [reader.decode(number, number) for number in range(4)]
    for task, row in enumerate(rows):
        back = slots.read(slots.write(row, task=task), task=task)
        assert back.layouts == row.layouts
        for field in fields(row):
            if field.name != "layouts":
                assert torch.equal(getattr(back, field.name), getattr(row, field.name))
    slots.close()


def test_a_sample_too_large_to_hand_on_is_refused(reader, monkeypatch):
    monkeypatch.setattr("onevision.data.slots.SLOT_BYTES", 4096)
    slots = Slots()
    with pytest.raises(DataError, match="takes 0 MiB; at most 0 fit through a worker"):
        slots.write(reader.decode(0, 0), task=0)
    slots.close()
