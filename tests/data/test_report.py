import json
import re

import numpy as np
import pytest

from onevision.data.planner import make_plan
from onevision.data.report import histogram, write_report
from tests.data.conftest import record


@pytest.fixture
def page(reader, micro_config, tmp_path):
    def make(reader=reader):
        path = tmp_path / "out" / "report.html"
        plan = make_plan(reader, num_workers=0)
        write_report(reader, plan, micro_config, output=path, num_samples=2)
        return path.read_text(encoding="utf-8")

    return make


def test_the_page_shows_samples_of_every_data_set(page):
    text = page()
    for name in ("singles.json", "pairs.json", "videos.json", "texts.json"):
        assert f"<h2>{name}</h2>" in text
    assert text.count("<article>") == 8
    assert text.count('src="data:image/jpeg;base64,') == 2 + 4 + 2
    assert "http" not in text.replace("http-equiv", "")  # self-contained
    assert text.count("<svg") == 4


def test_what_is_learned_is_marked_and_visual_tokens_are_counted(page):
    text = page()
    assert re.search(r"<mark>[^/]*assistant\nthing \d+&lt;\|im_end\|&gt;\n</mark>", text)
    assert "visual tokens</span>" in text


def test_words_of_a_record_cannot_become_markup(mixture_file, make_reader, page):
    bad = record(0, question="<script>alert(1)</script>")
    (mixture_file.parent / "texts.json").write_text(json.dumps([bad]))
    text = page(make_reader(mixture_file))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_a_histogram_counts_by_length():
    drawn = histogram(np.array([1, 1, 32], dtype=np.int32))
    assert drawn.count("<rect") == 32
    assert "2 samples of" in drawn
    assert "no usable rows" in histogram(np.zeros(0, dtype=np.int32))
