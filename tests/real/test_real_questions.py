"""The real questions of $ONEVISION_REAL_DATA as a mixture."""

import pytest

from onevision.data.check import find_problems, summarize
from onevision.data.mixture import open_mixture
from onevision.data.planner import make_plan
from onevision.data.samples import SampleReader
from onevision.inputs.processor import Processor
from onevision.inputs.tokenizer import Tokenizer
from onevision.known_models import ONEVISION_0_5B


@pytest.mark.parametrize(("name", "count"), [("image_qa", 61), ("video_qa", 3)])
def test_real_questions_pass_check(name, count, real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))
    path = tmp_path / f"{name}.yaml"
    path.write_text(
        f"datasets:\n  - json_path: {real_data}/qa/{name}.json\n    root: {real_data}\n"
    )
    tokenizer = Tokenizer.from_directory(real_data / "tokenizer")
    reader = SampleReader(
        mixture=open_mixture(path),
        processor=Processor(ONEVISION_0_5B.inputs, tokenizer),
        max_tokens=32768,
    )
    plan = make_plan(reader, num_workers=0)
    assert [f for f in find_problems(reader.mixture, plan) if f.must_fix] == []
    (summary,) = summarize(reader.mixture, plan)
    assert summary.num_usable == summary.num_rows == count
    for row in (0, count - 1):
        planned = int(plan.datasets[0].num_tokens[row])
        assert len(reader.decode(0, row)) == planned
