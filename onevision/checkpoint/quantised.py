"""Contents of a checkpoint -> an error that names its quantisation, if it has one.

Only floating-point weights are read; a quantised tensor has an ordinary name and another meaning.
"""

from collections.abc import Mapping
from typing import Any

from onevision.checkpoint.files import DTYPES, StoredTensor
from onevision.errors import CheckpointError

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
ADVICE = "give the original checkpoint in BF16, F16 or F32; --quantize quantises it as it is loaded"


def refuse_quantised(
    values: Mapping[str, Any],  # Any: foreign JSON
    tensors: Mapping[str, StoredTensor],
    *,
    where: str,
) -> None:
    """Raises CheckpointError for bitsandbytes, GPTQ, AWQ, FP8 and similar files."""
    for name, tensor in tensors.items():
        found = next((kind for mark, kind in MARKS.items() if mark in name), None)
        if tensor.dtype.startswith("F8"):
            found = "FP8"
        if found:
            raise CheckpointError(f"{where}: quantised weights ({found}: {name}); {ADVICE}")
    stated = values.get("quantization_config")
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
