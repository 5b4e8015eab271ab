"""Files and folders as users have them, from the command: their content says what they are."""

import gzip
import io
import json
import tarfile

import pytest
from typer.testing import CliRunner

from onevision.cli import app
from onevision.data.containers import unpack
from onevision.data.mixture import open_mixture
from onevision.data.records import read_record, to_conversation
from onevision.errors import DataError

RECORD = {"file_name": "1.png", "text": 'A "cat",\non a chair.'}
GZIP_HEAD = gzip.compress(b"")[:10]
CSV = 'file_name,text\n1.png,"A ""cat"",\non a chair."\n'


@pytest.fixture
def folder(tmp_path, picture):
    picture(50, 40).save(tmp_path / "1.png")
    return tmp_path


def write_tar(file, members):
    with tarfile.open(file, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_parquet(file, records):
    pa = pytest.importorskip("pyarrow")
    pa.parquet = pytest.importorskip("pyarrow.parquet")
    pa.parquet.write_table(pa.Table.from_pylist(records), file)


def write(name, folder):
    """Writes one record as a file of a misleading name."""
    file, line = folder / "records.dat", json.dumps(RECORD).encode()
    contents = {
        "array": b"\xef\xbb\xbf [" + line + b"]",
        "lines": line + b"\n\n",
        "objects": json.dumps(RECORD, indent=2).encode() + b"\n",
        "csv": b"\xef\xbb\xbf" + CSV.encode(),
        "tsv": b'text\tfile_name\n"A ""cat"",\non a chair."\t1.png\n',
        "gzip": gzip.compress(line),
    }
    if name in contents:
        file.write_bytes(contents[name])
    elif name == "parquet":
        write_parquet(file, [RECORD])
    else:
        picture = (folder / "1.png").read_bytes()
        members = {
            "0.png": picture,
            f"0.{name}": line if name == "json" else RECORD["text"].encode(),
        }
        write_tar(file, members)
    return file


@pytest.mark.parametrize(
    "name", ["array", "lines", "objects", "csv", "tsv", "gzip", "parquet", "json", "txt"]
)
def test_a_file_is_what_its_content_says(name, folder):
    (dataset,) = open_mixture(write(name, folder)).datasets
    assert len(dataset.source) == 1
    told = to_conversation(dataset.source.read(0))
    assert told.messages[-1].parts[0].text == RECORD["text"]
    assert len(told.media) == 1


@pytest.mark.parametrize(
    "name", ["captions.csv", "metadata.csv", "captions.jsonl", "metadata.jsonl"]
)
def test_a_folder_of_pictures_with_captions_is_checked(name, folder):
    (folder / name).write_text(CSV if name.endswith("csv") else json.dumps(RECORD))
    (folder / "notes.json").write_text("{}")
    done = CliRunner().invoke(app, ["data", "check", str(folder), "--num-workers", "0"])
    assert "1 sample, nothing to fix" in done.stdout, done.output


def test_shards_lie_in_a_folder_or_match_a_pattern(folder):
    (folder / "data").mkdir()
    for number in range(3):
        write_parquet(folder / "data" / f"train-{number}.parquet", [RECORD])
    assert len(open_mixture(folder)) == 3
    assert len(open_mixture(folder / "data" / "train-[01]*")) == 2
    write_parquet(folder / "data" / "train-0.parquet", [RECORD | {"license": "CC0"}])
    told = read_record(open_mixture(folder).datasets[0].source.read(0))
    assert told.unused == ("license",)
    write_parquet(folder / "data" / "test-0.parquet", [RECORD])
    with pytest.raises(DataError, match=r"it holds files of test and train; give those"):
        open_mixture(folder)


def test_a_mixture_is_known_by_its_content(folder):
    (folder / "a.jsonl").write_text(json.dumps(RECORD))
    text = "name: mine\ndatasets:\n- json_path: a.jsonl\n"
    for name, content in (("a.txt", text), ("b.json", '{"datasets": [{"json_path": "a.jsonl"}]}')):
        (folder / name).write_text(content)
        assert len(open_mixture(folder / name)) == 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"1.png": b"\x89PNG"}, "1 picture and nothing that describes them; add a captions.csv"),
        ({"captions.csv": b"", "metadata.jsonl": b""}, "metadata.jsonl and captions.csv; keep one"),
        ({"data.arrow": b"ARROW1"}, "write Parquet instead"),
        ({"a.json": b"[{}]", "b.csv": b"a,b\n"}, "a.json is json, b.csv is csv"),
        ({"a/b.json": b"[]", "c/d.json": b"[]"}, "there are records in a, c; give one"),
        ({"readme.md": b"x"}, "found nothing to learn from"),
        ({"a.json": b"PK\3\4"}, "it is a zip archive, which is not read; unpack it"),
        ({"a.json": '[{"a": 1}]'.encode("utf-16")}, "it is text in UTF-16, which is not read"),
        ({"a.jsonl.gz": gzip.compress(b"[{}]" * 999)[:-9]}, "the gzip is damaged"),
        ({"a.jsonl.gz": GZIP_HEAD + b"\xff" * 99}, "the gzip is damaged"),
        ({"a.csv": b"a,a\n1,2\n"}, "expected names of columns"),
        ({"a.csv": b'a,b\n1,"2\n3,4\n'}, "a quote that opens at byte 4 never ends"),
        ({"a.json": b'{\n"a": [1\n}\n{'}, "brackets of its JSON do not match"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_line(files, message, tmp_path):
    for name, content in files.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        open_mixture(tmp_path / "mine")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2,3\n", "row 0: it has 3 columns, the header 2"),
        ('a,b\n1,x"y"\n"1"z,2\n', "row 1: not a row of CSV"),
    ],
)
def test_a_faulty_row_of_csv_is_named(text, message, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    source = open_mixture(tmp_path / "a.csv").datasets[0].source
    with pytest.raises(DataError, match=message):
        [source.read(row) for row in range(len(source))]


def test_a_gzip_that_needs_the_whole_disk_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b" " * (3 << 20) + b"[]"))

    class Usage:
        free = 2 << 20

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    with pytest.raises(DataError, match="more than half of the free disk"):
        unpack(tmp_path / "a.json.gz")
    assert not list((tmp_path / "cache").rglob("*.json"))


def test_a_cache_that_cannot_be_written_is_not_a_damaged_gzip(tmp_path, monkeypatch):
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b"[{}]"))
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cannot be unpacked to .*Not a directory.*; make room"):
        unpack(tmp_path / "a.json.gz")


def test_a_link_out_of_the_root_has_a_way_out(folder, tmp_path_factory, picture):
    """For the check and for training alike."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    picture(40, 40).save(elsewhere / "a.png")
    (folder / "pictures").symlink_to(elsewhere)
    (folder / "a.jsonl").write_text(json.dumps(RECORD | {"file_name": "pictures/a.png"}))
    check = ["data", "check", str(folder / "a.jsonl"), "--num-workers", "0"]
    done = CliRunner().invoke(app, check)
    assert f"allow its folder: --root {folder} --root {elsewhere}" in done.stdout
    assert done.exit_code == 1
    done = CliRunner().invoke(app, [*check, "--root", str(folder), "--root", str(elsewhere)])
    assert done.exit_code == 0, done.output
