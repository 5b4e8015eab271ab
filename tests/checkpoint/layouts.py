"""Quantised tensors as other programs write them, built number by number from published layouts.

Plain Python on purpose: nothing here is shared with the code that reads them.
"""

import torch

# AutoAWQ's order: place p of a word holds column AWQ_ORDER[p] of its eight.
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def word(numbers, bits):
    """Packs numbers into a signed word of 32 bits, the first in the lowest bits."""
    value = sum(int(number) << bits * place for place, number in enumerate(numbers))
    return value - (1 << 32) if value >= 1 << 31 else value


def packed(rows, bits):
    """Packs each row of numbers, filled up with zeros."""
    each = 32 // bits
    filled = [list(row) + [0] * (-len(row) % each) for row in rows]
    words = [[word(row[i : i + each], bits) for i in range(0, len(row), each)] for row in filled]
    return torch.tensor(words, dtype=torch.int32)


def random_layer(outputs, inputs, group, *, bits=4, seed=0):
    """Returns numbers [N][K], zero points [N][G] and scales [N, G] in bf16."""
    generator = torch.Generator().manual_seed(seed)
    groups = -(-inputs // group)
    numbers = torch.randint(0, 1 << bits, (outputs, inputs), generator=generator).tolist()
    zeros = torch.randint(0, 1 << bits, (outputs, groups), generator=generator).tolist()
    scales = torch.rand(outputs, groups, generator=generator).add(0.1).bfloat16()
    return numbers, zeros, scales


def expected(numbers, zeros, scales, group_of, dtype):
    """Multiplies out, number by number."""
    rows = [
        [
            (number - zeros[n][group_of(k)]) * float(scales[n, group_of(k)])
            for k, number in enumerate(row)
        ]
        for n, row in enumerate(numbers)
    ]
    return torch.tensor(rows, dtype=torch.float64).to(dtype)


def columns(rows):
    """Transposes a list of lists."""
    return [list(column) for column in zip(*rows, strict=True)]


def compressed_tensors(numbers, zeros, scales, *, bits=4, symmetric=False):
    """Returns the tensors of `pack-quantized` by the ends of their names."""
    parts = {
        "weight_packed": packed(numbers, bits),
        "weight_scale": scales,
        "weight_shape": torch.tensor([len(numbers), len(numbers[0])]),
    }
    if not symmetric:  # packed along the outputs
        parts["weight_zero_point"] = packed(columns(zeros), bits).T.contiguous()
    return parts


def awq(numbers, zeros, scales):
    """Returns the tensors of AWQ's gemm layout."""

    def in_order(rows):
        return [
            [row[first + place] for first in range(0, len(row), 8) for place in AWQ_ORDER]
            for row in rows
        ]

    return {
        "qweight": packed(in_order(columns(numbers)), 4),
        "qzeros": packed(in_order(columns(zeros)), 4),
        "scales": scales.T.contiguous(),
    }


def gptq(numbers, zeros, scales, group_of, *, bits=4, version=1):
    """Returns the tensors of GPTQ; its first version stores zero points minus one."""
    largest = (1 << bits) - 1
    stored = [[zero - 1 & largest if version == 1 else zero for zero in row] for row in zeros]
    return {
        "qweight": packed(numbers, bits).T.contiguous(),
        "qzeros": packed(columns(stored), bits),
        "scales": scales.T.contiguous(),
        "g_idx": torch.tensor([group_of(k) for k in range(len(numbers[0]))], dtype=torch.int32),
    }
