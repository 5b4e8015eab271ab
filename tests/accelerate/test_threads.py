"""How many threads are taken: what the user says, or what is fastest."""

import pytest
import torch

from onevision.accelerate import threads


@pytest.fixture(autouse=True)
def _restore():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("slowdown", "taken"), [({2: 0.1, 4: 0.1}, 1), ({2: 1.9, 4: 1.95}, 2)])
def test_the_fastest_number_is_taken(monkeypatch, slowdown, taken):
    monkeypatch.delenv(threads.VARIABLE, raising=False)
    monkeypatch.setattr(threads, "measure_speed", lambda count: 100 * slowdown.get(count, 1.0))
    torch.set_num_threads(4)
    assert threads.choose_threads() == taken == torch.get_num_threads()


def test_a_number_that_the_user_set_stays(monkeypatch):
    monkeypatch.setenv(threads.VARIABLE, "2")
    torch.set_num_threads(2)
    assert threads.choose_threads() == 2


def test_a_speed_is_measured_with_that_many_threads():
    assert threads.measure_speed(1) > 0
    assert torch.get_num_threads() == 1
