"""Answers -> curves, baselines, slices and confusions, from lines that can be counted by hand."""

import pytest

from onevision.errors import DataError
from onevision.eval.answers import AnswerFiles
from onevision.eval.statistics import mean_interval, proportion_interval
from onevision.science.probes.page import further, make_page
from onevision.science.probes.results import read_results, share

SETTINGS = {
    "kind": "probe", "seed": 0, "suffix": "", "keep": 1.0,
    "data": {"name": "", "files": [], "bytes": []},
    "model": {"name": "hand", "fingerprint": "f", "dtype": "torch.float32"},
}  # fmt: skip


def line(row, probe, level, index, *, right, expected="red", given=None, **more):
    return {
        "row": row, "probe": probe, "level": level, "index": index, "family": "colour",
        "question": "What colour is <it>?", "expected": expected,
        "answer": given or (expected if right else "blue"), "score": float(right), "blind": 0.0,
        "tokens": 100, "seconds": 0.5, **more,
    }  # fmt: skip


def results_of(tmp_path, lines, **settings):
    files = AnswerFiles(tmp_path / "run")
    files.begin({**SETTINGS, **settings})
    files.add(lines)
    return read_results(tmp_path / "run")


@pytest.fixture
def noise(tmp_path):
    """Ten questions: all right without noise, seven of them wrong at 128."""
    clean = [line(n, "noise", "0", n, right=True) for n in range(10)]
    noisy = [line(10 + n, "noise", "128", n, right=n < 3) for n in range(10)]
    return results_of(tmp_path, [*noisy, *clean])


def test_a_curve_has_shares_intervals_and_changes(noise):
    (curve,) = noise.curves
    first, last = curve.points
    assert (first.level.label, last.level.label) == ("0", "128")
    assert curve.reference is first
    assert curve.worst is last
    assert last.accuracy == proportion_interval(3, 10)
    assert first.change is None
    assert last.change.value == pytest.approx(-0.7)
    assert last.change.high < 0
    assert last.change.p < 0.05
    assert (last.constant, last.blind.value, last.num_asked, last.tokens) == (1, 0, 10, 100)


def test_slices_compare_inside_with_outside(noise):
    (one,) = noise.slices()
    assert (one.probe, one.family) == ("noise", "colour")
    assert (one.inside.value, one.outside.value) == (1, 0.3)
    assert one.drop == pytest.approx(0.7)


def test_confusions_are_counted(noise):
    assert noise.confusions("noise") == [("red", "blue", 7)]


def test_shares_of_partial_scores_are_bootstrapped():
    assert share([0, 1, 1]) == proportion_interval(2, 3)
    assert share([0, 0.5, 1]) == mean_interval([0, 0.5, 1])


def test_a_question_is_consistent_if_right_in_every_order(tmp_path):
    lines = [
        line(10 * place + n, "order", label, n, right=(n, place) != (0, 2))
        for place, label in enumerate(("first", "second", "third", "fourth"))
        for n in range(4)
    ]
    results = results_of(tmp_path, lines)
    assert results.consistency("order") == proportion_interval(3, 4)
    assert results.consistency("noise") is None
    assert next(further(results)).startswith("order: 75.0 %")


def test_the_share_of_yes_is_given_where_answers_are_closed(tmp_path):
    lines = [
        line(0, "absent", "there", 0, right=True, expected="yes"),
        line(1, "absent", "nothing alike", 0, right=False, expected="no", given="Yes."),
        line(2, "absent", "nothing alike", 1, right=True, expected="no"),
        line(3, "absent", "asked as if there", 0, right=False, expected="there is no ring"),
    ]
    results = results_of(tmp_path, lines)
    said = [point.says_yes for point in results.curves[0].points]
    assert said == [1, 0.5, None]
    assert list(further(results)) == [
        "absent: how often the model says yes: 100 % (there), 50 % (nothing alike)."
    ]


def test_what_could_not_be_asked_is_counted(tmp_path):
    lines = [line(0, "frames", "128", 0, right=False, given="-", failure="too long")]
    assert "128" in "".join(further(results_of(tmp_path, lines)))
    assert "1 at 128" in make_page(results_of(tmp_path, lines))


def test_the_page_escapes_what_models_and_data_say(tmp_path):
    wrong = line(0, "noise", "16", 0, right=False, given="<script>", picture="AAAA")
    page = make_page(results_of(tmp_path, [wrong]))
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert "What colour is &lt;it&gt;?" in page
    assert "data:image/jpeg;base64,AAAA" in page


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_results(tmp_path / "none")
    with pytest.raises(DataError, match="not a run of onevision probe"):
        results_of(tmp_path, [line(0, "noise", "0", 0, right=True)], kind="other")


@pytest.mark.parametrize(("change", "message"), [
    ({"level": "17"}, "row 0: no probe has level '17' of 'noise'"),
    ({"probe": "smell"}, "no probe has level '0' of 'smell'"),
])  # fmt: skip
def test_answers_of_another_version_are_refused(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        results_of(tmp_path, [line(0, "noise", "0", 0, right=True) | change])


def test_a_line_without_a_field_is_named(tmp_path):
    broken = line(3, "noise", "0", 0, right=True)
    del broken["expected"]
    with pytest.raises(DataError, match="row 3: it has no 'expected'"):
        results_of(tmp_path, [broken])


def test_an_empty_run_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match="no answers yet; run onevision probe -o"):
        results_of(tmp_path, [])
