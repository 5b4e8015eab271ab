"""Pictures -> descriptions, by the embedded model in this process or by an endpoint."""

import base64
import json

import pytest

from tests.curate.conftest import lines, records, run, write_pictures
from tests.eval.judge_server import serve

SAYS = "The picture shows a ring on a plain grey background, and it is large."
ZH = "图中有一个很大的红色圆环,背景是灰色的。"


def describing(text):
    return serve(str, models=["eyes"], writes=lambda body: (text, "stop"))


def test_the_embedded_model_describes_a_folder_and_check_passes(tmp_path):
    write_pictures(tmp_path, 3, size=None)
    output = tmp_path / "out"
    found = run("curate", "recaption", tmp_path / "pictures", "-o", output)
    assert (found.returncode, found.stderr) == (0, "")
    made = records(output)
    said = {one["conversations"][1]["value"] for one in made}
    assert made and len(said) == len(made)  # the model looks at each
    assert [line["image"] for line in lines(output / "provenance.jsonl")] == [
        "0.png", "1.png", "2.png",
    ]  # fmt: skip
    checked = run("data", "check", output / "mixture.yaml")
    assert f"{len(made):,} samples, nothing to fix" in checked.stdout
    before = (output / "records.json").read_bytes(), (output / "attempts.jsonl").read_bytes()
    assert run("curate", "recaption", tmp_path / "pictures", "-o", output).returncode == 0
    assert ((output / "records.json").read_bytes(),
            (output / "attempts.jsonl").read_bytes()) == before  # fmt: skip


def test_an_endpoint_sees_the_picture(tmp_path):
    write_pictures(tmp_path, 1)
    with describing(SAYS) as server:
        found = run("curate", "recaption", tmp_path / "pictures", "-o", tmp_path / "out",
                    "--captioner", server.url)  # fmt: skip
    assert found.returncode == 0
    ((message,),) = [sent["messages"] for sent in server.requests]
    link, text = message["content"]
    data = link["image_url"]["url"].removeprefix("data:image/png;base64,")
    assert base64.b64decode(data) == (tmp_path / "pictures" / "0.png").read_bytes()
    (made,) = records(tmp_path / "out")
    said = [turn["value"] for turn in made["conversations"]]
    assert said == ["<image>\n" + text["text"], SAYS]


def test_records_of_a_file_are_captioned_and_equal_pictures_once(tmp_path):
    path = write_pictures(tmp_path, 2)
    path.write_text(path.read_text() * 2)
    with describing(SAYS) as server:
        run("curate", "recaption", path, "-o", tmp_path / "out", "--captioner", server.url)
    assert len(server.requests) == 2
    assert [one["image"] for one in records(tmp_path / "out")] == ["pictures/0.png",
                                                                  "pictures/1.png"]  # fmt: skip
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["refused"] == {"recaption: repeated input": 2}


@pytest.mark.parametrize(("said", "kept"), [(ZH, 1), (SAYS, 0)])
def test_chinese_is_asked_for_and_checked(tmp_path, said, kept):
    write_pictures(tmp_path, 1)
    with describing(said) as server:
        run("curate", "recaption", tmp_path / "pictures", "-o", tmp_path / "out",
            "--captioner", server.url, "--language", "zh")  # fmt: skip
    assert len(server.requests) == 1  # greedy: the same again would be the same
    assert any("图" in part.get("text", "") or "画面" in part.get("text", "")
               for part in server.requests[0]["messages"][0]["content"])  # fmt: skip
    assert len(records(tmp_path / "out")) == kept
    (line,) = lines(tmp_path / "out" / "provenance.jsonl")
    assert line.get("reason") == (None if kept else "other language")


@pytest.mark.parametrize(("why", "kept"), [("stop", 1), ("length", 0)])
def test_a_caption_needs_no_period_but_its_end(tmp_path, why, kept):
    write_pictures(tmp_path, 1)
    with serve(str, models=["eyes"], writes=lambda body: (SAYS.rstrip("."), why)) as server:
        run("curate", "recaption", tmp_path / "pictures", "-o", tmp_path / "out",
            "--captioner", server.url)  # fmt: skip
    assert len(records(tmp_path / "out")) == kept


def test_a_picture_that_is_cut_off_is_refused_and_the_others_are_described(tmp_path):
    write_pictures(tmp_path, 2, size=400)
    broken = tmp_path / "pictures" / "0.png"
    broken.write_bytes(broken.read_bytes()[:400])
    with describing(SAYS) as server:
        run("curate", "recaption", tmp_path / "pictures", "-o", tmp_path / "out",
            "--captioner", server.url)  # fmt: skip
    refused, kept = lines(tmp_path / "out" / "provenance.jsonl")
    assert (refused["reason"], kept["outcome"]) == ("damaged picture", "kept")
    assert "damaged or cut off" in refused["detail"]
    assert len(server.requests) == 1


def test_a_folder_without_pictures(tmp_path):
    (tmp_path / "none").mkdir()
    found = run("curate", "recaption", tmp_path / "none", "-o", tmp_path / "out")
    assert found.returncode == 1
    assert "no picture in it; expected files such as" in found.stderr
    assert found.stderr.count("\n") == 1 and not (tmp_path / "out").exists()
