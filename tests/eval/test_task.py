import pytest
import yaml

from onevision.errors import ConfigError
from onevision.eval.scoring.registry import SCORERS
from onevision.eval.task import TASKS, bundled_tasks, find_tasks, groups, read_tasks

GOOD = {
    "title": "Colours",
    "groups": ["single_image"],
    "dataset": "somebody/colours",
    "split": "test",
    "images": ["image"],
    "prompt": "{question}",
    "scorer": "exact_match",
}
SINGLE_IMAGE = (
    *("AI2D", "ChartQA", "DocVQA", "InfoVQA", "MathVerse", "MathVista", "MMBench", "MME", "MMStar"),
    *("MMMU", "MMVet", "SEED-Bench", "ScienceQA", "ImageDC", "RealWorldQA", "Vibe-Eval"),
    *("MM-LiveBench", "LLaVA-Wilder"),
)
MULTI_IMAGE = ("LLaVA-Interleave Bench", "Text-rich VQA", "MuirBench", "Mantis-Eval", "BLINK")
VIDEO = (
    *("ActivityNet-QA", "EgoSchema", "PerceptionTest", "SEED-Bench", "LongVideoBench", "MLVU"),
    *("MVBench", "Video-ChatGPT", "Video-DC", "VideoMME", "NExT-QA"),
)
OTHERS = (
    *("LLaVA-Bench COCO", "LLaVA-Bench in the Wild", "GQA", "VQAv2", "TextVQA", "POPE"),
    *("OK-VQA", "A-OKVQA", "DREAM-1K", "RefCOCO", "ScreenSpot"),
)


def written(tmp_path, **changes):
    values = {name: value for name, value in (GOOD | changes).items() if value is not None}
    (tmp_path / "colours.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "colours.yaml"


@pytest.mark.parametrize(
    ("group", "titles"),
    [("single_image", SINGLE_IMAGE), ("multi_image", MULTI_IMAGE), ("video", VIDEO)],
)
def test_groups_hold_the_papers_benchmarks(group, titles):
    assert {bundled_tasks()[name].title for name in groups()[group]} == set(titles)


def test_all_holds_every_benchmark():
    titles = {task.title for task in find_tasks(["all"])}
    assert titles == {*SINGLE_IMAGE, *MULTI_IMAGE, *VIDEO, *OTHERS}
    assert set(groups()["all"]) == set(bundled_tasks())


@pytest.mark.parametrize("profile", ["p24", "now"])
def test_every_scorer_exists(profile):
    assert {t.scorer for t in bundled_tasks(profile).values() if t.scorer} <= set(SCORERS)


@pytest.mark.parametrize("profile", ["p24", "now"])
def test_video_tasks_have_videos_and_the_others_images(profile):
    for name, task in bundled_tasks(profile).items():
        assert bool(task.video) == ("video" in task.groups and name != "seedbench_video") or (
            name in ("mlvu_test", "dream1k")
        )


def test_names_do_not_hide_one_another():
    count = sum(len(read_tasks(path)) for path in TASKS.glob("*.yaml"))
    assert len(bundled_tasks()) == count
    assert not set(bundled_tasks()) & set(groups())


def test_names_are_found_once_in_the_order_asked_for(tmp_path):
    found = find_tasks(["mme", "ai2d", "mme", str(written(tmp_path))])
    assert [task.name for task in found] == ["mme", "ai2d", "colours"]


def test_an_unknown_name_is_refused():
    with pytest.raises(ConfigError, match=r"no task or group 'mmee'; did you mean 'mme' or '"):
        find_tasks(["mmee"])


def test_parts_are_differences(tmp_path):
    path = written(tmp_path, parts={"a": {"split": "one"}, "b": {"groups": [], "split": "two"}})
    one, two = read_tasks(path)
    assert (one.name, one.split, one.groups) == ("colours_a", "one", ("single_image", "colours"))
    assert (two.name, two.split, two.groups) == ("colours_b", "two", ("colours",))


def test_profiles_are_differences(tmp_path):
    path = written(tmp_path, now={"max_new_tokens": 128})
    assert read_tasks(path)[0].max_new_tokens == 1024
    assert read_tasks(path, profile="now")[0].max_new_tokens == 128


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"imagse": ["image"]}, "no key 'imagse'; did you mean 'images'"),
        ({"now": {"maxtokens": 3}}, "now: no key 'maxtokens'"),
        ({"prompt": None}, "missing prompt"),
        ({"max_new_tokens": "many"}, "max_new_tokens is 'many'; expected a whole number"),
        ({"max_new_tokens": 0}, "`max_new_tokens` is below 1"),
        ({"images": "image"}, "images is 'image'; expected a list"),
        ({"images": []}, "give either `images` or `video`"),
        ({"scorer": None}, "give a `scorer`, a `judge` or a `submission`"),
        ({"scorer": "exact"}, "no scorer 'exact'; did you mean 'exact_match'"),
        ({"scorer": None, "judge": "nobody"}, "no judge 'nobody'; there are 17, such as"),
        ({"prompt": "{question}{case}"}, "{case} without `cases`"),
        ({"prompt": "{choices}"}, "`choices` is missing"),
        ({"cases": [{"when": {"a": "b"}}]}, "cases.0: missing text"),
        ({"where": ["a"]}, "where is \\['a'\\]; expected keys and values"),
    ],
)
def test_a_wrong_file_is_one_error_that_names_it(tmp_path, changes, problem):
    with pytest.raises(ConfigError, match=f"colours.*{problem}"):
        read_tasks(written(tmp_path, **changes))


def test_a_file_that_is_no_yaml_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match=r"a\.yaml: not YAML"):
        read_tasks(tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match=r"b\.yaml: cannot be read"):
        read_tasks(tmp_path / "b.yaml")
