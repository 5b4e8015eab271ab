import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import yaml

from onevision.data.mixture import published_mixtures

MIXTURES = published_mixtures()
# Not those of `small` and `tiny`, which are this project's own.
OTHERS = ("prompt_styles", "small_", "tiny_")
FILES = sorted(path.name for path in MIXTURES.glob("*.yaml") if not path.name.startswith(OTHERS))
RELEASED = ("single_image.yaml", "onevision.yaml")
PAPER = ("single_image_paper.yaml", "onevision_paper.yaml")
STYLED = ("knowledge.yaml", "llava_1.5_instruct.yaml", *PAPER)

KEYS = {
    "name",
    "json_path",
    "sampling_strategy",
    "source",
    "config",
    "published_rows",
    "rows_rounded",
    "scenario",
    "category",
    "prompt_style",
    "media_in_front",
    "licence",
    "released",
    "make",
    "note",
}
SCENARIOS = {"single_image", "multi_image", "video", "text"}
STRATEGY = re.compile(r"all|(?:first|end|random):(?P<number>\d+)(?P<percent>%?)")


@cache
def read(file):
    return yaml.safe_load((MIXTURES / file).read_text(encoding="utf-8"))


def datasets(file):
    return read(file)["datasets"]


def styles():
    return read("prompt_styles.yaml")["styles"]


def effective_rows(dataset):
    """Rows after the strategy, where a count is published; a percentage rounds up."""
    rows = dataset["published_rows"]
    match = STRATEGY.fullmatch(dataset.get("sampling_strategy", "all"))
    if match["number"] is None:
        return rows
    number = int(match["number"])
    return min(rows, -(-number * rows // 100) if match["percent"] else number)


def total(file):
    return sum(effective_rows(d) for d in datasets(file) if "published_rows" in d)


def by_category(file):
    rows = Counter()
    for dataset in datasets(file):
        rows[dataset["category"]] += effective_rows(dataset)
    return rows


def percentages(rows):
    return {name: round(100 * count / sum(rows.values()), 1) for name, count in rows.items()}


def without_count(file):
    return {d["name"] for d in datasets(file) if "published_rows" not in d}


@pytest.mark.parametrize("file", FILES)
def test_a_file_says_what_it_is_and_where_it_comes_from(file):
    content = read(file)
    assert list(content) == ["name", "paper", "note", "datasets"]
    assert all(content.values())


@pytest.mark.parametrize("file", FILES)
def test_entries_have_known_keys_and_values(file):
    for dataset in datasets(file):
        assert dataset.keys() <= KEYS, dataset
        assert dataset["scenario"] in SCENARIOS, dataset
        assert dataset.get("prompt_style", "short_answer") in styles(), dataset
        assert STRATEGY.fullmatch(dataset.get("sampling_strategy", "all")), dataset
        assert ("json_path" in dataset) == ("sampling_strategy" in dataset), dataset
        assert "config" not in dataset or "source" in dataset, dataset
        assert isinstance(dataset.get("published_rows", 0), int), dataset


@pytest.mark.parametrize("file", FILES)
def test_what_is_not_released_has_a_note_and_no_source(file):
    for dataset in datasets(file):
        if not dataset.get("released", True):
            assert dataset["note"], dataset
            assert "source" not in dataset, dataset


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("key", ("name", "json_path"))
def test_no_entry_comes_twice(file, key):
    values = [dataset[key] for dataset in datasets(file) if key in dataset]
    assert len(values) == len(set(values))


@pytest.mark.parametrize("path", sorted(MIXTURES.iterdir()), ids=lambda path: path.name)
def test_no_path_is_absolute_or_private(path):
    assert not re.search(r"/mnt/|(?:^|[\s:'\"])(?:/|~|[A-Z]:\\)\w", path.read_text("utf-8"))


@pytest.mark.parametrize(("file", "count"), (("single_image.yaml", 90), ("onevision.yaml", 82)))
def test_released_lists_have_the_references_entries(file, count):
    assert len(datasets(file)) == count
    folders = {dataset["json_path"].split("/")[0] for dataset in datasets(file)}
    assert folders == {"real_vision_flan", "ureader_new", "cauldron"}


def test_released_single_image_rows():
    evol = next(d for d in datasets("single_image.yaml") if d["name"] == "evol_instruct")
    assert effective_rows(evol) == 42_900
    assert total("single_image.yaml") - 42_900 == 3_197_391
    assert without_count("single_image.yaml") == set()


def test_released_onevision_rows():
    assert total("onevision.yaml") == 1_962_810
    assert without_count("onevision.yaml") == {
        "cambrian(filtered,checked)",
        "m4_mantis",
        "academic_30s",
        "academic_30s_choice",
    }


def test_a_file_has_one_count_in_both_released_lists():
    single_image, onevision = (
        {d["json_path"]: d.get("published_rows") for d in datasets(file)} for file in RELEASED
    )
    shared = single_image.keys() & onevision.keys()
    assert len(shared) == 73
    assert all(single_image[path] == onevision[path] for path in shared)


def test_a_file_name_that_ends_with_a_count_tells_the_rows():
    for dataset in (d for file in RELEASED for d in datasets(file)):
        stem = Path(dataset["json_path"]).stem.removesuffix("_llava_format")
        if count := re.search(r"[_-](\d{3,})$", stem):
            assert dataset["published_rows"] == int(count[1]), dataset


def test_the_papers_single_image_categories_add_up_to_the_row():
    rows = by_category("single_image_paper.yaml")
    assert rows == {
        "General": 1_136_626,
        "Doc/Chart/Screen": 647_138,
        "Math/Reasoning": 631_575,
        "General OCR": 280_991,
        "Language": 449_995,
    }
    assert sum(rows.values()) == 3_146_325
    assert percentages(rows) == {
        "General": 36.1,
        "Doc/Chart/Screen": 20.6,
        "Math/Reasoning": 20.1,
        "General OCR": 8.9,
        "Language": 14.3,
    }


@pytest.mark.parametrize(
    ("category", "num_sets", "rows"),
    (("Single-Image", 41, 406_708), ("Multi-Image", 35, 560_430), ("Video", 6, 337_367)),
)
def test_the_papers_onevision_categories_add_up_within_rounding(category, num_sets, rows):
    counts = {
        d["name"]: d["published_rows"]
        for d in datasets("onevision_paper.yaml")
        if d["category"] == category
    }
    if category == "Single-Image":  # the note's explanation of the one total that is off
        assert sum(counts.values()) == 425_800
        counts["Image Textualization"] = 29_900
    assert len(counts) == num_sets
    assert abs(sum(counts.values()) - rows) <= 50 * num_sets


def test_the_papers_onevision_shares_are_those_of_the_notebooks_rows():
    rows = {"Single-Image": 406_708, "Multi-Image": 560_430, "Video": 337_367}
    assert sum(rows.values()) == 1_304_505
    assert percentages(rows) == {"Single-Image": 31.2, "Multi-Image": 43.0, "Video": 25.9}
    assert by_category("onevision_paper.yaml").keys() == rows.keys()


def test_knowledge_rows():
    rows = by_category("knowledge.yaml")
    assert len(datasets("knowledge.yaml")) == 8
    assert round(rows["Re-Captioned"], -5) == 3_500_000
    assert rows["Chinese/Language"] == 92_000 + 143_000
    assert round(sum(rows.values()), -6) == 4_000_000


@pytest.mark.parametrize(
    ("file", "rows"),
    (
        ("align.yaml", 558_000),
        ("llava_v1_align.yaml", 595_000),
        ("llava_v1_instruct.yaml", 158_000),
        ("llava_1.5_align.yaml", 558_000),
    ),
)
def test_family_rows(file, rows):
    assert total(file) == rows


def test_llava_15_rows_are_665k_within_rounding():
    entries = datasets("llava_1.5_instruct.yaml")
    assert abs(total("llava_1.5_instruct.yaml") - 665_298) <= 500 * len(entries)
    in_file = [int(d["note"].split()[0].replace(",", "")) for d in entries]
    assert sum(in_file) == 665_298
    for dataset, rows in zip(entries, in_file, strict=True):
        assert abs(rows - dataset["published_rows"]) < 1000, dataset


def test_llava_video_is_onevisions_list_without_its_videos_and_178k():
    entries = datasets("llava_video.yaml")
    videos = [d for d in entries if d["scenario"] == "video"]
    others = {d["json_path"]: d["sampling_strategy"] for d in entries if d not in videos}
    onevision = {d["json_path"]: d["sampling_strategy"] for d in datasets("onevision.yaml")}
    assert len(others) == 77
    assert others.items() <= onevision.items()
    assert len(videos) == 19
    # These eight have the paper's 178,510 captions, 960,792 questions and 196,198 choices.
    own = [d for d in videos if d["name"].endswith("_v0_1")]
    assert len(own) == 8
    assert sum(d["published_rows"] for d in own) == pytest.approx(1_335_500, rel=0.001)
    assert without_count("llava_video.yaml") == {
        *("cambrian(filtered,checked)", "m4_mantis"),
        *(f"{length}_activitynet" for length in ("0_30_s", "30_60_s", "1_2_m", "2_3_m")),
    }


def test_interleave_has_the_papers_total():
    assert total("llava_interleave.yaml") == 1_177_600
    assert [d.get("media_in_front", 0) for d in datasets("llava_interleave.yaml")] == [0.5, 0, 0]


def test_critic_rows():
    rows = {d["name"]: d["published_rows"] for d in datasets("llava_critic.yaml")}
    assert rows == {"pointwise": 72_782, "pairwise": 40_154}


def test_styles_have_texts_and_a_position():
    assert read("prompt_styles.yaml")["separator"] == "\n"
    for name, style in styles().items():
        assert list(style) == ["texts", "position", "wording", "paper", "datasets"], name
        assert style["texts"] and all(style["texts"]), name
        assert style["position"] in {"head", "tail", "whole"}, name
        assert style["wording"] in {"published", "ours"}, name


def test_styles_list_the_data_sets_that_use_them():
    used = {name: set() for name in styles()}
    for dataset in (d for file in STYLED for d in datasets(file) if "prompt_style" in d):
        used[dataset["prompt_style"]].add(dataset["name"])
    assert {name: set(style["datasets"]) for name, style in styles().items()} == used
