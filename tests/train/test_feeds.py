"""From a stage to its feed: what it is held to, and what it refuses."""

from dataclasses import replace

import pytest

from onevision.data.manifest import write_manifest
from onevision.data.planner import make_plan
from onevision.errors import DataError, InputError
from onevision.inputs.processor import Processor
from onevision.train.mixture_feed import open_reader
from onevision.train.objectives.table import make_objective
from tests.data.conftest import _own_cache, record  # noqa: F401
from tests.data.test_check import rewrite
from tests.train.runs import MICRO, SHORT, Told, context_of


@pytest.fixture
def make(mixture_file, tmp_path):
    """Return a maker of feeds of the mixture: make(stage=..., **options)."""

    def make(*, stage=None, **options):
        stage = stage or replace(SHORT.learning_from(str(mixture_file)), resolution="target")
        told = Told(output=tmp_path / "run", stage=stage).but(num_workers=0, **options)
        return make_objective(context_of(told)).feed

    return make


@pytest.fixture
def manifest(mixture_file, tokenizer, tmp_path):
    stage = SHORT.learning_from(str(mixture_file))
    reader = open_reader(stage, Processor(MICRO.inputs, tokenizer), seed=0)
    plan = make_plan(reader, num_workers=0)
    write_manifest(reader.mixture, plan, tmp_path / "pinned")
    return str(tmp_path / "pinned")


def places(feed):
    order = feed.orders[0]
    return set(zip(order.datasets.tolist(), order.rows.tolist(), strict=True))


def test_a_manifest_holds_a_feed_to_its_samples(make, mixture_file, manifest):
    before = places(make())
    rewrite(mixture_file, "texts.json", lambda records: records.append(record(7, question="New?")))
    assert places(make()) == before | {(3, 20)}
    assert places(make(manifest=manifest)) == before


def test_a_manifest_that_does_not_fit_is_refused(make, mixture_file, manifest):
    rewrite(mixture_file, "texts.json", lambda records: records.pop(0))
    with pytest.raises(DataError, match=r"data set 'texts\.json': 1 of its 20 rows are not among"):
        make(manifest=manifest)


def test_drawn_samples_cannot_be_pinned(make, manifest):
    with pytest.raises(InputError, match="stage short makes its own samples, so there is nothing"):
        make(stage=SHORT, manifest=manifest)


def test_a_stage_without_data_is_refused(make):
    with pytest.raises(InputError, match="stage short names no data; give --mixture FILE"):
        make(stage=replace(SHORT, families={}, num_samples=None))
