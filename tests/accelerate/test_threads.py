"""How many threads are taken: what the user says, or what is fastest."""

import pytest
import torch

from onevision.accelerate import threads
from tests.cli.conftest import run


@pytest.fixture(autouse=True)
def _restore():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("slowdown", "taken"), [({2: 0.1, 4: 0.1}, 1), ({2: 1.9, 4: 1.95}, 2)])
def test_the_fastest_number_is_taken(monkeypatch, slowdown, taken):
    monkeypatch.delenv(threads.VARIABLE, raising=False)
    monkeypatch.setattr(threads, "measure_speed", lambda n, seconds: 100 * slowdown.get(n, 1.0))
    torch.set_num_threads(4)
    assert threads.choose_threads() == taken == torch.get_num_threads()


@pytest.mark.parametrize(
    ("most", "counts"), [(2, [1, 2]), (4, [1, 2, 4]), (6, [1, 2, 4, 6]), (16, [1, 2, 4, 8, 16])]
)
def test_all_cores_are_among_what_is_tried(most, counts):
    assert threads.list_counts(most) == counts


@pytest.mark.parametrize("said", [("ask", "Hi", "--max-new-tokens", "1"), ("doctor",)])
def test_a_command_that_answers_takes_the_fastest(monkeypatch, said):
    """Beside other work, where the second thread is waited for."""
    monkeypatch.delenv(threads.VARIABLE, raising=False)
    monkeypatch.setattr(threads, "measure_speed", lambda n, seconds: 100 / n)
    torch.set_num_threads(2)
    done = run(*said)
    assert done.returncode == 0, done.stderr
    assert torch.get_num_threads() == 1
    if said == ("doctor",):
        assert "1 thread of 2" in done.stdout


def test_a_number_that_the_user_set_stays(monkeypatch):
    monkeypatch.setenv(threads.VARIABLE, "2")
    torch.set_num_threads(2)
    assert threads.choose_threads() == 2


def test_a_speed_is_measured_with_that_many_threads():
    assert threads.measure_speed(1, seconds=0.01) > 0
    assert torch.get_num_threads() == 1
