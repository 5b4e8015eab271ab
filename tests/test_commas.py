import pytest

from onevision.commas import join_items, split_items


@pytest.mark.parametrize("items", [["a", "b"], ["/data/x, y", "z"], [",", "a,,b"], []])
def test_items_may_hold_commas(items):
    assert split_items(join_items(items)) == items
