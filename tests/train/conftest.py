"""A place that forks training runs, and a mixture for them."""

import pytest

from tests.data.conftest import mixture_file  # noqa: F401
from tests.train.runs import Nursery


@pytest.fixture(scope="session")
def nursery(tmp_path_factory):
    """Forks short runs; none outlives the session."""
    logs = tmp_path_factory.mktemp("logs")
    with Nursery(logs=logs) as nursery:
        yield nursery
