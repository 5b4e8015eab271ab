"""A language model in GGUF, which the tests write themselves."""

import pytest

from tests.checkpoint.toy_gguf import write


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """The file and its numbers; its tests skip where the package `gguf` is absent."""
    pytest.importorskip("gguf")
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    return path, write(path)
