"""Tensors of a checkpoint, some of them quantised -> the same by the names of their weights.

What a file holds in place of a weight, integers and scales, becomes one `QuantisedTensor` with the
weight's own name. Kinds of files that are not read are refused by their names; a tensor that no
weight takes keeps its name, so that it is reported as unexpected.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onevision.checkpoint.files import DTYPES, StoredTensor
from onevision.checkpoint.kinds import Values
from onevision.checkpoint.quantised_formats import QuantisedTensor
from onevision.checkpoint.quantised_schemes import (
    ADVICE,
    Scheme,
    find_quantization,
    read_scheme,
    unsupported,
)
from onevision.errors import CheckpointError

Tensors = dict[str, StoredTensor]
# Parts of tensor names that only one kind of quantised file has.
MARKS = {
    ".SCB": "bitsandbytes",
    ".absmax": "bitsandbytes",
    ".quant_map": "bitsandbytes",
    ".quant_state.": "bitsandbytes",
    ".qweight": "GPTQ or AWQ",
    ".qzeros": "GPTQ or AWQ",
    ".weight_packed": "compressed-tensors",
    ".weight_scale": "FP8",
    ".input_scale": "FP8",
}
# The ends of the names of a weight's parts: the first stands for the weight; the others must be
# there, or may be.
NEEDED: Mapping[str, tuple[str, ...]] = {
    "int-quantized": ("weight", "weight_scale"),
    "pack-quantized": ("weight_packed", "weight_scale", "weight_shape"),
    "awq": ("qweight", "qzeros", "scales"),
    "gptq": ("qweight", "qzeros", "scales"),
    "gptq_v2": ("qweight", "qzeros", "scales"),
}
OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "pack-quantized": ("weight_zero_point", "weight_g_idx"),
    "gptq": ("g_idx",),
    "gptq_v2": ("g_idx",),
}
INTEGERS = {"int-quantized": "I8"}


@dataclass(frozen=True, kw_only=True)
class QuantisedContents:
    """A checkpoint's tensors by the names of their weights, and how the quantised are stored."""

    tensors: Tensors
    scheme: Scheme | None


def read_quantised(
    values: Values, tensors: Mapping[str, StoredTensor], *, beside: Values, where: str
) -> QuantisedContents:
    """Joins the parts of quantised weights; reads no weights.

    `beside` is GPTQ's quantize_config.json, if there is one. Raises CheckpointError for a kind of
    file that is not read, and for parts that are missing or do not fit each other.
    """
    stated = find_quantization(values) or beside or None
    if stated is None:
        refuse_quantised(values, tensors, where=where)
        return QuantisedContents(tensors=dict(tensors), scheme=None)
    scheme = read_scheme(stated, where=where)
    first, *others = NEEDED[scheme.storage]
    integers = INTEGERS.get(scheme.storage, "I32")
    layers = [
        name.removesuffix(first)
        for name, tensor in tensors.items()
        if name.endswith(f".{first}") and tensor.dtype == integers
    ]
    if not layers:
        raise CheckpointError(
            f"{where}: config.json says that the weights are quantised ({scheme.describe()}), but "
            f"no tensor is; {ADVICE}, or remove the key if the weights are not"
        )
    joined = dict(tensors)
    dtype = _plain_dtype(tensors, where=where)
    for layer in layers:
        if absent := [end for end in others if layer + end not in tensors]:
            raise CheckpointError(
                f"{where}: {layer}{absent[0]} is missing beside {layer}{first}; download or copy "
                "the checkpoint again"
            )
        ends = (first, *others, *OPTIONAL.get(scheme.storage, ()))
        parts = {end: joined.pop(layer + end) for end in ends if layer + end in tensors}
        joined[f"{layer}weight"] = _join(parts, scheme, dtype=dtype, where=where)
    return QuantisedContents(tensors=joined, scheme=scheme)


def refuse_quantised(
    values: Mapping[str, Any],  # Any: foreign JSON
    tensors: Mapping[str, StoredTensor],
    *,
    where: str,
) -> None:
    """Raises CheckpointError for quantised files of every kind."""
    for name, tensor in tensors.items():
        found = next((kind for mark, kind in MARKS.items() if mark in name), None)
        if tensor.dtype.startswith("F8"):
            found = "FP8"
        if found:
            raise unsupported(f"{found}: {name}", where=where)
    stated = find_quantization(values)
    if stated:
        kind = stated.get("quant_method") if isinstance(stated, dict) else stated
        raise CheckpointError(
            f"{where}: config.json says that the weights are quantised (quantization_config: "
            f"{kind}); {ADVICE}, or remove the key if the weights are not"
        )


def check_dtype(tensor: StoredTensor, *, where: str) -> None:
    """Raises CheckpointError for a tensor of whole numbers or truth values."""
    if tensor.dtype not in DTYPES:
        raise CheckpointError(
            f"{where}: tensor {tensor.name} is {tensor.dtype}; expected "
            f"{', '.join(DTYPES)}: {ADVICE}"
        )


def _plain_dtype(tensors: Mapping[str, StoredTensor], *, where: str) -> str:
    """Returns the type of the largest tensor of plain numbers, the embedding."""
    plain = [t for t in tensors.values() if t.dtype in DTYPES and len(t.shape) > 1]
    if not plain:
        raise CheckpointError(f"{where}: no tensor holds plain numbers; the embedding is missing")
    return max(plain, key=lambda tensor: math.prod(tensor.shape)).dtype


def _join(
    parts: Mapping[str, StoredTensor], scheme: Scheme, *, dtype: str, where: str
) -> QuantisedTensor:
    """Returns the weight that `parts` store, whose shapes and types must fit each other."""
    key = next(iter(parts))
    outputs, inputs = _read_shape(parts, scheme, where=where)
    num_groups = -(-inputs // (scheme.group or inputs))
    for end, shape in _expected_shapes(scheme, outputs, inputs, num_groups).items():
        if end not in parts:
            continue
        found = parts[end].shape
        if found != shape and not (end == "weight_scale" and (*found, 1) == shape):
            raise CheckpointError(
                f"{where}: tensor {parts[end].name} is {list(found)}; expected {list(shape)} for "
                f"a weight of {outputs} x {inputs} in {scheme.describe()}"
            )
    _check_parts(parts, scheme, num_groups=num_groups, where=where)
    return QuantisedTensor(
        path=parts[key].path,
        name=parts[key].name,
        shape=(outputs, inputs),
        num_bytes=outputs * inputs * DTYPES[dtype].itemsize,
        dtype=dtype,
        parts=dict(parts),
        scheme=scheme,
    )


def _read_shape(
    parts: Mapping[str, StoredTensor], scheme: Scheme, *, where: str
) -> tuple[int, int]:
    """Returns outputs and inputs of a weight."""
    first = next(iter(parts.values()))
    if len(first.shape) != 2 or 0 in first.shape:
        raise CheckpointError(
            f"{where}: tensor {first.name} is {list(first.shape)}; expected two axes"
        )
    rows, columns = first.shape
    each = 32 // scheme.bits
    match scheme.storage:
        case "int-quantized":
            return rows, columns
        case "awq":
            return columns * each, rows
        case "pack-quantized":
            shape = parts["weight_shape"]
            if shape.shape != (2,) or shape.dtype not in ("I64", "I32"):
                raise CheckpointError(
                    f"{where}: tensor {shape.name} is {shape.dtype} {list(shape.shape)}; expected "
                    "two whole numbers"
                )
            outputs, inputs = map(int, shape.read())
            return outputs, max(1, inputs)
        case "gptq" | "gptq_v2":
            return columns, rows * each


def _expected_shapes(
    scheme: Scheme, outputs: int, inputs: int, num_groups: int
) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each part by the end of its name."""
    each = 32 // scheme.bits
    if scheme.storage == "int-quantized":
        return {"weight_scale": (outputs, 1)}
    if scheme.storage == "pack-quantized":
        return {
            "weight_packed": (outputs, -(-inputs // each)),
            "weight_scale": (outputs, num_groups),
            "weight_zero_point": (-(-outputs // each), num_groups),
            "weight_g_idx": (inputs,),
        }
    return {
        "qzeros": (num_groups, -(-outputs // each)),
        "scales": (num_groups, outputs),
        "g_idx": (inputs,),
    }


def _check_parts(
    parts: Mapping[str, StoredTensor], scheme: Scheme, *, num_groups: int, where: str
) -> None:
    """Raises CheckpointError for parts of the wrong type, and for those that are missing."""
    for end in ("weight_scale", "scales"):
        if end in parts:
            check_dtype(parts[end], where=where)
    if scheme.storage == "pack-quantized":
        if not scheme.symmetric and "weight_zero_point" not in parts:
            first = next(iter(parts.values())).name
            raise CheckpointError(
                f"{where}: weight_zero_point is missing beside {first}; download or copy the "
                "checkpoint again"
            )
        if scheme.ordered and "weight_g_idx" not in parts:
            raise unsupported(f"{scheme.describe()} in act-order without weight_g_idx", where=where)
    if (numbers := parts.get("g_idx", parts.get("weight_g_idx"))) is not None:
        low, high = numbers.read().aminmax()
        if low < 0 or high >= num_groups:
            raise CheckpointError(
                f"{where}: tensor {numbers.name} names group {int(high if low >= 0 else low)}; "
                f"expected 0 to {num_groups - 1}"
            )
