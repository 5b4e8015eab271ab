import json
import os
import signal
import stat
import subprocess
import sys

import pytest
import torch

from onevision.checkpoint.files import save_tensors
from onevision.checkpoint.load import inspect
from onevision.checkpoint.save import convert, save
from onevision.checkpoint.unpickle import unpickle
from onevision.data.index import open_index
from onevision.errors import DataError
from onevision.eval.answers import AnswerFiles
from onevision.files import (
    append_lines,
    atomic_path,
    cut_torn_line,
    read_lines,
    write_bytes,
    write_json,
    write_lines,
    write_text,
)
from onevision.model.llava import LlavaNetwork
from onevision.train.lora.files import save_adapter
from onevision.train.lora.layers import LoraConfig, add_lora


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def run(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(params=[0o022, 0o027, 0o002], ids=oct)
def allowed(request):
    """What a umask leaves of 0666."""
    before = os.umask(request.param)
    yield 0o666 & ~request.param
    os.umask(before)


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "new" / "a.txt"
    for text in ("before", "äfter"):
        write_text(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert list(path.parent.iterdir()) == [path]


def test_json_is_written_with_its_letters(tmp_path):
    write_json(tmp_path / "a.json", {"ä": 1})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "ä": 1\n}\n'


def test_what_fails_half_way_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "before")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as partial:
        partial.write_text("half")
        _ = 1 / 0
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_half_way_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "before")
    killed = run(
        "import os, pathlib, signal, sys\n"
        "from onevision.files import atomic_path\n"
        "with atomic_path(pathlib.Path(sys.argv[1])) as partial:\n"
        "    partial.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n",
        path,
    )
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == "before"
    (left,) = set(tmp_path.iterdir()) - {path}
    assert left.name.startswith(".a.txt.") and left.name.endswith(".partial")
    write_text(path, "after")  # what was left is in nobody's way
    assert path.read_text() == "after"


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "before")
    full = run(
        "import pathlib, resource, sys\n"
        "from onevision.files import write_bytes\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"  # as if no more fitted
        "write_bytes(pathlib.Path(sys.argv[1]), bytes(20_000))\n",
        path,
    )
    assert "OSError" in full.stderr
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_lines_are_read_back(tmp_path):
    path = tmp_path / "a.jsonl"
    append_lines(path, [{"row": 1, "text": "ä\u2028\n"}])
    append_lines(path, [{"row": 2}, {"row": 3}], sync=False)
    assert read_lines(path, key="row") == [{"row": 1, "text": "ä\u2028\n"}, {"row": 2}, {"row": 3}]
    write_lines(path, [{"row": 4}])
    assert path.read_text() == '{"row": 4}\n'


@pytest.mark.parametrize("torn", ['{"row": 2', '{"row": 2}', "{"])
def test_a_torn_last_line_is_left_out_and_cut_off(tmp_path, torn):
    path = tmp_path / "a.jsonl"
    whole = '{"row": 1}\n'
    path.write_text(whole + torn)
    assert read_lines(path, key="row") == [{"row": 1}]
    append_lines(path, [{"row": 3}])
    assert path.read_text() == whole + '{"row": 3}\n'
    path.write_text(whole + torn)
    cut_torn_line(path)
    assert path.read_text() == whole
    path.write_text(torn)
    cut_torn_line(path)
    assert path.read_text() == ""
    cut_torn_line(path)
    assert read_lines(path, key="row") == []


@pytest.mark.parametrize("bad", ["{", "[1]", '{"row": "1"}', "{}", ""])
def test_another_damaged_line_is_named(tmp_path, bad):
    (tmp_path / "a.jsonl").write_text(f'{{"row": 1}}\n{bad}\n{{"row": 3}}\n')
    with pytest.raises(DataError, match=r"a\.jsonl: line 2 is not a JSON object with a row"):
        read_lines(tmp_path / "a.jsonl", key="row")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_lines(tmp_path / "a.jsonl", key="row")


def test_files_have_the_permissions_that_the_umask_leaves(tmp_path, allowed):
    write_bytes(tmp_path / "bytes", b"")
    append_lines(tmp_path / "lines", [{}])
    save_tensors({"a": torch.zeros(2)}, tmp_path / "tensors")  # safetensors itself makes 0600
    assert {mode(path) for path in tmp_path.iterdir()} == {allowed}


def test_checkpoints_have_the_permissions_that_the_umask_leaves(
    tmp_path, allowed, small_config, tokenizer
):
    network = LlavaNetwork(small_config)
    save(network, small_config, tokenizer, tmp_path / "saved")
    convert(inspect(tmp_path / "saved"), tmp_path / "converted", layout="llava-hf")
    torch.save({"a": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    unpickle(tmp_path / "pytorch_model.bin", tmp_path / "unpickled")
    lora = LoraConfig(rank=2)
    add_lora(network, lora)
    save_adapter(network, lora, tmp_path / "adapter", base_model="a")
    directories = ("saved", "converted", "unpickled", "adapter")
    found = {path: mode(path) for name in directories for path in (tmp_path / name).iterdir()}
    assert len(found) >= 2 + 2 + 1 + 2
    assert set(found.values()) == {allowed}


def test_results_and_indices_have_the_permissions_that_the_umask_leaves(
    tmp_path, allowed, monkeypatch
):
    files = AnswerFiles(tmp_path / "task")
    files.begin({"task": {}})
    files.add([{"row": 0}])
    files.write_scores({0: {"score": 1.0}})
    files.write_results({})
    assert {mode(path) for path in files.directory.iterdir()} == {allowed}
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.json").write_text(json.dumps([1]))
    open_index(tmp_path / "a.json", lambda file: iter([0, 1]), columns=2)
    assert {mode(path) for path in (tmp_path / "cache" / "index").iterdir()} == {allowed}
