"""Rows and files that an adversary writes: refused in words, in bounded time and memory."""

import io
import json
import tarfile

import numpy as np
import pytest
from typer.testing import CliRunner

from onevision.cli import app
from onevision.conversation import Conversation, Message
from onevision.data import parquet_source, sources
from onevision.data.entries import DatasetEntry
from onevision.data.fit import fit_sample
from onevision.data.mixture import open_mixture
from onevision.data.planner import make_plan
from onevision.errors import DataError, OneVisionError
from onevision.values import read_yaml
from tests.data.conftest import record

GOOD = record(1, question="What?")


def check(path, *more):
    """Checks through the command; returns what it said, which may be an error of one line."""
    done = CliRunner().invoke(app, ["data", "check", str(path), "--num-workers", "0", *more])
    assert done.exit_code == 1
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        assert isinstance(done.exception, OneVisionError), done.exception
        assert "\n" not in str(done.exception)
    said = done.output + str(done.exception)
    assert len(said) < 2000
    return said


# Rows


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"a": ' + "[" * 200_000 + "]" * 200_000 + "}", "row 1: the record is not JSON"),
        ('{"a": ' + '{"a": ' * 200_000 + "1" + "}" * 200_001, "row 1: the record is not JSON"),
        ('{"id": ' + "1" * 5000 + "}", "row 1: the record is not JSON (Exceeds the limit"),
        ('{"image": "a\\u0000.png", "text": "a"}', "is not a path"),
        ('{"image": "' + "a/" * 3000 + '", "text": "a"}', "row 1"),
        ('{"video": "a\\u0000.mp4", "text": "a"}', "is not a path"),
        ('{"file_name": "' + "a" * 5000 + '", "text": "a"}', "row 1"),
        ('{"image": "data:;base64,====", "text": "a"}', "row 1, field 'image': its base64"),
        ('{"image": "~none/\\ud800.png", "text": "a"}', "row 1"),
        ('{"messages": [[[[]]]]}', "expected {from, value} or {role, content}"),
        ('{"messages": [{"role": {}, "content": {}}]}', "its speaker is {}"),
        ('{"messages": [{"role": "user", "content": [[]]}]}', "expected {type, ...}"),
        ('{"messages": [{"role": "user", "content": [{"type": {}}]}]}', "its type is missing"),
    ],
    ids=range(13),
)
def test_a_hostile_row_is_one_bad_row(row, message, tmp_path):
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(GOOD)}\n{row}\n{json.dumps(GOOD)}\n")
    said = check(tmp_path / "a.jsonl")
    assert message in said
    assert "1 of 3 samples must be fixed" in said


@pytest.mark.parametrize("text", ['{"a": "bcdef"}\n', "a,b\n1,2345678901\n"], ids=["json", "csv"])
def test_a_record_of_gigabytes_is_not_read(text, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_RECORD_BYTES", 10)
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(DataError, match=r"row 0: the record has 1\d bytes; expected at most 10"):
        open_mixture(tmp_path / "a.txt").datasets[0].source.read(0)


def test_a_record_of_600_000_turns_is_cut_in_a_few_steps(reader):
    """Before, every exchange was dropped by itself, and all the rest laid out each time."""
    turns = [Message("user", "?"), Message("assistant", "!")] * 300_000
    outlines = 0
    lay_out = reader.processor.outline

    def count(*given, **named):
        nonlocal outlines
        outlines += 1
        return lay_out(*given, **named)

    reader.processor.outline = count
    fitted = fit_sample(Conversation(turns), reader.processor, max_tokens=400)
    assert outlines < 12
    assert 390 < fitted.outline.num_tokens <= 400
    assert fitted.reductions == ("turns",)
    longer = Conversation(turns[: len(fitted.conversation.messages) + 2])
    assert lay_out(longer).num_tokens > 400


# Planning again


def test_a_faulty_row_is_planned_again_and_no_other(tmp_path, picture, make_reader):
    records = [record(n, image=f"{n}.png") for n in range(6)]
    (tmp_path / "a.json").write_text(json.dumps(records))
    for number in (0, 1, 2, 4):
        picture(40, 30, seed=number).save(tmp_path / f"{number}.png")
    reader = make_reader(tmp_path / "a.json")
    first = make_plan(reader, deep=True, num_workers=0).datasets[0]
    assert [fault.row for fault in first.faults] == [3, 5]
    picture(40, 30, seed=3).save(tmp_path / "3.png")
    for number in (0, 1):  # the plan of these is kept
        (tmp_path / f"{number}.png").unlink()
    second = make_plan(reader, deep=True, num_workers=0).datasets[0]
    assert [fault.row for fault in second.faults] == [5]
    assert second.usable.tolist() == [True] * 5 + [False]
    assert second.picture_rows.tolist() == [0, 1, 2, 3, 4]
    picture(40, 30, seed=5).save(tmp_path / "5.png")
    third = make_plan(reader, deep=True, num_workers=0).datasets[0]
    assert third.usable.all()
    assert not third.faults
    assert len(np.unique(third.digests)) == 6


# Mixtures


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: " + "[" * 900 + "]" * 900, "nested too deeply"),
        ("{a: " * 900 + "1" + "}" * 900, "nested too deeply"),
        ("datasets: [{json_path: a, rows: " + "1" * 5000 + "}]", "not YAML (Exceeds the limit"),
        ("datasets: [{json_path: a.jsonl, share: .nan}]", "share"),
        ("datasets: [{json_path: a.jsonl, share: .inf}]", "share"),
        ("datasets: [{json_path: a.jsonl, share: 1.0e+300}]", "share is 1e+300; expected above 0"),
        ("datasets: [{json_path: a.jsonl, rows: -1}]", "rows is -1; expected 0 to"),
        ("datasets: [{json_path: a.jsonl, rows: 1000000000000}]", "expected 0 to 1,000,000,000"),
        (
            "datasets: [{json_path: a.jsonl, sampling_strategy: 'first:" + "9" * 5000 + "'}]",
            "expect",
        ),
        ("datasets: [{1: 2, json_path: a.jsonl}]", "no key 1"),
        ("datasets: [[]]", "expected a mapping"),
    ],
    ids=range(11),
)
def test_a_hostile_mixture_is_refused(text, message, tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(GOOD))
    (tmp_path / "a.yaml").write_text(text)
    assert message in check(tmp_path / "a.yaml")


def test_aliases_of_yaml_are_never_written_out(tmp_path):
    """Each level has ten of the one before: 10**30 entries, if they were printed."""
    lines = ["a0: &a0 [x]"] + [
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 31)
    ]
    (tmp_path / "a.yaml").write_text("\n".join([*lines, "datasets: [{json_path: *a30}]"]))
    assert "json_path is [" in check(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("\n".join([*lines, "datasets: *a30"]))
    assert "expected a mapping" in check(tmp_path / "a.yaml")


def test_an_entry_may_show_no_rows():
    assert DatasetEntry(name="a", rows=0).rows == 0


def test_a_yaml_of_any_command_is_bounded(tmp_path):
    (tmp_path / "a.yaml").write_text("[" * 5000)
    with pytest.raises(OneVisionError, match="nested too deeply"):
        read_yaml(tmp_path / "a.yaml")


# Shards


@pytest.mark.parametrize("name", ["0.\u00b2.png", "0." + "9" * 5000 + ".png", "0.-1.png", "0..png"])
def test_odd_numbers_in_names_of_members_are_names(name, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for member, content in ((name, b"x"), ("0.txt", b"A cat.")):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    (dataset,) = open_mixture(tmp_path / "a.tar").datasets
    assert dataset.source.read(0).fields["image"] == [b"x"]


@pytest.mark.parametrize("size", [b"77777777777\0", b"\x80" + b"\x7f" * 11, b"\xff" * 12])
def test_a_member_of_an_absurd_size_is_a_damaged_shard(size, tmp_path):
    info = tarfile.TarInfo("0.json")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header[:512]):06o}\0 ".encode()
    (tmp_path / "a.tar").write_bytes(bytes(header) + b"{}" + b"\0" * 1022)
    try:
        source = open_mixture(tmp_path / "a.tar").datasets[0].source
    except DataError as error:
        assert any(text in str(error) for text in ("not a tar file, or cut off", "more follows"))
    else:
        with pytest.raises(DataError):
            source.read(0)


@pytest.mark.parametrize("nested", [True, False], ids=["nested", "flat"])
def test_a_dictionary_of_parquet_is_measured_before_it_is_unfolded(nested, tmp_path, monkeypatch):
    """A value of 1 MiB that a thousand rows repeat is a file of a few KiB, and 1 GiB of text."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    count = 1000
    big = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), ["x" * (1 << 20)])
    table = {"text": big, "file_name": ["a.png"] * count}
    if nested:
        turns = pa.StructArray.from_arrays([pa.array(["gpt"] * count), big], ["from", "value"])
        table = {"conversations": pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), turns)}
    parquet.write_table(
        pa.table(table),
        tmp_path / "a.parquet",
        store_schema=False,
        dictionary_pagesize_limit=1 << 30,
    )
    assert (tmp_path / "a.parquet").stat().st_size < 1 << 18
    monkeypatch.setattr(parquet_source, "MAX_GROUP_BYTES", 1 << 29)
    source = open_mixture(tmp_path / "a.parquet").datasets[0].source
    for _ in range(2):  # the second time without a look
        with pytest.raises(DataError, match=r"row group 0 takes 1\.0 GiB once unfolded"):
            source.read(0)


def test_a_parquet_group_of_absurdly_many_rows_is_refused(tmp_path, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"text": ["a"] * 100}), tmp_path / "a.parquet")
    monkeypatch.setattr(parquet_source, "MAX_GROUP_VALUES", 99)
    with pytest.raises(DataError, match="row group 0 says it has 100 rows; expected at most 99"):
        open_mixture(tmp_path / "a.parquet")
