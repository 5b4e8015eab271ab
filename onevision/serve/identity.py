"""Names of what answers (weights, code, dtype, device) and of its answers."""

import hashlib
import secrets

from onevision import __version__
from onevision.accelerate.packed import named_tensors
from onevision.generate.answer import Model


def fingerprint(model: Model) -> str:
    """Name what answers: weights (samples of every tensor), code, dtype and device."""
    digest = hashlib.sha256(__version__.encode())
    for part in filter(None, (model.network, model.writer)):
        for name, tensor in named_tensors(part):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} {tensor.device}".encode())
            flat = tensor.flatten()
            step = max(1, flat.numel() // 64)
            digest.update(flat[::step].float().cpu().numpy().tobytes())
    return f"fp_{digest.hexdigest()[:12]}"


def new_number() -> str:
    """Return a number that no two answers share."""
    return secrets.token_hex(12)
