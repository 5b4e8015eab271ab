"""Names of what answers (weights, code, dtype, device) and of its answers."""

import hashlib
import secrets

from onevision import __version__
from onevision.accelerate.packed import named_tensors
from onevision.generate.engine import Engine


def fingerprint(engine: Engine) -> str:
    """Hashes what answers: the code's version, and shape, type and a sample of every weight.

    It reads the modules that the engine runs, so a quantised decoder changes it.
    """
    digest = hashlib.sha256(__version__.encode())
    network, decoder = engine.reader.network, engine.writer.decoder
    own = () if decoder is network.language_model else (decoder,)
    for part in (network, *own):
        for name, tensor in named_tensors(part):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} {tensor.device}".encode())
            flat = tensor.flatten()
            step = max(1, flat.numel() // 64)
            digest.update(flat[::step].float().cpu().numpy().tobytes())
    return f"fp_{digest.hexdigest()[:12]}"


def new_number() -> str:
    """Return a number that no two answers share."""
    return secrets.token_hex(12)
