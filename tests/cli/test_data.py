import json

import pytest

from tests.cli.conftest import run
from tests.data.conftest import record


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def mixture(tmp_path, picture):
    picture(50, 40).save(tmp_path / "a.png")
    records = [record(n, question=f"<image>\n{n}?", image="a.png") for n in range(3)]
    path = tmp_path / "set.json"
    path.write_text(json.dumps(records))
    return path


def test_check_passes_a_good_mixture_and_writes_a_manifest(mixture, tmp_path):
    result = run("data", "check", mixture, "--manifest", tmp_path / "pin", "--num-workers", 0)
    assert result.returncode == 0
    assert "3 samples, nothing to fix" in result.stdout
    manifest = json.loads((tmp_path / "pin" / "manifest.json").read_text())
    assert manifest["sources"][0]["num_usable"] == 3
    assert manifest["format_version"] == 2


def test_check_fails_where_something_must_be_fixed(mixture):
    (mixture.parent / "a.png").unlink()
    result = run("data", "check", mixture, "--num-workers", 0, "--show", 1)
    assert result.returncode == 1
    assert "3 of 3 samples must be fixed or left out" in result.stdout
    assert "set.json, row 0: " in result.stdout
    assert "a.png: no such file" in result.stdout
    assert "... and 2 more" in result.stdout


def test_a_check_is_of_the_media_below_this_root(mixture, tmp_path):
    """The same rows were fine below another root, and from another mixture file."""
    (tmp_path / "elsewhere").mkdir()
    for name, root in (("here", "."), ("there", "elsewhere")):
        entry = f"datasets: [{{json_path: set.json, root: {root}}}]"
        (tmp_path / f"{name}.yaml").write_text(entry)
    assert run("data", "check", tmp_path / "here.yaml", "--num-workers", 0).returncode == 0
    result = run("data", "check", tmp_path / "there.yaml", "--num-workers", 0)
    assert result.returncode == 1
    assert "3 of 3 samples must be fixed" in result.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps([record(1, image="a\0b.png")]), "is not a path (embedded null byte"),
        (2 * json.dumps([record(1, question="Hi")]), "the JSON array ends at byte"),
        (json.dumps([record(1, question="What?", videos=["v.mp4"])]), "0 <video> marks"),
        (
            json.dumps([record(1, image=1000 * "iVBORw0KGgo")]),
            "8250 bytes: the image's header is damaged",
        ),
        (json.dumps([record(1, image=1001 * "iVBORw0KGgo")]), "it is base64; expected a path"),
    ],
)
def test_what_would_be_lost_is_found_in_short_lines(text, message, tmp_path):
    (tmp_path / "a.json").write_text(text)
    result = run("data", "check", tmp_path / "a.json", "--num-workers", 0)
    assert result.returncode == 1
    assert message in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stdout + result.stderr) < 1200


@pytest.mark.parametrize("name", ["a.yaml", "a.json"])
def test_another_encoding_is_named(name, tmp_path):
    text = "datasets: [{json_path: 数据.json}]" if name == "a.yaml" else '[{"id": "数据"}]'
    (tmp_path / name).write_bytes(text.encode("gbk"))
    result = run("data", "check", tmp_path / name, "--num-workers", 0)
    assert result.returncode == 1
    assert "utf-8" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_a_zero_byte_in_a_mixture_is_named(tmp_path):
    for key in ("json_path", "root"):
        values = {"json_path": "a.json", key: "a\0b"}
        (tmp_path / "a.yaml").write_text(json.dumps({"datasets": [values]}))
        result = run("data", "check", tmp_path / "a.yaml")
        assert f"{key} is 'a\\x00b', with a zero byte" in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_a_published_mixture_lists_all_that_is_missing(tmp_path, picture, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    result = run("data", "check", "onevision.yaml")
    assert result.returncode == 3
    assert "missing: 82 of 82 data sets, 1,962,810 rows, and 4 sets of unknown" in result.stdout
    assert "hf download lmms-lab/LLaVA-OneVision-Data --repo-type dataset" in result.stdout
    assert result.stdout.count("not released") == 7  # 6 sets, and the sum
    # Some are there: one at its json_path, one as a download of its source.
    mixture = [
        {"json_path": "a.jsonl", "published_rows": 1},
        {"json_path": "b.jsonl", "source": "someone/Sets", "config": "b"},
        {"json_path": "c.jsonl", "source": "someone/Sets", "config": "c", "published_rows": 70,
         "sampling_strategy": "first:10%"},
    ]  # fmt: skip
    (tmp_path / "mine.yaml").write_text(json.dumps({"datasets": mixture}))
    (tmp_path / "Sets" / "b").mkdir(parents=True)
    for file in (tmp_path / "a.jsonl", tmp_path / "Sets" / "b" / "b.jsonl"):
        file.write_text(json.dumps(record(1, question=f"In {file.name}?")))
    result = run("data", "check", tmp_path / "mine.yaml", "--num-workers", 0)
    assert result.returncode == 3, result.stdout + result.stderr
    assert "missing: 1 of 3 data sets, 7 rows" in result.stdout
    assert "2 samples, nothing to fix; not there: 1 data set" in result.stdout
    (tmp_path / "a.jsonl").write_text(json.dumps(record(1, image="no.png")))
    assert run("data", "check", tmp_path / "mine.yaml", "--num-workers", 0).returncode == 1


def test_stats_and_view(mixture, tmp_path):
    result = run("data", "stats", mixture, "--num-workers", 0)
    assert "set.json" in result.stdout
    assert "3 single" in result.stdout
    page = tmp_path / "page.html"
    result = run("data", "view", mixture, "--output", page, "--num-workers", 0)
    assert result.stdout == f"wrote {page}\n"
    assert page.read_text().count("<article>") == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.yaml",), "none.yaml: cannot be read"),
        (("none.json",), "none.json: no such file"),
        (("a.json", "--model", "0.5b"), "give --tokenizer DIRECTORY"),
        (("a.json", "--model", "huge"), "no model 'huge'"),
    ],
)
def test_a_mistake_is_one_line(arguments, message):
    result = run("data", "check", *arguments)
    assert result.returncode == 1
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
