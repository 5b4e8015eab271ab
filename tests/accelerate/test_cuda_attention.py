"""A pack in one kernel is each of its samples alone."""

from itertools import accumulate, pairwise

import pytest
import torch

from onevision.accelerate import cuda_packs
from onevision.accelerate.apply import accelerate_training
from onevision.accelerate.cuda_attention import attend_on_cuda
from onevision.accelerate.cuda_packs import attend_packed, attend_varlen
from onevision.batch import Blocks
from onevision.model.attention import attend, attend_by_sample
from onevision.model.llava import LlavaNetwork

LENGTHS = (3, 1, 6, 4)


def branching(length):
    """The mask of a sample whose second half does not see the end of the first."""
    mask = torch.ones(length, length, dtype=torch.bool).tril()
    mask[length // 2 :, length // 2 - 1] = False
    return mask


def pack(*, dtype=torch.float64, device="cpu"):
    shapes = [(1, heads, sum(LENGTHS), 8) for heads in (4, 2, 2)]
    return [torch.randn(s, dtype=dtype, device=device, requires_grad=True) for s in shapes]


def attend_plainly(q, k, v, lengths):
    """What flash attention for variable lengths computes: rows [T, heads, K], cut by lengths."""
    bounds = pairwise(accumulate(lengths, initial=0))
    samples = [[x[a:b].transpose(0, 1)[None] for x in (q, k, v)] for a, b in bounds]
    return torch.cat([attend(*own, is_causal=True)[0].transpose(0, 1) for own in samples])


@pytest.mark.parametrize("masked", [(), (2,), (0, 2), (2, 3, 0), (0, 1, 2, 3)])
def test_samples_of_a_pack_attend_as_they_do_alone(masked):
    masks = tuple(branching(n) if i in masked else None for i, n in enumerate(LENGTHS))
    blocks, (q, k, v) = Blocks(lengths=LENGTHS, masks=masks), pack()
    calls = []

    def count(*given):
        calls.append(given[-1])
        return attend_plainly(*given)

    found = attend_packed(q, k, v, blocks=blocks, attend_samples=count)
    expected = attend_by_sample(attend, q, k, v, blocks=blocks)
    assert torch.allclose(found, expected)
    grad = torch.randn_like(found)
    ours, theirs = (torch.autograd.grad(x, (q, k, v), grad) for x in (found, expected))
    assert all(torch.allclose(a, b) for a, b in zip(ours, theirs, strict=True))
    # All that have no mask, in one call, if there are two or more of them.
    together = [n for i, n in enumerate(LENGTHS) if i not in masked]
    assert [list(lengths) for lengths in calls] == ([together] if len(together) > 1 else [])


def test_torch_takes_the_shapes_and_lengths_of_a_pack():
    q, k, v = (x[0].transpose(0, 1) for x in pack(dtype=torch.bfloat16, device="meta"))
    mixed = attend_varlen(q, k, v, LENGTHS)
    assert (mixed.shape, mixed.dtype) == (q.shape, q.dtype)
    bounds = cuda_packs._boundaries(LENGTHS, torch.device("cpu"))
    assert (bounds.tolist(), bounds.dtype) == ([0, 3, 4, 10, 14], torch.int32)


def test_lengths_met_while_a_loss_is_measured_serve_a_training_step():
    with torch.inference_mode():
        bounds = cuda_packs._boundaries((5, 7, 11), torch.device("cpu"))
    assert not bounds.is_inference()


def test_a_network_trains_on_a_gpu_with_packs_in_one_kernel(micro_config):
    network = accelerate_training(LlavaNetwork(micro_config), device=torch.device("cuda"))
    attention = network.language_model.blocks[0].attention
    assert attention.attend is attend_on_cuda


@pytest.mark.parametrize("mask", [None, branching(14)[None, None]])
def test_rows_that_are_no_packs_attend_plainly(mask):
    q, k, v = pack()
    found = attend_on_cuda(q, k, v, mask=mask, is_causal=mask is None)
    assert torch.equal(found, attend(q, k, v, mask=mask, is_causal=mask is None))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("masked", [(), (1,)])
def test_a_pack_on_a_gpu_has_the_attention_and_gradients_of_its_samples(masked):
    masks = tuple(branching(n).cuda() if i in masked else None for i, n in enumerate(LENGTHS))
    blocks = Blocks(lengths=LENGTHS, masks=masks)
    q, k, v = pack(dtype=torch.bfloat16, device="cuda")
    found = attend_on_cuda(q, k, v, mask=blocks)
    expected = attend_by_sample(attend, q.float(), k.float(), v.float(), blocks=blocks)
    assert (found - expected).abs().max() < 2**-6
    found.float().square().sum().backward()
    theirs = torch.autograd.grad(expected.square().sum(), (q, k, v))
    for ours, other in zip((q, k, v), theirs, strict=True):
        assert ours.grad is not None
        assert (ours.grad - other).abs().max() <= 0.05 * other.abs().max()
