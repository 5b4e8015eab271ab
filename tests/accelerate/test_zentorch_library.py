"""zentorch is used where it is of torch's version and its instructions exist."""

import pytest
import torch

from onevision.accelerate import zentorch_library
from onevision.accelerate.zentorch_library import find_zentorch_obstacle


@pytest.fixture(autouse=True)
def asked_anew():
    find_zentorch_obstacle.cache_clear()
    yield
    find_zentorch_obstacle.cache_clear()


def test_zentorch_is_not_even_tried_where_it_ends_the_process(tmp_path, monkeypatch):
    torch_version = torch.__version__.split("+")[0]
    information = tmp_path / f"zentorch-{torch_version}.9.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: zentorch\nVersion: {torch_version}.9\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(zentorch_library, "has_avx512_vnni", lambda: False)
    assert find_zentorch_obstacle() == "needs AVX-512 VNNI, which this processor lacks"


def test_zentorch_must_be_of_the_version_of_torch(tmp_path, monkeypatch):
    information = tmp_path / "zentorch-1.9.0.1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: zentorch\nVersion: 1.9.0.1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    torch_version = torch.__version__.split("+")[0]
    assert find_zentorch_obstacle() == f"1.9.0.1 is built for torch 1.9.0, not {torch_version}"
