"""Snapshots that are whole are used, and no others."""

import shutil
from dataclasses import replace

import pytest
import torch

from onevision.errors import CheckpointError
from onevision.train.saving.draft import Draft, Shard, SnapshotWriter, write_snapshot
from onevision.train.snapshots import (
    SnapshotReader,
    newest_snapshot,
    prune,
    read_state,
    snapshots,
)
from tests.train.runs import SHORT, Told, left, run

SHARD = "rank-0-of-1.safetensors"


def write(
    directory, step, *, rows=None, rank=0, ranks=1, all_succeeded=lambda problem: problem is None
):
    rows = torch.arange(12.0).reshape(6, 2) + step if rows is None else rows
    return write_snapshot(
        directory,
        step,
        {"a": Shard(rows=rows)},
        {"progress": {"step": step}},
        writer=SnapshotWriter(rank=rank, ranks=ranks, all_succeeded=all_succeeded),
    )


@pytest.fixture
def two(tmp_path):
    """The snapshots of steps 1 and 2."""
    return write(tmp_path, 1), write(tmp_path, 2)


def flip(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-5])


def empty(path):
    path.write_bytes(b"")


def lose(path):
    path.unlink()


@pytest.mark.parametrize("damage", [flip, cut, empty, lose])
@pytest.mark.parametrize("name", [SHARD, "state.json", "manifest.json"])
def test_a_damaged_snapshot_is_named_and_the_older_one_used(two, tmp_path, name, damage):
    older, newest = two
    damage(newest / name)
    warnings = []
    assert newest_snapshot(tmp_path, warn=warnings.append) == older
    (warning,) = warnings
    assert str(newest) in warning
    assert "an older snapshot is used" in warning


def test_a_damaged_file_is_named(two, tmp_path):
    flip(two[1] / SHARD)
    flip(two[0] / "state.json")
    warnings = []
    assert newest_snapshot(tmp_path, warn=warnings.append) is None
    assert [name in w for name, w in zip((SHARD, "state.json"), warnings, strict=True)] == [
        True
    ] * 2


def test_unknown_files_do_no_harm(two, tmp_path):
    (two[1] / "notes.txt").write_text("mine")
    (two[1] / "optimizer.pt").write_bytes(b"\x80")
    (tmp_path / "step-by-step").mkdir()
    (tmp_path / "step-00000009.part").mkdir()
    assert newest_snapshot(tmp_path, warn=pytest.fail) == two[1]
    assert snapshots(tmp_path) == list(two)


def test_steps_are_ordered_as_numbers(tmp_path):
    big, small = write(tmp_path, 100_000_000), write(tmp_path, 99_999_999)
    assert snapshots(tmp_path) == [small, big]


def test_prune_keeps_what_is_whole(tmp_path):
    """A run that went on from step 2, since 9 is broken, keeps what it has saved since."""
    for step in (1, 2, 9):
        write(tmp_path, step)
    cut(tmp_path / "step-00000009" / SHARD)
    (tmp_path / "step-00000003.part").mkdir()
    prune(tmp_path, keep=1, newest=write(tmp_path, 3))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


def test_rows_and_columns_of_several_ranks_are_joined(tmp_path):
    """Ranks 0 and 1 hold four rows, 2 and 3 two; each of a pair has half of the columns."""
    whole = torch.arange(24.0).view(6, 4)
    drafts = [
        Draft(
            directory=tmp_path,
            step=1,
            state={},
            writer=SnapshotWriter(rank=rank, ranks=4, all_succeeded=lambda problem: not problem),
        )
        for rank in range(4)
    ]
    drafts[0].begin()
    for rank, draft in enumerate(drafts):
        row, column = 4 * (rank // 2), 2 * (rank % 2)
        own = whole[row : row + 4, column : column + 2].contiguous()
        draft.write({"a": Shard(rows=own, first=row, first_column=column)})
    reader = SnapshotReader(drafts[0].finish())
    assert torch.equal(reader.rows("a"), whole)
    assert torch.equal(reader.rows("a", first=3, count=2), whole[3:5])


def test_a_snapshot_is_read_back(two, tmp_path):
    reader = SnapshotReader(two[1])
    assert reader.names() == ["a"]
    assert torch.equal(reader.rows("a", first=1, count=3), torch.arange(12.0).view(6, 2)[1:4] + 2)
    assert reader.rows("a", first=6, count=3).shape == (0, 2)
    assert read_state(two[1])["progress"]["step"] == 2
    with pytest.raises(CheckpointError, match="it has no tensor 'b'"):
        reader.rows("b")


def test_another_ranks_problem_leaves_nothing_behind(tmp_path):
    answers = iter([True, False])
    with pytest.raises(OSError, match="another rank could not write"):
        write(tmp_path, 1, ranks=2, all_succeeded=lambda problem: next(answers))
    assert list(tmp_path.iterdir()) == []


def test_a_run_goes_on_from_the_older_snapshot_to_the_same_end(nursery, tmp_path):
    told = Told(output=tmp_path, stage=replace(SHORT, num_samples=16)).but(save_steps=1, keep=3)
    nursery.train(told)
    whole = left(tmp_path)
    (newest,) = snapshots(tmp_path)[2:]
    flip(newest / SHARD)
    said = nursery.train(told)
    assert f"warning: {newest}: {SHARD} is damaged" in said
    assert left(tmp_path) == whole


def test_a_run_without_a_whole_snapshot_is_refused(tmp_path, two):
    for path in two:
        lose(path / "manifest.json")
    with pytest.raises(CheckpointError, match="no snapshot is whole; restore one, or move"):
        run(Told(output=tmp_path))
    shutil.rmtree(two[0])
    write(tmp_path, 1)  # whole, but of another model
    with pytest.raises(CheckpointError, match="it is of another model or of other trainable parts"):
        run(Told(output=tmp_path))
