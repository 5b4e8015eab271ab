import pytest
import torch

from onevision.model.attend_rows import attend_rows
from onevision.model.attention import attend_last


@pytest.mark.parametrize("window", [None, 4])
def test_rows_together_give_the_bits_of_each_alone(window):
    lengths = [1, 3, 70]
    q = torch.randn(4, len(lengths), 8)
    keys, values = ([torch.randn(2, length, 8) for length in lengths] for _ in range(2))
    together = attend_rows(q, keys, values, window=window)
    for i, (k, v) in enumerate(zip(keys, values, strict=True)):
        alone = attend_last(q[:, i : i + 1], k, v, window=window)
        assert torch.equal(together[:, i : i + 1], alone)
