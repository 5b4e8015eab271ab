"""A mixture held to the samples that a manifest names."""

import json
import shutil

import numpy as np
import pytest

from onevision.data.manifest import MANIFEST, apply_manifest, fingerprint_sources, write_manifest
from onevision.data.order import Order
from onevision.data.plan import Plan
from onevision.data.planner import make_plan
from onevision.errors import DataError
from tests.data.conftest import record
from tests.data.test_check import rewrite


def planned(reader):
    return make_plan(reader, num_workers=0, fresh=True)


@pytest.fixture
def manifest(reader, tmp_path):
    """The manifest of the whole mixture."""
    write_manifest(reader.mixture, planned(reader), tmp_path / "manifest")
    return tmp_path / "manifest"


def pin(reader, manifest):
    return apply_manifest(reader.mixture, planned(reader), manifest)


def test_a_manifest_names_every_usable_row(reader, manifest):
    assert np.load(manifest / "rows.npy").shape == (76, 3)
    for path in (manifest, manifest / MANIFEST):
        assert sum(int(one.usable.sum()) for one in pin(reader, path).datasets) == 76


def test_rows_that_came_later_are_left_out(mixture_file, make_reader, manifest):
    rewrite(mixture_file, "texts.json", lambda records: records.append(record(99, question="New")))
    reader = make_reader(mixture_file)
    assert len(reader.mixture) == 77
    kept = pin(reader, manifest)
    assert kept.datasets[3].rows[~kept.datasets[3].usable].tolist() == [20]
    assert len(Order(kept.restrict(reader.mixture), seed=0, epoch=0)) == 76


def test_a_mixture_may_lie_elsewhere_and_be_named_from_elsewhere(
    mixture_file, make_reader, manifest, tmp_path, monkeypatch
):
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in mixture_file.parent.iterdir():
        if file.is_file():
            shutil.copy(file, moved)
    monkeypatch.chdir(moved)
    pin(make_reader(moved / mixture_file.name), manifest)
    pin(make_reader(type(moved)(mixture_file.name)), manifest)


def test_other_lengths_are_no_other_samples(mixture_file, make_reader, manifest):
    pin(make_reader(mixture_file, max_tokens=1000), manifest)


def other_words(path):
    rewrite(path, "texts.json", lambda r: r[3]["conversations"][1].update(value="another answer"))


def a_missing_picture(path):
    (path.parent / "3.png").unlink()


def fewer_rows(path):
    path.write_text(
        path.read_text().replace("texts.json", "texts.json\n    sampling_strategy: first:5")
    )


def another_set(path):
    shutil.copy(path.parent / "texts.json", path.parent / "more.json")
    path.write_text(path.read_text() + "  - json_path: more.json\n")


def a_set_less(path):
    path.write_text(path.read_text().replace("  - json_path: videos.json\n", ""))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_words, r"data set 'texts\.json' has changed since"),
        (
            a_missing_picture,
            r"'singles\.json': 4 of its 40 samples cannot be used now \(first: row 3",
        ),
        (fewer_rows, r"'texts\.json': 15 of its 20 rows are not among those .* seed 0 then, 0 now"),
        (another_set, r"it does not know the data set 'more\.json'"),
        (a_set_less, r"the mixture has no data set 'videos\.json'"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    mixture_file, make_reader, manifest, change, message
):
    change(mixture_file)
    with pytest.raises(DataError, match=message):
        pin(make_reader(mixture_file), manifest)


def test_what_is_no_manifest_is_refused(reader, manifest, tmp_path):
    with pytest.raises(DataError, match=r"cannot be read as a manifest .*; give what"):
        pin(reader, tmp_path / "nowhere")
    told = json.loads((manifest / MANIFEST).read_text())
    (manifest / MANIFEST).write_text(json.dumps(told | {"format_version": 1}))
    with pytest.raises(DataError, match="it has format_version 1, expected 2; write it again"):
        pin(reader, manifest)


def test_a_plan_comes_back_from_bytes(reader):
    plan = planned(reader)
    back = Plan.from_bytes(plan.to_bytes())
    orders = [Order(p.restrict(reader.mixture), seed=1, epoch=0) for p in (plan, back)]
    assert orders[0].rows.tolist() == orders[1].rows.tolist()
    assert plan.lengths(orders[0]).tolist() == back.lengths(orders[1]).tolist()
    assert fingerprint_sources(reader.mixture, plan) == fingerprint_sources(reader.mixture, back)


def test_a_fingerprint_changes_with_its_source_alone(mixture_file, make_reader):
    def fingerprints():
        reader = make_reader(mixture_file)
        return fingerprint_sources(reader.mixture, planned(reader))

    before = fingerprints()
    other_words(mixture_file)
    after = fingerprints()
    assert {name for name in before if before[name] != after[name]} == {"texts.json"}
    path = mixture_file
    path.write_text(path.read_text().replace("pairs.json", "pairs.json\n    rows: 30"))
    assert {name for name in after if after[name] != fingerprints()[name]} == {"pairs.json"}
