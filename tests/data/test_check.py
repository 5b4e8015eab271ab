import json
import shutil

import numpy as np
import pytest
from PIL import Image as PIL

from onevision.conversation import Conversation, Image, Message, Text, Video
from onevision.data.check import drop_leaks, find_problems, summarize
from onevision.data.fingerprints import find_near_pairs, hash_picture
from onevision.data.fit import fit_sample
from onevision.data.manifest import apply_manifest, write_manifest
from onevision.data.planner import make_plan
from onevision.errors import ContextLengthError
from onevision.inputs.processor import Processor
from onevision.inputs.video import FrameChoice
from tests.data.conftest import record


def kinds(reader, **options):
    planned = {name: options.pop(name, False) for name in ("deep", "fresh")}
    plan = make_plan(reader, num_workers=0, **planned)
    return {
        (f.source, f.row, f.kind): f.message for f in find_problems(reader.mixture, plan, **options)
    }


def rewrite(mixture_file, name, change):
    path = mixture_file.parent / name
    records = json.loads(path.read_text())
    change(records)
    path.write_text(json.dumps(records))


def test_a_good_mixture_has_no_findings_but_its_repeats(reader):
    found = kinds(reader)
    assert found == {}
    singles, pairs, videos, texts = summarize(reader.mixture, make_plan(reader, num_workers=0))
    assert (singles.num_rows, singles.num_usable) == (40, 40)
    assert singles.modalities == {"single_image": 40}
    assert (pairs.modalities, videos.modalities) == ({"multi_image": 10}, {"video": 6})
    assert texts.modalities == {"text": 20}
    assert texts.longest > texts.median_length > 0
    assert singles.reductions == {}


def test_every_fault_is_found(mixture_file, make_reader, picture):
    def spoil(records):
        records[0]["image"] = "missing.png"
        records[1]["image"] = "empty.png"
        records[2]["conversations"][0]["value"] = "no mark"
        records[3]["conversations"][1]["value"] = ""
        records[4] = records[5]

    rewrite(mixture_file, "singles.json", spoil)
    rewrite(mixture_file, "texts.json", lambda r: r.append(record(9, question="so " * 5000)))
    (mixture_file.parent / "empty.png").write_bytes(b"")
    found = kinds(make_reader(mixture_file))
    assert {key[1:]: True for key in found} == {
        (0, "media"): True,
        (1, "media"): True,
        (2, "record"): True,
        (3, "record"): True,
        (5, "duplicate record"): True,
        (20, "too long"): True,
    }
    assert "missing.png: no such file" in found["singles.json", 0, "media"]
    assert "repeats singles.json, row 4" in found["singles.json", 5, "duplicate record"]


def test_damage_behind_a_good_header_needs_a_deep_check(mixture_file, make_reader):
    path = mixture_file.parent / "7.png"
    path.write_bytes(path.read_bytes()[:400])
    assert kinds(make_reader(mixture_file)) == {}
    deep = kinds(make_reader(mixture_file), deep=True)
    assert {key for key in deep if key[2] == "media"} >= {("singles.json", 7, "media")}


def test_the_same_picture_scaled_is_found_and_leaks_are_named(
    mixture_file, make_reader, picture, tmp_path
):
    smooth = picture(6, 6, seed=99).resize((200, 200))
    smooth.save(mixture_file.parent / "0.png")
    held_out = tmp_path / "eval"
    held_out.mkdir()
    smooth.resize((120, 120)).save(held_out / "q.jpg", quality=80)
    (held_out / "eval.json").write_text(json.dumps([record(0, image="q.jpg")]))
    plan = make_plan(make_reader(held_out / "eval.json"), deep=True, num_workers=0)
    found = kinds(make_reader(mixture_file), deep=True, held_out=plan)
    leaked = {key[:2] for key in found if key[2] == "evaluation leak"}
    assert leaked == {
        ("singles.json", 0), ("singles.json", 12), ("singles.json", 24), ("singles.json", 36),
        ("pairs.json", 0),
    }  # fmt: skip


def test_one_picture_in_many_records_is_no_near_duplicate(mixture_file, make_reader):
    found = kinds(make_reader(mixture_file), deep=True)
    assert not [key for key in found if key[2] == "near-duplicate image"]
    smooth = PIL.open(mixture_file.parent / "1.png").resize((6, 6)).resize((200, 200))
    for number, side in ((2, 200), (5, 150), (8, 120)):
        smooth.resize((side, side)).save(mixture_file.parent / f"{number}.png")
    found = kinds(make_reader(mixture_file), deep=True, fresh=True)
    alike = {key[:2]: text for key, text in found.items() if key[2] == "near-duplicate image"}
    assert alike.keys() == {("singles.json", 5), ("singles.json", 8)}
    assert set(alike.values()) == {"looks like the image of singles.json, row 2"}


def test_deep_checks_remember_media_by_their_content(mixture_file, make_reader, monkeypatch):
    """A second mixture of the same bytes under other names decodes nothing."""
    kinds(make_reader(mixture_file), deep=True)
    copy = mixture_file.parent / "copy"
    copy.mkdir()
    shutil.copy(mixture_file.parent / "3.png", copy / "x.png")
    shutil.copy(mixture_file.parent / "clip.mp4", copy / "y.mp4")
    records = [record(0, image="x.png"), record(1, question="<video>\nWhat?", video="y.mp4")]
    (copy / "again.json").write_text(json.dumps(records))
    opened = []
    monkeypatch.setattr("onevision.data.decoded.open_image", opened.append)
    monkeypatch.setattr(FrameChoice, "frames", lambda choice: opened.append(choice) or ())
    assert kinds(make_reader(copy / "again.json"), deep=True) == {}
    assert opened == []


def test_a_manifest_holds_no_leaked_sample(mixture_file, make_reader, tmp_path):
    reader = make_reader(mixture_file)
    plan = make_plan(reader, num_workers=0, deep=True)
    (tmp_path / "eval.json").write_text(json.dumps([record(0, image="7.png")]))
    evaluated = make_plan(make_reader(tmp_path / "eval.json"), num_workers=0, deep=True)
    found = list(find_problems(reader.mixture, plan, held_out=evaluated))
    write_manifest(reader.mixture, drop_leaks(reader.mixture, plan, found), tmp_path / "pin")
    kept = apply_manifest(reader.mixture, plan, tmp_path / "pin")
    singles, pairs, _, _ = kept.datasets
    assert singles.rows[~singles.usable].tolist() == [7, 19, 31]
    assert pairs.rows[~pairs.usable].tolist() == [6, 7]


def test_near_pairs_by_hand():
    words = np.array([0b1011, 0b1000, 0, 0xFFFF0000FFFF0000, 0xFFFF0000FFFF0001], dtype=np.uint64)
    assert sorted(find_near_pairs(words)) == [(0, 1), (3, 4)]
    assert sorted(find_near_pairs(words[:1], words)) == [(0, 0), (0, 1)]


def test_picture_hash_survives_scaling(picture):
    smooth = picture(8, 8).resize((300, 200))
    other = picture(8, 8, seed=1).resize((300, 200))
    a, b, c = (hash_picture(p) for p in (smooth, smooth.resize((90, 60)), other))
    assert (a ^ b).bit_count() <= 3
    assert (a ^ c).bit_count() > 10


def test_a_stopped_check_goes_on_where_it_was(mixture_file, make_reader, monkeypatch):
    from onevision.data import planner

    monkeypatch.setattr(planner, "CHUNK_ROWS", 16)
    seen = []

    def stop_after_two(rows):
        seen.append(rows)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_plan(make_reader(mixture_file), num_workers=0, progress=stop_after_two)
    planned = []
    original = planner.plan_rows
    monkeypatch.setattr(
        planner, "plan_rows", lambda *a, **k: planned.append(1) or original(*a, **k)
    )
    make_plan(make_reader(mixture_file), num_workers=0)
    assert len(planned) == 5  # of seven chunks, two were done
    planned.clear()
    make_plan(make_reader(mixture_file), num_workers=0)
    assert planned == []


def test_several_processes_plan_what_one_does(reader, tmp_path, monkeypatch):
    alone = make_plan(reader, num_workers=0)
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "other"))
    together = make_plan(reader, num_workers=2)
    for a, b in zip(alone.datasets, together.datasets, strict=True):
        assert a.num_tokens.tolist() == b.num_tokens.tolist()
        assert a.digests.tolist() == b.digests.tolist()


@pytest.fixture
def processor(micro_config, tokenizer):
    return Processor(micro_config.inputs, tokenizer)


def talk(*turns, media=()):
    messages = []
    for number, (question, answer) in enumerate(turns):
        parts = [*(media if number == 0 else ()), Text(question)]
        messages += [Message("user", parts), Message("assistant", answer)]
    return Conversation(messages)


def test_whole_turns_go_first(processor, picture):
    long = talk(("What?", "a ring"), ("And?", "so " * 100), media=[Image(picture(50, 50))])
    fitted = fit_sample(long, processor, max_tokens=120)
    assert fitted.reductions == ("turns",)
    assert fitted.conversation.messages == long.messages[:2]
    assert fitted.outline.num_tokens == len(processor.example(fitted.conversation).labels)


def test_then_frames_then_crops(processor, picture, tmp_path):
    from tests.data.conftest import write_clip

    write_clip(tmp_path / "a.mp4", frames=32)
    video = talk(("What?", "a ring"), media=[Video(str(tmp_path / "a.mp4"))])
    fitted = fit_sample(video, processor, max_tokens=90)
    assert fitted.reductions == ("frames",)
    assert fitted.conversation.media[0].num_frames == 8
    image = talk(("What?", "a ring"), media=[Image(picture(300, 300))])
    fitted = fit_sample(image, processor, max_tokens=70)
    assert fitted.reductions == ("crops",)
    assert fitted.conversation.media[0].detail == "low"


def test_what_cannot_fit_is_refused(processor):
    with pytest.raises(ContextLengthError, match="after every reduction; at most 40 fit"):
        fit_sample(talk(("What? " * 100, "a ring")), processor, max_tokens=40)
