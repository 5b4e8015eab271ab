"""Noun phrases, and the filter that keeps captions of rare ones, against examples by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from onevision.curate.balance.phrases import find_phrases
from onevision.curate.balance.select import select
from tests.curate.conftest import lines, run

LABELLED = Path(__file__).parent / "phrases.txt"


def test_agreement_with_phrases_marked_by_hand():
    """Precision and recall of phrases over all captions, as exact strings."""
    right = found = marked = 0
    for line in LABELLED.read_text().splitlines():
        caption, _, phrases = line.partition(" | ")
        by_hand, by_rule = set(phrases.split("; ")), set(find_phrases(caption))
        right += len(by_hand & by_rule)
        found += len(by_rule)
        marked += len(by_hand)
    assert right / found > 0.94 and right / marked > 0.94, (right, found, marked)


@pytest.mark.parametrize(
    ("caption", "phrases"),
    [
        ("A dog runs on the green grass.", ("dog", "green grass")),
        ("Two dogs and a parked car", ("dog", "parked car")),
        ("The women's shoes", ("women's shoe",)),
        ("The baker's son barks at a sports car", ("baker's son bark", "sports car")),
        ("A dog barks at a sports car", ("dog", "sports car")),
        ("Workers repair the roof", ("worker", "roof")),
        ("running quickly", ()),
        ("", ()),
        ("?!", ()),
    ],
)
def test_phrases_of_a_caption(caption, phrases):
    assert find_phrases(caption) == phrases


def test_the_filter_of_an_example_counted_by_hand():
    # cat: 2 captions, below 3. owl: 3 (rows 0, 1, 2). dog: 6 (rows 2 to 7). Rarest first, owl adds
    # rows 0, 1, 2; of the five other dogs, 3 to 7, two are drawn. Row 8 has cats alone.
    captions = [
        ["owl"], ["owl"], ["owl", "dog"], ["dog"], ["dog"], ["dog"], ["dog", "cat"], ["dog"],
        ["cat"], [],
    ]  # fmt: skip
    found = select(captions, min_count=3, max_count=2, seed=0)
    kept = np.flatnonzero(found.kept).tolist()
    # Of the three owls two are drawn, and of the dogs that are left, two.
    owls = [row for row in kept if row <= 1 or row == 2]
    assert len(owls) == 2 and len(kept) == 4
    assert set(kept) <= set(range(8))
    assert (found.num_phrases, found.num_rare) == (3, 1)
    assert found.before.tolist() == [3, 6]
    all_owls = select(captions, min_count=3, max_count=3, seed=0)
    assert all_owls.kept[:3].all() and all_owls.kept.sum() == 6
    everything = select(captions, min_count=1, max_count=100, seed=0)
    assert np.flatnonzero(~everything.kept).tolist() == [9]


def test_the_draw_depends_on_the_seed_alone():
    captions = [["dog"] for _ in range(500)]
    kept = [select(captions, min_count=3, max_count=50, seed=seed).kept for seed in (1, 1, 2)]
    assert (kept[0] == kept[1]).all() and (kept[0] != kept[2]).any()
    assert all(one.sum() == 50 for one in kept)


def test_captions_to_records_that_check_accepts(tmp_path):
    path, output = tmp_path / "captions.jsonl", tmp_path / "kept.jsonl"
    said = ["a dog on the grass"] * 5 + ["a red kite"] * 3 + ["a walrus"]
    rows = [{"image": f"{n}.png", "caption": words} for n, words in enumerate(said)]
    text = [json.dumps(row) for row in rows] + ['{"image": "x.png"}', '{"image": "y.png", "cap']
    path.write_text("\n".join(text) + "\n")
    found = run("curate", "balance", path, "-o", output, "--max-count", 2)
    assert found.returncode == 0, found.stderr
    # Two kites, then two dogs, then two of the other dogs for the grass.
    assert "6 of 9 captions kept" in found.stdout
    assert "2 records could not be read; the first: captions.jsonl, row 9: no caption" in (
        found.stdout
    )
    kept = lines(output)
    assert [one["conversations"][1]["value"] for one in kept].count("a red kite") == 2
    assert kept[0]["conversations"][0]["value"].startswith("<image>\n")
    summary = json.loads((tmp_path / "kept.summary.json").read_text())
    assert (summary["num_kept"], summary["num_phrases"], summary["num_rare_phrases"]) == (6, 4, 1)
    first = output.read_bytes()
    run("curate", "balance", path, "-o", output, "--max-count", 2)
    assert output.read_bytes() == first


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--min-count", 0), "--min-count is 0; expected at least 1"),
        (("--encoder", "tiny"), "--encoder needs --concepts FILE"),
        (("--encoder", "tiny", "--concepts", "c.txt"), "--encoder needs --keep N"),
        (("--encoder", "tiny", "--max-count", 3), "--max-count"),
        (("--keep", 3), "--keep"),
    ],
)
def test_options_that_cannot_be_meant(tmp_path, options, said):
    (tmp_path / "c.jsonl").write_text('{"image": "a.png", "caption": "a dog"}\n')
    found = run("curate", "balance", tmp_path / "c.jsonl", "-o", tmp_path / "k.jsonl", *options)
    assert found.returncode == 1 and said in found.stderr and found.stderr.count("\n") == 1


def test_a_file_without_captions(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"image": "a.png"}\n')
    found = run("curate", "balance", tmp_path / "c.jsonl", "-o", tmp_path / "k.jsonl")
    assert found.returncode == 1 and "no caption can be read (c.jsonl, row 0" in found.stderr
    assert not (tmp_path / "k.jsonl").exists()


def test_rare_concepts_are_drawn_more_often_by_embeddings(tmp_path):
    """Of 40 captions about circles and four about stars, half of the kept are about stars."""
    said = ["a red circle"] * 20 + ["a large red circle"] * 20 + ["a green star"] * 4
    rows = [{"image": f"{n}.png", "caption": words} for n, words in enumerate(said)]
    path, concepts = tmp_path / "c.jsonl", tmp_path / "concepts.txt"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"image": "x.png"}\n')
    concepts.write_text("red circle\ngreen star\nred circle\n")
    told = ("curate", "balance", path, "-o", tmp_path / "kept.jsonl", "--encoder", "tiny",
            "--concepts", concepts, "--top-k", 1, "--keep", 8)  # fmt: skip
    found = run(*told)
    assert found.returncode == 0, found.stderr
    assert (
        "8 of 44 captions kept" in found.stdout and "2 concepts, 0 of them near no" in found.stdout
    )
    kept = [one["conversations"][1]["value"] for one in lines(tmp_path / "kept.jsonl")]
    assert 2 <= kept.count("a green star") <= 4  # 0.7 if drawn evenly
    summary = json.loads((tmp_path / "kept.summary.json").read_text())
    assert sum(summary["phrases_before"]) == 2
    first = (tmp_path / "kept.jsonl").read_bytes()
    run(*told)
    assert (tmp_path / "kept.jsonl").read_bytes() == first
    many = run(*told, "--top-k", 3)
    assert "--top-k is 3, but there are 2 concepts" in many.stderr
