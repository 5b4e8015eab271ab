import io
import json
import sys
import tarfile

import pytest

from onevision.data.json_source import JsonSource
from onevision.data.records import to_conversation
from onevision.data.sources import SequenceSource, open_source
from onevision.errors import DataError
from tests.data.conftest import record

RECORDS = [record(n, question=f'say "{n}]}}" \\ ü\n', note=[{"a": ["]"]}]) for n in range(7)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", json.dumps(RECORDS)),
        ("b.json", json.dumps(RECORDS, indent=2, ensure_ascii=False)),
        ("c.jsonl", "\n\n".join(json.dumps(r) for r in RECORDS)),
        ("d.json", "\n".join(json.dumps(r) for r in RECORDS) + "\n"),
        ("e.json", "\ufeff" + json.dumps(RECORDS)),
    ],
)
def test_json_and_jsonl_give_their_records_by_row(name, text, tmp_path):
    (tmp_path / name).write_text(text, encoding="utf-8")
    source = open_source(tmp_path / name)
    assert len(source) == 7
    for row in (6, 0, 3):
        assert source.read(row).fields == RECORDS[row]
    assert source.read(2).where == f"{name}, row 2"


def test_an_empty_array_has_no_rows(tmp_path):
    (tmp_path / "a.json").write_text("[]")
    assert len(open_source(tmp_path / "a.json")) == 0


def test_the_index_is_made_anew_when_the_file_changes(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(RECORDS))
    assert len(open_source(path)) == 7
    path.write_text(json.dumps(RECORDS[:3]))
    assert len(open_source(path)) == 3


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "", "the file is empty"),
        ("a.json", json.dumps(RECORDS)[:-40], "the JSON array has no end"),
        ("a.csv", "a", "which is no format of records; expected JSON"),
        ("a.parquet", "PAR1 no", "not a Parquet file"),
        ("a.tar", "no tar", "begins with b'no tar', which is no format of records"),
        ("a.json", "PK\3\4", "it is a zip archive, which is not read; unpack it"),
    ],
)
def test_a_broken_file_is_named(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        open_source(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_broken_line_is_named_when_it_is_read(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n{"id": \n[1]\n')
    source = open_source(tmp_path / "a.jsonl")
    assert source.read(0).fields == {"id": 1}
    with pytest.raises(DataError, match=r"a\.jsonl, row 1: the record is not JSON"):
        source.read(1)
    with pytest.raises(DataError, match="row 2: it is list; expected an object"):
        source.read(2)


def test_files_joined_end_to_end_are_not_cut_at_the_first(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(2 * json.dumps(RECORDS))
    with pytest.raises(DataError, match=r"a\.json: the JSON array ends at byte .* more follows"):
        open_source(path)
    path.write_text(json.dumps(RECORDS) + "\n" + json.dumps(RECORDS[0]))
    with pytest.raises(DataError, match="more follows"):
        open_source(path)
    with tarfile.open(tmp_path / "one.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("0.json"), io.BytesIO())
    one = (tmp_path / "one.tar").read_bytes()
    (tmp_path / "two.tar").write_bytes(one + one)
    assert len(open_source(tmp_path / "one.tar")) == 1
    with pytest.raises(DataError, match=r"two\.tar: the archive ends at byte .* more follows"):
        open_source(tmp_path / "two.tar")


def test_elements_that_are_no_objects_are_rows_that_are_named(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[null, {"id": 1}, "text", 3,[4] , {"id": 2},{"a": [5, "]"]}, false]')
    source = open_source(path)
    assert len(source) == 8
    assert [source.read(row).fields for row in (1, 5, 6)] == [
        {"id": 1}, {"id": 2}, {"a": [5, "]"]},
    ]  # fmt: skip
    for row, kind in ((0, "NoneType"), (2, "str"), (3, "int"), (4, "list"), (7, "bool")):
        with pytest.raises(DataError, match=f"row {row}: it is {kind}; expected an object"):
            source.read(row)


def test_parquet_without_its_library_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"pip install 'onevision\[data\]'"):
        open_source(tmp_path / "a.parquet")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        open_source(tmp_path / "none.json")


def test_shards_of_a_directory_follow_one_another(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.jsonl").write_text(
            "".join(json.dumps(r) + "\n" for r in RECORDS[2 * number : 2 * number + 2])
        )
    source = open_source(tmp_path)
    assert isinstance(source, JsonSource)
    assert [source.read(row).fields["id"] for row in range(6)] == list("012345")


def test_parquet_as_released(tmp_path, picture):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    file = io.BytesIO()
    picture(20, 10).save(file, "PNG")
    rows = [
        {
            "id": str(n),
            "image": {"bytes": file.getvalue(), "path": None} if n % 2 else None,
            "conversations": record(n, question="<image>\nWhat?" if n % 2 else "What?")[
                "conversations"
            ],
            "data_source": "made",
        }
        for n in range(10)
    ]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=4)
    source = open_source(tmp_path / "a.parquet")
    assert len(source) == 10
    assert source.block_starts == [0, 4, 8]
    for row in (9, 0, 5):
        told = to_conversation(source.read(row))
        assert told.messages[-1].parts[0].text == f"thing {row}"
        assert len(told.media) == row % 2


def test_webdataset_members_of_one_name_are_one_record(tmp_path):
    members = {
        "x/1.json": json.dumps(record(1, question="<image><image>?")).encode(),
        "x/1.1.png": b"second",
        "x/1.0.png": b"first",
        "x/1.txt": b"ignored",
        "x/2.json": json.dumps(record(2, question="<video>?")).encode(),
        "x/2.mp4": b"clip",
        "x/3.png": b"orphan",
    }
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    source = open_source(tmp_path / "a.tar")
    assert len(source) == 3
    assert [m.source for m in to_conversation(source.read(0)).media] == [b"first", b"second"]
    assert [m.source for m in to_conversation(source.read(1)).media] == [b"clip"]
    with pytest.raises(DataError, match="row 2: 0 members end in .json"):
        source.read(2)


def test_a_sequence_of_records():
    source = SequenceSource("mine", RECORDS)
    assert len(source) == 7
    assert source.read(4).fields is RECORDS[4]
